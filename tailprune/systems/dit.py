"""DiT (arXiv 2212.09748), and what others made of its network: SiT, REPA and MG.

    c = t_embedder(t) + y_embedder(label);   tokens = patches(x) + positions;   blocks(tokens, c);   final layer

DiT predicts noise and, in further channels, the variance; its t runs from 999 (noise) to 0. The others predict the
velocity of the linear path. SiT's t (arXiv 2401.08740) runs from 0 (noise) to 1 (data), and it drops further channels.
REPA (arXiv 2410.06940) and MG (arXiv 2502.12154) run from 1 (noise) to 0 (data) and add up their steps in float64;
MG's guidance is trained into it, for one scale or, where it has an `s_embedder`, for the scale it is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.systems.base import Condition, Inputs, Modulations, System
from tailprune.systems.infer import Shapes, block_count, dimensions
from tailprune.systems.labels import LabelCondition, LabelTransformer
from tailprune.systems.layers import Attention, Block, FinalLayer, Modulated, TimestepEmbedder

__all__ = ["MG", "REPA", "ConditionOfBlocks", "DiT", "DiTOfBlocks", "ScaleAwareMG", "SiT"]

FIRST_EMBEDDERS = "embedders.0."
"""Before the names of the first block's embedders, where every block has its own."""


class DiT(LabelTransformer):
    """The diffusion transformer of arXiv 2212.09748; forward returns noise and variance, 2 C channels.

    qk_norm: queries and keys are normalised head by head. time_gaps and mlp_norm_eps: where diffusers departs from
    the published code, its frequencies of time and the epsilon before the MLP.
    """

    family = "dit"

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        num_classes: int,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = True,
        qk_norm: bool = False,
        time_gaps: int = 0,
        mlp_norm_eps: float = 1e-6,
    ) -> None:
        super().__init__(
            input_size=input_size,
            patch_size=patch_size,
            in_channels=in_channels,
            hidden_size=hidden_size,
            num_classes=num_classes,
            time_gaps=time_gaps,
        )
        mlp_hidden = round(hidden_size * mlp_ratio)
        norm = nn.LayerNorm if qk_norm else None
        self.blocks = nn.ModuleList(
            Block(hidden_size, Attention(hidden_size, num_heads, norm), mlp_hidden, mlp_norm_eps) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size, in_channels * (2 if learn_sigma else 1))

    @property
    def stack(self) -> Sequence[Modulated]:
        return list(self.blocks)  # type: ignore[arg-type]

    def run_stack(self, tokens: Tensor, modulations: Modulations) -> Tensor:
        for block, modulation in zip(self.blocks, modulations, strict=True):
            tokens = block(tokens, modulation)
        return tokens

    def metadata_arguments(self) -> dict[str, int | float]:
        gaps = next(part.gaps for part in self.modules() if isinstance(part, TimestepEmbedder))
        eps = next(part.norm2.eps for part in self.modules() if isinstance(part, Block))
        return super().metadata_arguments() | {"time_gaps": gaps, "mlp_norm_eps": eps}

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        return DiTOfBlocks if any(name.startswith(FIRST_EMBEDDERS) for name in shapes) else cls

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> dict[str, Any]:
        mlp_hidden, hidden = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
        found = cls.infer_grid(shapes, "blocks.0", **given)
        found |= {name: given[name] for name in ("time_gaps", "mlp_norm_eps") if name in given}
        return found | {
            "depth": block_count(shapes),
            "mlp_ratio": mlp_hidden / hidden,
            "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        }


class SiT(DiT):
    """The scalable interpolant transformer of arXiv 2401.08740; forward returns the velocity, C channels."""

    family = "sit"


class REPA(SiT):
    """A SiT trained with its features aligned to an image encoder's (arXiv 2410.06940); t = 1 is noise, 0 data.

    The projectors onto the encoder's features serve training alone. Old files name the blocks after the aligned one
    `decoder_blocks.N`.
    """

    family = "repa"

    @classmethod
    def canonical_names(cls, names: Iterable[str]) -> dict[str, str]:
        names = list(names)
        encoder_depth = block_count(dict.fromkeys(names, ()))
        return {
            name: re.sub(r"^decoder_blocks\.(\d+)", lambda found: f"blocks.{int(found[1]) + encoder_depth}", name)
            for name in names
        }

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        return name.startswith("projectors.")


class ScaleAwareCondition(LabelCondition):
    """`c = t_embedder(t) + s_embedder(scale) + y_embedder(label)`: the network is told how strongly it is guided.

    Inputs are labels and, with shape (B,), `scale`; 1, a plain conditional network, where there is none.
    """

    takes_guidance = True

    def __init__(self, *, hidden_size: int, num_classes: int, time_gaps: int = 0) -> None:
        super().__init__(hidden_size=hidden_size, num_classes=num_classes, time_gaps=time_gaps)
        self.s_embedder = TimestepEmbedder(hidden_size)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        scale = inputs.get("scale")
        if scale is None:
            scale = torch.ones(len(inputs["labels"]), device=self._device)
        return super().embed_inputs(inputs) + self.s_embedder(scale)


class MG(SiT):
    """A SiT with its guidance trained into it (arXiv 2502.12154), sampled unguided; t = 1 is noise, 0 data."""

    family = "mg"

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        return ScaleAwareMG if "s_embedder.mlp.0.weight" in shapes else MG


class ScaleAwareMG(MG, ScaleAwareCondition):
    """An MG that is told its scale, and not guided besides."""

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        return ScaleAwareCondition(hidden_size=dim, num_classes=rows - 1)


class ConditionOfBlocks(LabelCondition):
    """The conditions of several blocks side by side, each with embedders of its own -> (B, blocks x d)."""

    def __init__(self, *, depth: int, hidden_size: int, num_classes: int, time_gaps: int = 0) -> None:
        nn.Module.__init__(self)
        self.num_classes = num_classes
        self._embed_apart(depth, hidden_size, time_gaps)

    def embed_time(self, t: Tensor) -> Tensor:
        return torch.cat([part.embed_time(t) for part in self._parts], dim=-1)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        return torch.cat([part.embed_inputs(inputs) for part in self._parts], dim=-1)

    def _embed_apart(self, depth: int, hidden_size: int, time_gaps: int) -> None:
        self.condition_dim = depth * hidden_size
        self.embedders = nn.ModuleList(
            LabelCondition(hidden_size=hidden_size, num_classes=self.num_classes, time_gaps=time_gaps)
            for _ in range(depth)
        )

    @property
    def _parts(self) -> list[LabelCondition]:
        return [part for part in self.embedders if isinstance(part, LabelCondition)]


class DiTOfBlocks(ConditionOfBlocks, DiT):
    """A DiT whose blocks have a condition each, as diffusers trains it.

    diffusers gives every block embedders of its own. Where they differ, `c` is the blocks' conditions side by side,
    depth x d components in the order of the blocks; the final layer reads the first block's.
    """

    def __init__(self, *, depth: int, hidden_size: int, num_classes: int, time_gaps: int = 0, **rest: Any) -> None:
        DiT.__init__(self, depth=depth, hidden_size=hidden_size, num_classes=num_classes, time_gaps=time_gaps, **rest)
        del self.t_embedder, self.y_embedder
        self._embed_apart(depth, hidden_size, time_gaps)

    def modulations(self, c: Tensor) -> Modulations:
        parts = self.read(c).chunk(len(self.blocks), dim=-1)
        return [
            layer.adaLN_modulation(part).to(self.precision)
            for layer, part in zip(self.modulated, (*parts, parts[0]), strict=True)
        ]

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, f"{FIRST_EMBEDDERS}y_embedder.embedding_table.weight", 2)
        depth = block_count(shapes, "embedders")
        return ConditionOfBlocks(
            depth=depth, hidden_size=dim, num_classes=rows - 1, time_gaps=given.get("time_gaps", 0)
        )

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> dict[str, Any]:
        as_if_shared = {name.removeprefix(FIRST_EMBEDDERS): shape for name, shape in shapes.items()}
        return super().infer_configuration(as_if_shared, **given)
