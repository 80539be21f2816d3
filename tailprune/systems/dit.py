"""DiT (arXiv 2212.09748) and SiT (arXiv 2401.08740): one network, two readings of time and output.

    c = t_embedder(t) + y_embedder(label);   tokens = patches(x) + positions;   blocks(tokens, c);   final layer

DiT predicts noise and, in further channels, the variance; its t runs from 999 (noise) to 0. SiT predicts the
velocity of the linear path; its t runs from 0 (noise) to 1 (data), and it drops the further channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.systems.base import Condition, Inputs, System, dimensions
from tailprune.systems.layers import Block, FinalLayer, LabelEmbedder, PatchEmbed, TimestepEmbedder, unpatchify

__all__ = ["PUBLISHED_HEADS", "DiT", "LabelCondition", "SiT"]

PUBLISHED_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads by width in the published sizes S, B, L and XL; names and shapes do not tell them."""


class LabelCondition(Condition):
    """`c = t_embedder(t) + y_embedder(label)`; label `classes` is the null condition."""

    def __init__(self, *, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.condition_dim = hidden_size
        self.num_classes = num_classes
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)

    def embed_time(self, t: Tensor) -> Tensor:
        return self.t_embedder(t)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        return self.y_embedder(inputs["labels"])

    def check_inputs(self, inputs: Inputs) -> None:
        labels = inputs["labels"]
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if wrong.numel():
            raise ValueError(f"label {wrong[0].item()} is outside 0 to {self.num_classes - 1}, the classes there are")

    def all_inputs(self) -> Inputs:
        device = self.y_embedder.embedding_table.weight.device
        return {"labels": torch.arange(self.num_classes, device=device)}

    def null_inputs(self, count: int) -> Inputs:
        device = self.y_embedder.embedding_table.weight.device
        return {"labels": torch.full((count,), self.num_classes, dtype=torch.long, device=device)}


class DiT(LabelCondition, System):
    """The diffusion transformer of arXiv 2212.09748; forward returns noise and variance, 2 C channels."""

    pos_embed: Tensor
    family = "dit"
    prediction = "epsilon"
    noise_time, data_time = 999.0, 0.0
    guided_channels = 3

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
    ) -> None:
        super().__init__(hidden_size=hidden_size, num_classes=num_classes)
        self.patch_size = patch_size
        self.learn_sigma = learn_sigma
        self.latent_shape = (in_channels, input_size, input_size)
        side = input_size // patch_size
        self.grid = (side, side)
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.register_buffer("pos_embed", torch.zeros(1, side * side, hidden_size))
        mlp_hidden = round(hidden_size * mlp_ratio)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, mlp_hidden) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, in_channels * (2 if learn_sigma else 1))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        tokens = self.x_embedder(x) + self.pos_embed  # (B, N, d)
        for block in self.blocks:
            tokens = block(tokens, c)
        return unpatchify(self.final_layer(tokens, c), self.patch_size, self.grid)

    @classmethod
    def condition_part(cls, shapes: Mapping[str, tuple[int, ...]]) -> Condition:
        rows, dim = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        return LabelCondition(hidden_size=dim, num_classes=rows - 1)

    @classmethod
    def infer_configuration(cls, shapes: Mapping[str, tuple[int, ...]], **given: Any) -> dict[str, Any]:
        mlp_hidden, hidden = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
        _, channels, patch, _ = dimensions(shapes, "x_embedder.proj.weight", 4)
        _, positions, _ = dimensions(shapes, "pos_embed", 3)
        rows, _ = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        heads = given.get("num_heads") or PUBLISHED_HEADS.get(hidden)
        if heads is None:
            raise ValueError(
                f"the number of attention heads cannot be read from a checkpoint of width {hidden}: give num_heads "
                f"(published widths: {', '.join(f'{w} has {n}' for w, n in PUBLISHED_HEADS.items())})"
            )
        if heads < 1 or hidden % heads:
            raise ValueError(f"num_heads = {heads} does not divide the width {hidden}")
        return {
            "input_size": math.isqrt(positions) * patch,
            "patch_size": patch,
            "in_channels": channels,
            "hidden_size": hidden,
            "depth": 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")),
            "num_heads": heads,
            "num_classes": rows - 1,
            "mlp_ratio": mlp_hidden / hidden,
            "learn_sigma": shapes["final_layer.linear.weight"][0] == 2 * channels * patch * patch,
        }


class SiT(DiT):
    """The scalable interpolant transformer of arXiv 2401.08740; forward returns the velocity, C channels."""

    family = "sit"
    prediction = "velocity"
    noise_time, data_time = 0.0, 1.0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return super().forward(x, c)[:, : self.latent_shape[0]]
