"""What X-MDPT and MDSGen share: conditions made of feature tokens, and masked blocks without skips.

    part = LayerNorm(GELU(mix(LayerNorm(GELU(linear(tokens))))))      mix: one weighted sum of all tokens
    tokens = patches(x) + positions;   blocks;   + decoder positions;   the last `decode_layer` blocks

The null condition is a part of zeros.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tailprune.systems.base import Condition, Inputs, Modulations, System
from tailprune.systems.infer import MissingArgument, Shapes, block_count, dimensions, head_count
from tailprune.systems.layers import FinalLayer, MaskedBlock, Modulated, PatchEmbed, TimestepEmbedder
from tailprune.systems.mdt import MASKED_TRAINING

__all__ = ["NULL", "FeatureCondition", "FeatureTransformer", "projection", "token_mixing"]

NULL = "null"
"""The name of inputs that stand for no condition; their rows count, their values do not."""

NORM_EPS = 1e-12


def projection(width: int, dim: int) -> nn.Sequential:
    """Linear, GELU, LayerNorm. x, with shape (..., width) -> (..., d)."""
    return nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.LayerNorm(dim, eps=NORM_EPS))


def token_mixing(tokens: int, dim: int) -> nn.Sequential:
    """A 1 x 1 convolution that sums N tokens into one, GELU, LayerNorm. x, with shape (B, N, d) -> (B, 1, d)."""
    return nn.Sequential(nn.Conv1d(tokens, 1, kernel_size=1), nn.GELU(), nn.LayerNorm(dim, eps=NORM_EPS))


class FeatureCondition(Condition):
    """`c = t_embedder(t) + a part made of features`."""

    features: Mapping[str, tuple[int, ...]]
    """What it is conditioned on, by name, with the shape of one."""

    def __init__(self, *, hidden_size: int, time_width: int) -> None:
        super().__init__()
        self.condition_dim = hidden_size
        self.t_embedder = TimestepEmbedder(hidden_size, time_width)

    def embed_time(self, t: Tensor) -> Tensor:
        return self.t_embedder(t)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        if NULL in inputs:
            return torch.zeros(len(inputs[NULL]), self.condition_dim, device=self._device)
        return self.embed_features({name: inputs[name].float() for name in self.features})

    @abstractmethod
    def embed_features(self, features: Inputs) -> Tensor:
        """The part that features make, in float32. Features of B samples -> (B, d)."""

    def check_inputs(self, inputs: Inputs) -> None:
        expected = ", ".join(f"{name} {shape}" for name, shape in self.features.items())
        if inputs.keys() != self.features.keys():
            raise ValueError(f"this system is conditioned on {expected}, not on {', '.join(inputs) or 'nothing'}")
        for name, tensor in inputs.items():
            if tuple(tensor.shape[1:]) != self.features[name]:
                raise ValueError(f"{name} has shape {('B', *self.features[name])}, not {tuple(tensor.shape)}")
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds NaN or infinity")
        if len({len(tensor) for tensor in inputs.values()}) > 1:
            rows = ", ".join(f"{name} {len(tensor)}" for name, tensor in inputs.items())
            raise ValueError(f"the inputs of a system have as many rows each, not {rows}")

    def all_inputs(self) -> Inputs:
        raise ValueError(
            f"this system has no classes: give a population, conditions of {' and '.join(self.features)}, to take "
            "statistics over"
        )

    def null_inputs(self, count: int) -> Inputs:
        return {NULL: torch.zeros(count, device=self._device)}

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


class FeatureTransformer(FeatureCondition, System):
    """Masked blocks without skips; forward returns noise and variance, 2 C channels. t runs from 999 (noise) to 0."""

    pos_embed: Tensor
    decoder_pos_embed: Tensor
    x_embedder: PatchEmbed
    grid: tuple[int, int]
    published_decode_layer: ClassVar[int]
    """How many of the last blocks come after the decoder's positions; names and shapes do not tell."""

    def build_blocks(self, depth: int, num_heads: int, mlp_ratio: float, decode_layer: int, out_channels: int) -> None:
        """What the blocks and the final layer are, once the embedders and the grid are there."""
        if not 0 <= decode_layer <= depth:
            raise ValueError(f"decode_layer = {decode_layer} is not between 0 and the {depth} blocks there are")
        dim = self.condition_dim
        self.patch_size = self.x_embedder.proj.kernel_size[0]
        self.decode_layer = decode_layer
        self.register_buffer("decoder_pos_embed", torch.zeros(1, self.grid[0] * self.grid[1], dim))
        self.blocks = nn.ModuleList(
            MaskedBlock(dim, num_heads, round(dim * mlp_ratio), self.grid) for _ in range(depth)
        )
        self.final_layer = FinalLayer(dim, self.patch_size, out_channels)

    @property
    def stack(self) -> Sequence[Modulated]:
        return list(self.blocks)  # type: ignore[arg-type]

    def embed_patches(self, x: Tensor) -> Tensor:
        return self.x_embedder(x) + self.pos_embed

    def run_stack(self, tokens: Tensor, modulations: Modulations) -> Tensor:
        for place, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            if place == len(self.blocks) - self.decode_layer:
                tokens = tokens + self.decoder_pos_embed.to(tokens.dtype)
            tokens = block(tokens, modulation)
        return tokens

    def metadata_arguments(self) -> dict[str, int | float]:
        return super().metadata_arguments() | {"decode_layer": self.decode_layer}

    @classmethod
    def infer_blocks(cls, shapes: Shapes, **given: Any) -> dict[str, Any]:
        """Constructor arguments that both families read alike."""
        mlp_hidden, hidden = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
        depth = block_count(shapes)
        if depth < cls.published_decode_layer and "decode_layer" not in given:
            raise MissingArgument(
                "decode_layer",
                f"how many of the {depth} blocks come after the decoder's positions cannot be read from a checkpoint, "
                f"and the published {cls.published_decode_layer} are too many: give decode_layer",
            )
        return {
            "hidden_size": hidden,
            "depth": depth,
            "num_heads": head_count(shapes, hidden, "blocks.0", **given),
            "mlp_ratio": mlp_hidden / hidden,
            "decode_layer": int(given.get("decode_layer", cls.published_decode_layer)),
        }

    @classmethod
    def is_training_only(cls, name: str) -> bool:
        return name.startswith(MASKED_TRAINING)
