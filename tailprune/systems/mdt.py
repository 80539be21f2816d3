"""MDT v2 (arXiv 2303.14389): DiT's condition, an encoder with skips, a second sum with positions, and a decoder.

    c = t_embedder(t) + y_embedder(label);   e = patches(x) + positions
    tokens: in-blocks(e);              out-blocks, each with the output of an in-block as its skip, last one first;
            + decoder positions;       decoder blocks, each with e as its skip

The network is trained with masked tokens; sampling masks none. t runs from 999 (noise) to 0 (data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.systems.base import Modulations
from tailprune.systems.dit import Block, LabelConfig, LabelTransformer
from tailprune.systems.infer import Shapes, block_count, dimensions
from tailprune.systems.layers import Attention, FinalLayer, Linear, Modulated

__all__ = ["MASKED_TRAINING", "MDT", "POSITION_INDEX", "MDTConfig", "MaskedBlock", "RelativePositionBias"]

MASKED_TRAINING = ("mask_token", "sideblocks.", "sideblocks_cross.")
"""Prefixes of the names of tensors that only masked training uses."""
POSITION_INDEX = "relative_position_index"
"""Part of the names of the tensors that index a bias table."""


class RelativePositionBias(nn.Module):
    """A bias per head for every offset between two patches of a grid, as in BEiT (arXiv 2106.08254).

    The table has (2h - 1)(2w - 1) rows, and three more for BEiT's class token, which MDT does not have.
    """

    relative_position_index: Tensor

    def __init__(self, grid: tuple[int, int], heads: int) -> None:
        super().__init__()
        h, w = grid
        rows = (2 * h - 1) * (2 * w - 1) + 3
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        self.register_buffer("relative_position_index", torch.zeros(h * w, h * w, dtype=torch.int64))

    def forward(self) -> Tensor:
        """The bias -> (heads, N, N)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class RelativeAttention(Attention):
    """Attention with a bias for relative positions. x, with shape (B, N, d) -> (B, N, d)."""

    def __init__(self, dim: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(dim, heads)
        self.rel_pos_bias = RelativePositionBias(grid, heads)

    def bias(self) -> Tensor:
        return self.rel_pos_bias()


class MaskedBlock(Block):
    """A block of the masked transformers (MDT, arXiv 2303.14389), with relative positions.

    dim, heads, mlp_hidden: as in `Block` and `Attention`
    grid: rows and columns of patches
    with_skip: whether a linear layer first joins x with a skip, false by default
    """

    def __init__(
        self, dim: int, heads: int, mlp_hidden: int, grid: tuple[int, int], *, with_skip: bool = False
    ) -> None:
        super().__init__(dim, RelativeAttention(dim, heads, grid), mlp_hidden)
        self.skip_linear = Linear(2 * dim, dim) if with_skip else None

    def forward(  # type: ignore[override]
        self, x: Tensor, modulation: Tensor, skip: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        if self.skip_linear is not None:
            assert skip is not None, "this block needs a skip"
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        return super().forward(x, modulation, visible)


@dataclass(frozen=True, kw_only=True)
class MDTConfig(LabelConfig):
    """An MDT; its last `decode_layer` blocks are the decoder, the others half in-blocks, half out-blocks."""

    decode_layer: int


class MDT(LabelTransformer):
    """The masked diffusion transformer; `forward` returns noise and variance, 2 C channels."""

    family = "mdt"
    config_class = MDTConfig
    buffer_names = (POSITION_INDEX,)
    decoder_pos_embed: Tensor

    def __init__(self, config: MDTConfig) -> None:
        super().__init__(config)  # t_embedder, y_embedder, x_embedder, pos_embed
        self.register_buffer("decoder_pos_embed", torch.zeros_like(self.pos_embed))

        def blocks(count: int, with_skip: bool) -> nn.ModuleList:
            return nn.ModuleList(
                MaskedBlock(config.hidden_size, config.num_heads, config.mlp_hidden, self.grid, with_skip=with_skip)
                for _ in range(count)
            )

        half = (config.depth - config.decode_layer) // 2
        self.en_inblocks = blocks(half, with_skip=False)
        self.en_outblocks = blocks(half, with_skip=True)
        self.de_blocks = blocks(config.decode_layer, with_skip=True)
        self.final_layer = FinalLayer(config.hidden_size, config.patch_size, config.out_channels)

    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        modulation = iter(modulations)
        embedded = tokens = self.embed_patches(x)  # (B, N, d)
        skips = []
        for block in self.en_inblocks:
            tokens = block(tokens, next(modulation))
            skips.append(tokens)
        for block in self.en_outblocks:
            tokens = block(tokens, next(modulation), skips.pop())
        tokens = tokens + self.decoder_pos_embed.to(tokens.dtype)
        for block in self.de_blocks:
            tokens = block(tokens, next(modulation), embedded)
        return self.to_latents(self.final_layer(tokens, next(modulation)))  # (B, 2 C, H, W)

    @property
    def all_blocks(self) -> Sequence[Modulated]:
        return [*self.en_inblocks, *self.en_outblocks, *self.de_blocks]

    # Checkpoints

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> MDTConfig:
        mlp_hidden, hidden = dimensions(shapes, "en_inblocks.0.mlp.fc1.weight", 2)
        decode_layer = block_count(shapes, "de_blocks")
        return MDTConfig(
            **cls.infer_grid(shapes, "en_inblocks.0", **given),
            depth=block_count(shapes, "en_inblocks") + block_count(shapes, "en_outblocks") + decode_layer,
            decode_layer=decode_layer,
            mlp_ratio=mlp_hidden / hidden,
        )

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        return name.startswith(MASKED_TRAINING)
