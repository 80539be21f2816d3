"""The interface of every diffusion transformer: a condition vector, and blocks that read only `x` and `c`.

    c = condition(t, inputs)        out = forward(x, c)

The official code has one `forward(x, t, y)`; here it is in two parts, and pruning is an edit of `c` between them. The
modulations (shifts, scales and gates) depend on `c` alone, so a sampler can compute them before it has `x`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from tailprune.arguments import as_times
from tailprune.spec import InputError
from tailprune.spec.display import Shown
from tailprune.spec.families import FAMILIES, Family
from tailprune.spec.prune import layers_of
from tailprune.systems.config import TransformerConfig
from tailprune.systems.infer import Shapes
from tailprune.systems.layers import FinalLayer, Modulated, unpatchify
from tailprune.systems.readers import KEPT, Directions, KeptComponents, TimeColumns

__all__ = ["Condition", "Inputs", "InputsLike", "Modulations", "System"]

Inputs = Mapping[str, Tensor]
"""What B samples are conditioned on, tensors of B rows by name: `{"labels": (B,)}` for the label models."""

InputsLike = Mapping[str, Tensor | ArrayLike]
"""Inputs as callers may give them: arrays and lists in place of tensors, too."""

Modulations = Sequence[Tensor]
"""Shifts, scales and gates of every block in turn, then of the final layer, with shape (B, parts, d) each."""


class Condition(nn.Module, ABC):
    """The part of a system that computes condition vectors, `c = time part + input part`.

    It can be loaded without the blocks, so that statistics of `c` need no network (see `tailprune.condition_table`).
    """

    condition_dim: int
    null_condition: bool = True
    """Whether it has a null condition, which classifier-free guidance needs."""
    takes_guidance: ClassVar[bool] = False
    """Whether the network takes the guidance scale as an input, `scale`, instead of being guided by the sampler."""

    @abstractmethod
    def check_inputs(self, inputs: InputsLike) -> Inputs:
        """The inputs as tensors. Raises InputError if this condition does not take them, such as a label out of range.

        inputs: tensors, arrays or lists of B rows by name
        """

    @abstractmethod
    def all_inputs(self) -> Inputs:
        """Inputs of every class, in order of their labels: the population that statistics are taken over.

        Raises InputError for a system that has no classes: its callers have to give a population.
        """

    @abstractmethod
    def embed_time(self, t: Tensor) -> Tensor:
        """The time part. t, with shape (B,), in the system's own time -> (B, d). Raises InputError for no numbers."""

    @abstractmethod
    def embed_inputs(self, inputs: InputsLike) -> Tensor:
        """The input part (label, pose or video). Inputs of B samples, or null inputs -> (B, d).

        Raises InputError for any other inputs.
        """

    @abstractmethod
    def null_inputs(self, count: int) -> Inputs:
        """Inputs of `count` samples without a condition, for the unconditional branch of classifier-free guidance.

        Raises InputError for a system without a null condition.
        """

    def condition(self, t: Tensor | float, inputs: InputsLike) -> Tensor:
        """The condition vectors `c`. t, with shape (B,) or a number for all, and inputs of B samples -> (B, d).

        Raises InputError for inputs or times that do not fit.
        """
        times, part = self.check_times(t), self.embed_inputs(inputs)
        if len(times) == 1:
            times = times.expand(len(part))
        if len(times) != len(part) and len(part) != 1:
            raise InputError(f"give one time for each input, or one for all: there are {len(times)} and {len(part)}")
        return self.embed_time(times) + part

    def check_times(self, t: Tensor | float) -> Tensor:
        """Times as a tensor with shape (B,), on the condition's device.

        t: times with any shape, or a single number

        Raises InputError for anything but finite numbers.
        """
        return as_times(t).to(next(self.parameters()).device)

    def time_columns_at(self, t: Tensor) -> Tensor | None:
        """The columns of time of some compacted systems; None for others. t, with shape (B,) -> (B, rho)."""
        return None


class System(Condition, Shown):
    """A diffusion transformer: an architecture family, with or without weights."""

    family: ClassVar[str]
    facts: ClassVar[Family]
    """The family's entry in `tailprune.spec.families`: its times, its samplers, what it predicts."""
    config_class: ClassVar[type[TransformerConfig]]
    buffer_names: ClassVar[tuple[str, ...]] = ()
    """Parts of the names of tensors that do not count as parameters."""
    config: TransformerConfig
    latent_shape: tuple[int, int, int]
    """Channels, height and width of a sample."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    patch_size: int
    final_layer: FinalLayer
    precision: torch.dtype = torch.float32
    """The precision of the blocks. The condition, AdaLN and the embedding of patches stay in float32."""
    compiled: Callable[[Tensor, Modulations], Tensor] | None = None
    """A compiled network that samplers run in place of `forward_modulated` (see `tailprune.sampling.network`)."""
    reader: KeptComponents | Directions | None
    """What AdaLN reads of c in a compacted system (see `tailprune.compaction`); None in a full one."""
    time_columns: TimeColumns | None
    """The columns of time of a compacted system that fills components with their mean; else None."""

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

    def condition(self, t: Tensor | float, inputs: InputsLike) -> Tensor:
        """The `c` that `forward` takes. t and inputs as in `Condition` -> (B, d); (B, d + rho) with columns of time."""
        t = self.check_times(t)
        c, columns = super().condition(t, inputs), self.time_columns_at(t)
        return c if columns is None else torch.cat([c, columns.expand(len(c), -1)], dim=-1)

    def check_times(self, t: Tensor | float) -> Tensor:
        """As in `Condition`. Raises InputError for times outside the family's range, too."""
        times = super().check_times(t)
        for time in (times.min().item(), times.max().item()) if len(times) else ():
            if (fault := self.facts.check_range(time)) is not None:
                raise InputError(fault)
        return times

    def shown(self) -> dict[str, Any]:
        counted = (tensor.numel() for name, tensor in self.state_dict().items() if not self._is_buffer(name))
        facts = {
            "family": self.family,
            "size": self.config.size,
            "parameters": sum(counted),
            "condition_dim": self.condition_dim,
            "latent_shape": self.latent_shape,
            "classes": getattr(self, "num_classes", None),
            "reads": None if self.reader is None else str(self.reader),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _is_buffer(self, name: str) -> bool:
        """Whether a tensor of the state does not count as parameters."""
        return any(part in name for part in (KEPT, *self.buffer_names))

    def time_columns_at(self, t: Tensor) -> Tensor | None:
        return None if self.time_columns is None else self.time_columns(t)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The prediction. x, with shape (B, C, H, W), and c, from `condition` -> what the official forward returns."""
        return self.forward_modulated(x, self.modulations(c))

    @abstractmethod
    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        """As `forward`, from x and `modulations(c)`."""

    def to_latents(self, patches: Tensor) -> Tensor:
        """Patches as latents; a velocity keeps C channels. patches, with shape (B, N, p * p * C) -> (B, C, H, W)."""
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

    def layers_of(self, blocks: Sequence[int | Literal["final"]] | None) -> list[bool]:
        """Which layers of `modulated` are among these blocks.

        blocks: numbers of `all_blocks`, counted from 0, and `final`, the final layer; None for all

        Raises InputError for a block that the system does not have.
        """
        return layers_of(blocks, len(self.all_blocks))

    def read(self, c: Tensor) -> Tensor:
        """What AdaLN reads of c: SiLU(c), with shape (B, d); fewer columns in a compacted system."""
        return F.silu(c) if self.reader is None else self.reader(c)

    def modulations(self, c: Tensor) -> Modulations:
        """The shifts, scales and gates of each block, then of the final layer, from c as `condition` returns it."""
        read = self.read(c)
        return [layer.adaLN_modulation(read).to(self.precision) for layer in self.modulated]

    def compute_in(self, precision: torch.dtype) -> None:
        """Set the precision of the blocks, float32 or bfloat16, and convert their weights.

        Raises InputError for another precision.
        """
        if precision not in (torch.float32, torch.bfloat16):
            raise InputError(f"the blocks compute in torch.float32 or torch.bfloat16, not in {precision!r}")
        for layer in self.modulated:
            for name, part in layer.named_children():
                if name != "adaLN_modulation":
                    part.to(precision)
        self.precision = precision

    # Checkpoints

    def metadata_arguments(self) -> dict[str, int | float]:
        """The fields of the configuration that names and shapes of tensors may not determine, for a file's metadata."""
        return {name: getattr(self.config, name) for name in self.config.metadata_fields}

    @classmethod
    @abstractmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        """The condition part alone, built from the shapes of a checkpoint's tensors.

        given: values for what the shapes do not determine, such as `time_gaps`
        """

    @classmethod
    @abstractmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> TransformerConfig:
        """The configuration, read from the names and shapes of a checkpoint's tensors.

        given: values for what names and shapes do not determine, such as `num_heads`

        Raises KeyError for a missing tensor, InputError if an argument is neither given nor determined by the tensors.
        """

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        """The class that reads these tensors, for a family of several classes."""
        return cls

    @classmethod
    def canonical_names(cls, names: Iterable[str]) -> dict[str, str]:
        """The names of tensors in this package, by their names in the file."""
        return {name: name for name in names}

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        """Whether only training uses this tensor: a file may have it, and it is not loaded."""
        return False
