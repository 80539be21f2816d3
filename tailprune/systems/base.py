"""What every diffusion transformer here is: a condition vector, and blocks that see `x` and `c` alone.

    c = condition(t, inputs)        out = forward(x, c)

Pruning is an edit of `c` between the two. What the blocks take of `c`, their modulations, depends on nothing else, so
that a sampler may have them made before `x` is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.spec.families import FAMILIES, Family
from tailprune.systems.config import TransformerConfig
from tailprune.systems.infer import Shapes
from tailprune.systems.layers import FinalLayer, Modulated, unpatchify
from tailprune.systems.readers import Directions, KeptComponents, TimeColumns

__all__ = ["Condition", "Inputs", "Modulations", "System"]

Inputs = Mapping[str, Tensor]
"""What a sample is conditioned on, B rows each: `{"labels": (B,)}` for the label models."""

Modulations = Sequence[Tensor]
"""Shifts, scales and gates of every block in turn, then of the final layer, with shape (B, parts, d) each."""


class Condition(nn.Module, ABC):
    """The part of a system that makes condition vectors, `c = time part + input part`.

    It stands on its own so that statistics of `c` need no block of the network (see `tailprune.condition_table`).
    """

    condition_dim: int
    takes_guidance: ClassVar[bool] = False
    """Whether the guidance scale is an input, `scale`, of the network itself, which is then not guided besides."""

    @abstractmethod
    def check_inputs(self, inputs: Inputs) -> None:
        """Raises InputError where `inputs` are not what this condition takes, such as a label that is no class."""

    @abstractmethod
    def all_inputs(self) -> Inputs:
        """Inputs of every class, in order of their labels: the population that statistics are taken over.

        Raises InputError for a system that has no classes: its population has to be given.
        """

    @abstractmethod
    def embed_time(self, t: Tensor) -> Tensor:
        """The time part. t, with shape (B,), in the system's own time -> (B, d)."""

    @abstractmethod
    def embed_inputs(self, inputs: Inputs) -> Tensor:
        """The input part (label, pose or video). Inputs of B samples -> (B, d)."""

    @abstractmethod
    def null_inputs(self, count: int) -> Inputs:
        """Inputs that stand for "no condition", the other branch of classifier-free guidance."""

    def condition(self, t: Tensor, inputs: Inputs) -> Tensor:
        """The condition vectors `c`. t, with shape (B,), and inputs of B samples -> (B, d)."""
        return self.embed_time(t) + self.embed_inputs(inputs)

    def time_columns_at(self, t: Tensor) -> Tensor | None:
        """Columns of time that stand beside c in some compacted systems. t, with shape (B,) -> (B, rho); else None."""
        return None


class System(Condition):
    """A diffusion transformer: an architecture family, with or without weights."""

    family: ClassVar[str]
    facts: ClassVar[Family]
    """What `tailprune.spec.families` has of the family: its times, its samplers, what it predicts."""
    config_class: ClassVar[type[TransformerConfig]]
    buffer_names: ClassVar[tuple[str, ...]] = ()
    """In the names of its tensors that are not counted as parameters."""
    config: TransformerConfig
    latent_shape: tuple[int, int, int]
    """Channels, height and width of a sample."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    patch_size: int
    final_layer: FinalLayer
    precision: torch.dtype = torch.float32
    """What the blocks compute in. The condition, AdaLN and the embedding of patches stay in float32."""
    compiled: Callable[[Tensor, Modulations], Tensor] | None = None
    """What samplers run in place of `forward_modulated` (see `tailprune.sampling.network`)."""
    reader: KeptComponents | Directions | None
    """What AdaLN reads of c in a compacted system (see `tailprune.compaction`); None in a full one."""
    time_columns: TimeColumns | None
    """What stands beside c there, where removed components are at their mean."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "family" in vars(cls):
            cls.facts = FAMILIES[cls.family]

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_shape, self.grid = config.latent_shape, config.grid
        self.register_module("reader", None)
        self.register_module("time_columns", None)

    def condition(self, t: Tensor, inputs: Inputs) -> Tensor:
        """What `forward` takes: c, with shape (B, d), and beside it columns of time where the system has them."""
        c, columns = super().condition(t, inputs), self.time_columns_at(t)
        return c if columns is None else torch.cat([c, columns], dim=-1)

    def time_columns_at(self, t: Tensor) -> Tensor | None:
        return None if self.time_columns is None else self.time_columns(t)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x, with shape (B, C, H, W), and c, as `condition` makes it -> what the official forward returns."""
        return self.forward_modulated(x, self.modulations(c))

    @abstractmethod
    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        """As `forward`, given what `modulations` makes of c."""

    def to_latents(self, patches: Tensor) -> Tensor:
        """The prediction for every pixel of the latents. patches, with shape (B, N, p * p * C) -> (B, C, H, W)."""
        out = unpatchify(patches.float(), self.patch_size, self.grid)
        return out[:, : self.latent_shape[0]] if self.facts.prediction == "velocity" else out

    @property
    @abstractmethod
    def all_blocks(self) -> Sequence[Modulated]:
        """The blocks in the order in which they run."""

    @property
    def modulated(self) -> Sequence[Modulated]:
        """The layers that AdaLN shifts, scales and gates: the blocks and the final layer."""
        return [*self.all_blocks, self.final_layer]

    def read(self, c: Tensor) -> Tensor:
        """What AdaLN reads of c: SiLU(c), with shape (B, d), or less of it in a compacted system."""
        return F.silu(c) if self.reader is None else self.reader(c)

    def modulations(self, c: Tensor) -> Modulations:
        """What AdaLN makes of c for each block and the final layer. c: as `condition` makes it."""
        read = self.read(c)
        return [layer.adaLN_modulation(read).to(self.precision) for layer in self.modulated]

    def compute_in(self, precision: torch.dtype) -> None:
        """Has the blocks compute in float32 or bfloat16, and converts their weights."""
        for layer in self.modulated:
            for name, part in layer.named_children():
                if name != "adaLN_modulation":
                    part.to(precision)
        self.precision = precision

    # Checkpoints

    def metadata_arguments(self) -> dict[str, int | float]:
        """What names and shapes of the tensors may leave open, for a file's metadata."""
        return {name: getattr(self.config, name) for name in self.config.metadata_fields}

    @classmethod
    @abstractmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        """The condition part alone, as the shapes of a checkpoint's tensors have it."""

    @classmethod
    @abstractmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> TransformerConfig:
        """The configuration, read off the names and shapes of a checkpoint's tensors.

        Raises KeyError for a tensor that it needs, and ValueError where they do not determine an argument that was
        not given (the number of heads, mostly).
        """

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        """The class that reads these tensors, where the family has several."""
        return cls

    @classmethod
    def looks_published(cls, config: Any, left_out: Sequence[str]) -> bool:
        """Whether the family's published files look so: it goes before families that have the same tensors and do not.

        config: the configuration read off a file. left_out: its tensors that only training used.
        """
        return True

    @classmethod
    def canonical_names(cls, names: Iterable[str]) -> dict[str, str]:
        """What the tensors of a file are called here, by their names in the file."""
        return {name: name for name in names}

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        """Whether sampling never reads this tensor: it is accepted in a file, and not loaded."""
        return False
