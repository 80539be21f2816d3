"""MDSGen (arXiv 2410.02130): sound for a silent video, as the latents of a mel spectrogram.

    y = mix(projection(video tokens));   c = t_embedder(t) + y

Latents are 8 x 204 x 16 (channels, time, frequency), cut into 2 x 2 patches on a grid of 102 x 8. The timestep embedder
has 204 sinusoids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailprune.systems.base import Condition, Inputs
from tailprune.systems.features import FeatureCondition, FeatureConfig, FeatureTransformer, projection, token_mixing
from tailprune.systems.infer import Shapes, dimensions
from tailprune.systems.layers import PatchEmbed

__all__ = ["MDSGen", "MDSGenCondition", "MDSGenConfig"]

GRID = (102, 8)
PATCH = 2
CHANNELS = 8
TIME_WIDTH = 204
VIDEO_TOKENS, VIDEO_WIDTH = 32, 512


class MDSGenCondition(FeatureCondition):
    """The condition from a video. Inputs: `video`, tokens of a video encoder, with shape (B, 32, 512)."""

    def __init__(self, *, hidden_size: int, **rest: Any) -> None:
        super().__init__(hidden_size=hidden_size, time_width=TIME_WIDTH, **rest)
        self.features = {"video": (VIDEO_TOKENS, VIDEO_WIDTH)}
        self.mlp_feat = projection(VIDEO_WIDTH, hidden_size)
        self.conv1d_feat = token_mixing(VIDEO_TOKENS, hidden_size)

    def embed_features(self, features: Inputs) -> Tensor:
        return self.conv1d_feat(self.mlp_feat(features["video"])).squeeze(1)


@dataclass(frozen=True, kw_only=True)
class MDSGenConfig(FeatureConfig):
    """An MDSGen, whose latents always have the same shape."""

    @property
    def grid(self) -> tuple[int, int]:
        return GRID

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return (CHANNELS, PATCH * GRID[0], PATCH * GRID[1])

    @property
    def out_channels(self) -> int:
        return 2 * CHANNELS


class MDSGen(MDSGenCondition, FeatureTransformer):
    """The masked transformer of arXiv 2410.02130."""

    family = "mdsgen"
    config_class = MDSGenConfig
    published_decode_layer = 4

    def __init__(self, config: MDSGenConfig) -> None:
        super().__init__(hidden_size=config.hidden_size, config=config)
        self.x_embedder = PatchEmbed(PATCH, CHANNELS, config.hidden_size)
        self.register_buffer("pos_embed", torch.zeros(1, GRID[0] * GRID[1], config.hidden_size))
        self.build_blocks(config)

    # Checkpoints

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        dim, _ = dimensions(shapes, "mlp_feat.0.weight", 2)
        return MDSGenCondition(hidden_size=dim)

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> MDSGenConfig:
        dimensions(shapes, "mlp_feat.0.weight", 2)  # no other family has it
        return MDSGenConfig(**cls.infer_blocks(shapes, **given))
