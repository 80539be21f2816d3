"""X-MDPT (arXiv 2402.01516): a person in another pose, conditioned on pose and source image.

    y = final(pose part + image part + local part);   c = t_embedder(t) + y

The pose and image parts mix tokens of an image encoder; the local part mixes the source's latents, as patches with
positions. The official forward also sends the source through every block and discards the result; this one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailprune.systems.base import Condition, Inputs
from tailprune.systems.config import SquareConfig
from tailprune.systems.features import FeatureCondition, FeatureConfig, FeatureTransformer, projection, token_mixing
from tailprune.systems.infer import Shapes, dimensions, patches_of
from tailprune.systems.layers import PatchEmbed

__all__ = ["XMDPT", "XMDPTCondition", "XMDPTConfig"]

POSE_TOKENS, POSE_WIDTH = 257, 768
IMAGE_TOKENS, IMAGE_WIDTH = 257, 1536


class XMDPTCondition(FeatureCondition):
    """The condition from pose and source. Inputs: pose (B, 257, 768), image (B, 257, 1536), latents (B, C, H, W)."""

    pos_embed: Tensor

    def __init__(self, *, input_size: int, patch_size: int, in_channels: int, hidden_size: int, **rest: Any) -> None:
        super().__init__(hidden_size=hidden_size, time_width=256, **rest)
        self.features = {
            "pose": (POSE_TOKENS, POSE_WIDTH),
            "image": (IMAGE_TOKENS, IMAGE_WIDTH),
            "latents": (in_channels, input_size, input_size),
        }
        side = input_size // patch_size
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.register_buffer("pos_embed", torch.zeros(1, side * side, hidden_size))
        self.mlp_dino_pose = projection(POSE_WIDTH, hidden_size)
        self.mlp_dino_img = projection(IMAGE_WIDTH, hidden_size)
        self.conv1d_pose = token_mixing(POSE_TOKENS, hidden_size)
        self.conv1d_global = token_mixing(IMAGE_TOKENS, hidden_size)
        self.conv1d_local = token_mixing(side * side, hidden_size)
        self.mlp_final = projection(hidden_size, hidden_size)

    def embed_features(self, features: Inputs) -> Tensor:
        pose = self.conv1d_pose(self.mlp_dino_pose(features["pose"]))  # (B, 1, d)
        image = self.conv1d_global(self.mlp_dino_img(features["image"]))
        local = self.conv1d_local(self.x_embedder(features["latents"]) + self.pos_embed)
        return self.mlp_final(pose + image + local).squeeze(1)


@dataclass(frozen=True, kw_only=True)
class XMDPTConfig(FeatureConfig, SquareConfig):
    """An X-MDPT, over square latents."""


class XMDPT(XMDPTCondition, FeatureTransformer):
    """The cross-view masked transformer of arXiv 2402.01516."""

    family = "x-mdpt"
    config_class = XMDPTConfig
    published_decode_layer = 2

    def __init__(self, config: XMDPTConfig) -> None:
        super().__init__(
            input_size=config.input_size,
            patch_size=config.patch_size,
            in_channels=config.in_channels,
            hidden_size=config.hidden_size,
            config=config,
        )
        self.build_blocks(config)

    # Checkpoints

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        dimensions(shapes, "mlp_dino_pose.0.weight", 2)  # no other family has it
        return XMDPTCondition(**patches_of(shapes))

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> XMDPTConfig:
        dimensions(shapes, "mlp_dino_pose.0.weight", 2)  # no other family has it
        found = patches_of(shapes)
        out, _ = dimensions(shapes, "final_layer.linear.weight", 2)
        return XMDPTConfig(
            **(found | cls.infer_blocks(shapes, **given)),
            learn_sigma=out == 2 * found["in_channels"] * found["patch_size"] ** 2,
        )
