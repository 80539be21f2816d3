"""MDT v2 (arXiv 2303.14389): DiT's condition, an encoder with skips, positions anew, and a decoder.

    c = t_embedder(t) + y_embedder(label);   e = patches(x) + positions
    tokens: in-blocks(e), each leaving its output;   out-blocks, each taking the last one left;
            + decoder positions;                     decoder blocks, each taking e beside the tokens

The network was trained with tokens masked; sampling masks none. t runs from 999 (noise) to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.systems.base import Modulations
from tailprune.systems.infer import Shapes, block_count, dimensions
from tailprune.systems.labels import LabelTransformer
from tailprune.systems.layers import FinalLayer, MaskedBlock, Modulated

__all__ = ["MASKED_TRAINING", "MDT"]

MASKED_TRAINING = ("mask_token", "sideblocks.", "sideblocks_cross.")
"""How the names of tensors begin that only masked training reads."""


class MDT(LabelTransformer):
    """The masked diffusion transformer; forward returns noise and variance, 2 C channels."""

    decoder_pos_embed: Tensor
    family = "mdt"

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        decode_layer: int,
        num_heads: int,
        num_classes: int,
        mlp_ratio: float = 4.0,
        learn_sigma: bool = True,
    ) -> None:
        super().__init__(
            input_size=input_size,
            patch_size=patch_size,
            in_channels=in_channels,
            hidden_size=hidden_size,
            num_classes=num_classes,
        )
        self.register_buffer("decoder_pos_embed", torch.zeros_like(self.pos_embed))

        def blocks(count: int, with_skip: bool) -> nn.ModuleList:
            mlp_hidden = round(hidden_size * mlp_ratio)
            return nn.ModuleList(
                MaskedBlock(hidden_size, num_heads, mlp_hidden, self.grid, with_skip=with_skip) for _ in range(count)
            )

        half = (depth - decode_layer) // 2
        self.en_inblocks = blocks(half, with_skip=False)
        self.en_outblocks = blocks(half, with_skip=True)
        self.de_blocks = blocks(decode_layer, with_skip=True)
        self.final_layer = FinalLayer(hidden_size, patch_size, in_channels * (2 if learn_sigma else 1))

    @property
    def stack(self) -> Sequence[Modulated]:
        return [*self.en_inblocks, *self.en_outblocks, *self.de_blocks]

    def run_stack(self, tokens: Tensor, modulations: Modulations) -> Tensor:
        embedded, left, told = tokens, [], iter(modulations)
        for block in self.en_inblocks:
            tokens = block(tokens, next(told))
            left.append(tokens)
        for block in self.en_outblocks:
            tokens = block(tokens, next(told), left.pop())
        tokens = tokens + self.decoder_pos_embed.to(tokens.dtype)
        for block in self.de_blocks:
            tokens = block(tokens, next(told), embedded)
        return tokens

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> dict[str, Any]:
        mlp_hidden, hidden = dimensions(shapes, "en_inblocks.0.mlp.fc1.weight", 2)
        decode_layer = block_count(shapes, "de_blocks")
        return cls.infer_grid(shapes, "en_inblocks.0", **given) | {
            "depth": block_count(shapes, "en_inblocks") + block_count(shapes, "en_outblocks") + decode_layer,
            "decode_layer": decode_layer,
            "mlp_ratio": mlp_hidden / hidden,
        }

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        return name.startswith(MASKED_TRAINING)
