"""SiT, REPA and MG: DiT's network, trained to predict the velocity of the linear path.

SiT's t (arXiv 2401.08740) runs from 0 (noise) to 1 (data); it keeps the first C channels of its output. In REPA
(arXiv 2410.06940) and MG (arXiv 2502.12154) t runs from 1 (noise) to 0 (data), and x is in float64 between steps. MG's
guidance is trained in: for one scale or, in a model with an `s_embedder`, for any scale, given as an input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from tailprune.arguments import as_tensor
from tailprune.systems.base import Condition, InputsLike, System
from tailprune.systems.dit import DiT, LabelCondition
from tailprune.systems.infer import LABEL_TABLE, Shapes, block_count, classes_of, dimensions
from tailprune.systems.layers import TimestepEmbedder

__all__ = ["MG", "REPA", "ScaleAwareMG", "SiT"]


class SiT(DiT):
    """The scalable interpolant transformer of arXiv 2401.08740; `forward` returns the velocity, C channels."""

    family = "sit"


class REPA(SiT):
    """A SiT trained with its features aligned to an image encoder's (arXiv 2410.06940); t = 1 is noise, 0 data.

    Only training uses the projectors onto the encoder's features. In old files, the blocks after the aligned one are
    named `decoder_blocks.N`.
    """

    family = "repa"

    # Checkpoints

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
    """`c = t_embedder(t) + s_embedder(scale) + y_embedder(label)`: the guidance scale is an input.

    Inputs are labels and, optionally, `scale`, with shape (B,); 1 by default, a plain conditional network.
    """

    takes_guidance = True

    def make_embedders(self, hidden_size: int, time_gaps: int, depth: int) -> None:
        super().make_embedders(hidden_size, time_gaps, depth)
        self.s_embedder = TimestepEmbedder(hidden_size)

    def embed_inputs(self, inputs: InputsLike) -> Tensor:
        part = super().embed_inputs(inputs)
        scale = inputs.get("scale")
        scales = part.new_ones(len(part)) if scale is None else as_tensor("scale", scale).to(self._device)
        return part + self.s_embedder(scales)


class MG(SiT):
    """A SiT with its guidance trained in (arXiv 2502.12154), sampled unguided; t = 1 is noise, 0 data."""

    family = "mg"

    # Checkpoints

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        return ScaleAwareMG if "s_embedder.mlp.0.weight" in shapes else MG


class ScaleAwareMG(ScaleAwareCondition, MG):
    """An MG that takes the guidance scale as an input; the sampler does not guide it."""

    # Checkpoints

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, LABEL_TABLE, 2)
        return ScaleAwareCondition(hidden_size=dim, **classes_of(rows, given))
