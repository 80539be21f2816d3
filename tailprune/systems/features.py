"""What X-MDPT and MDSGen share: conditions computed from feature tokens, and masked blocks without skips.

    part = LayerNorm(GELU(mix(LayerNorm(GELU(linear(tokens))))))      mix: one weighted sum of all tokens
    tokens = patches(x) + positions;   blocks;   + decoder positions;   the last `decode_layer` blocks

The input part of the null condition is zero.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tailprune.arguments import as_tensor, as_tensors, as_times
from tailprune.spec import InputError
from tailprune.systems.base import Condition, Inputs, InputsLike, Modulations, System
from tailprune.systems.config import TransformerConfig
from tailprune.systems.infer import MissingArgument, Shapes, block_count, dimensions, head_count
from tailprune.systems.layers import FinalLayer, Modulated, PatchEmbed, TimestepEmbedder
from tailprune.systems.mdt import MASKED_TRAINING, POSITION_INDEX, MaskedBlock

__all__ = ["NULL", "FeatureCondition", "FeatureConfig", "FeatureTransformer", "projection", "token_mixing"]

NULL = "null"
"""The name of the null condition's inputs, a tensor of B rows whose values are ignored."""

NORM_EPS = 1e-12


def projection(width: int, dim: int) -> nn.Sequential:
    """Linear, GELU, LayerNorm. x, with shape (..., width) -> (..., d)."""
    return nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.LayerNorm(dim, eps=NORM_EPS))


def token_mixing(tokens: int, dim: int) -> nn.Sequential:
    """A 1 x 1 convolution that sums N tokens into one, GELU, LayerNorm. x, with shape (B, N, d) -> (B, 1, d)."""
    return nn.Sequential(nn.Conv1d(tokens, 1, kernel_size=1), nn.GELU(), nn.LayerNorm(dim, eps=NORM_EPS))


class FeatureCondition(Condition):
    """`c = t_embedder(t) + features part`."""

    features: Mapping[str, tuple[int, ...]]
    """The inputs by name, with the shape of one sample's."""

    def __init__(self, *, hidden_size: int, time_width: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.condition_dim = hidden_size
        self.t_embedder = TimestepEmbedder(hidden_size, time_width)

    def embed_time(self, t: Tensor) -> Tensor:
        return self.t_embedder(as_times(t).to(self._device))

    def embed_inputs(self, inputs: InputsLike) -> Tensor:
        if isinstance(inputs, Mapping) and (null := inputs.get(NULL)) is not None:
            return torch.zeros(len(as_tensor(NULL, null)), self.condition_dim, device=self._device)
        checked = self.check_inputs(inputs)
        return self.embed_features({name: checked[name].to(self._device).float() for name in self.features})

    @abstractmethod
    def embed_features(self, features: Inputs) -> Tensor:
        """The features part, in float32. Features of B samples -> (B, d)."""

    def check_inputs(self, inputs: InputsLike) -> Inputs:
        inputs = as_tensors(inputs)
        expected = ", ".join(f"{name} {shape}" for name, shape in self.features.items())
        if inputs.keys() != self.features.keys():
            raise InputError(f"this system takes the inputs {expected}, not {', '.join(inputs) or 'none'}")
        for name, tensor in inputs.items():
            if tensor.dtype == torch.bool or tensor.is_complex():
                raise InputError(f"{name} must hold real numbers, not {tensor.dtype}")
            if tuple(tensor.shape[1:]) != self.features[name]:
                raise InputError(f"{name} must have shape {('B', *self.features[name])}, not {tuple(tensor.shape)}")
            if not torch.isfinite(tensor).all():
                raise InputError(f"{name} holds NaN or infinity")
        if len({len(tensor) for tensor in inputs.values()}) > 1:
            rows = ", ".join(f"{name} {len(tensor)}" for name, tensor in inputs.items())
            raise InputError(f"all inputs must have the same number of rows, one per sample, not {rows}")
        return inputs

    def all_inputs(self) -> Inputs:
        raise InputError(
            f"this system has no classes: give a population, conditions of {' and '.join(self.features)}, to take "
            "statistics over"
        )

    def null_inputs(self, count: int) -> Inputs:
        return {NULL: torch.zeros(count, device=self._device)}

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(TransformerConfig):
    """A transformer conditioned on features, with the decoder's positions before its last `decode_layer` blocks."""

    decode_layer: int

    metadata_fields: ClassVar[Mapping[str, type[int] | type[float]]] = {"num_heads": int, "decode_layer": int}


class FeatureTransformer(FeatureCondition, System):
    """Masked blocks without skips; `forward` returns noise and variance, 2 C channels; t runs from 999 (noise) to 0."""

    pos_embed: Tensor
    decoder_pos_embed: Tensor
    x_embedder: PatchEmbed
    config: FeatureConfig
    buffer_names = (POSITION_INDEX,)
    published_decode_layer: ClassVar[int]
    """The `decode_layer` of the published files; no tensor shows it."""

    def build_blocks(self, config: FeatureConfig) -> None:
        """Build the blocks and the final layer, after the embedders."""
        if not 0 <= config.decode_layer <= config.depth:
            raise InputError(
                f"decode_layer = {config.decode_layer} is outside 0 to {config.depth}, the number of blocks"
            )
        d = config.hidden_size
        self.patch_size = self.x_embedder.proj.kernel_size[0]
        self.register_buffer("decoder_pos_embed", torch.zeros(1, self.grid[0] * self.grid[1], d))
        self.blocks = nn.ModuleList(
            MaskedBlock(d, config.num_heads, config.mlp_hidden, self.grid) for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(d, self.patch_size, config.out_channels)

    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        *block_modulations, final_modulation = modulations
        tokens = (self.x_embedder(x) + self.pos_embed).to(self.precision)  # (B, N, d)
        for index, (block, modulation) in enumerate(zip(self.blocks, block_modulations, strict=True)):
            if index == len(self.blocks) - self.config.decode_layer:
                tokens = tokens + self.decoder_pos_embed.to(tokens.dtype)
            tokens = block(tokens, modulation)
        return self.to_latents(self.final_layer(tokens, final_modulation))  # (B, 2 C, H, W)

    @property
    def all_blocks(self) -> Sequence[Modulated]:
        return list(self.blocks)  # type: ignore[arg-type]

    # Checkpoints

    @classmethod
    def infer_blocks(cls, shapes: Shapes, **given: Any) -> dict[str, Any]:
        """The fields of the configuration that both families share."""
        mlp_hidden, hidden = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
        depth = block_count(shapes)
        if depth < cls.published_decode_layer and "decode_layer" not in given:
            raise MissingArgument(
                "decode_layer",
                f"the tensors do not show how many of the {depth} blocks come after the decoder's positions, and the "
                f"published number, {cls.published_decode_layer}, is too large: give decode_layer",
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
