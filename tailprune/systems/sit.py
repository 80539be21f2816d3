"""SiT, REPA and MG: DiT's network, trained to predict the velocity of the linear path.

SiT's t (arXiv 2401.08740) runs from 0 (noise) to 1 (data), and it drops further channels. REPA (arXiv 2410.06940) and
MG (arXiv 2502.12154) run from 1 (noise) to 0 (data) and add up their steps in float64; MG's guidance is trained into
it, for one scale or, where it has an `s_embedder`, for the scale that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tailprune.systems.base import Condition, Inputs, System
from tailprune.systems.dit import DiT, DiTConfig, LabelCondition
from tailprune.systems.infer import Shapes, block_count, dimensions
from tailprune.systems.layers import TimestepEmbedder

__all__ = ["MG", "REPA", "ScaleAwareMG", "SiT"]


class SiT(DiT):
    """The scalable interpolant transformer of arXiv 2401.08740; forward returns the velocity, C channels."""

    family = "sit"


class REPA(SiT):
    """A SiT trained with its features aligned to an image encoder's (arXiv 2410.06940); t = 1 is noise, 0 data.

    The projectors onto the encoder's features serve training alone. Old files name the blocks after the aligned one
    `decoder_blocks.N`.
    """

    family = "repa"

    # Checkpoints

    @classmethod
    def looks_published(cls, config: DiTConfig, left_out: Sequence[str]) -> bool:
        return config.qk_norm or bool(left_out)

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
    """`c = t_embedder(t) + s_embedder(scale) + y_embedder(label)`: how strongly it is guided is an input.

    Inputs are labels and, with shape (B,), `scale`; 1, a plain conditional network, where there is none.
    """

    takes_guidance = True

    def make_embedders(self, hidden_size: int, time_gaps: int, depth: int) -> None:
        super().make_embedders(hidden_size, time_gaps, depth)
        self.s_embedder = TimestepEmbedder(hidden_size)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        scale = inputs.get("scale")
        if scale is None:
            scale = torch.ones(len(inputs["labels"]), device=self._device)
        return super().embed_inputs(inputs) + self.s_embedder(scale)


class MG(SiT):
    """A SiT with its guidance trained into it (arXiv 2502.12154), sampled unguided; t = 1 is noise, 0 data."""

    family = "mg"

    # Checkpoints

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        return ScaleAwareMG if "s_embedder.mlp.0.weight" in shapes else MG

    @classmethod
    def looks_published(cls, config: DiTConfig, left_out: Sequence[str]) -> bool:
        return not (config.learn_sigma or config.qk_norm)


class ScaleAwareMG(ScaleAwareCondition, MG):
    """An MG that takes its scale as an input, and is not guided besides."""

    # Checkpoints

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        return ScaleAwareCondition(hidden_size=dim, num_classes=rows - 1)
