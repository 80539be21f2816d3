"""What the systems of class labels share: their condition, and a square grid of patches with fixed positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tailprune.systems.base import Condition, Inputs, System
from tailprune.systems.infer import Shapes, dimensions, head_count, patches_of
from tailprune.systems.layers import LabelEmbedder, PatchEmbed, TimestepEmbedder

__all__ = ["LabelCondition", "LabelTransformer"]


class LabelCondition(Condition):
    """`c = t_embedder(t) + y_embedder(label)`; label `classes` is the null condition.

    time_gaps: as `gaps` of `timestep_features`.
    """

    def __init__(self, *, hidden_size: int, num_classes: int, time_gaps: int = 0) -> None:
        super().__init__()
        self.condition_dim = hidden_size
        self.num_classes = num_classes
        self.t_embedder = TimestepEmbedder(hidden_size, gaps=time_gaps)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)

    def embed_time(self, t: Tensor) -> Tensor:
        return self.t_embedder(t)

    def embed_inputs(self, inputs: Inputs) -> Tensor:
        return self.y_embedder(inputs["labels"])

    def check_inputs(self, inputs: Inputs) -> None:
        takes = {"labels", "scale"} if self.takes_guidance else {"labels"}
        if "labels" not in inputs or not inputs.keys() <= takes:
            raise ValueError(
                f"this system is conditioned on {' and '.join(sorted(takes))}, not on {', '.join(inputs) or 'nothing'}"
            )
        labels = inputs["labels"]
        if any(len(tensor) != len(labels) for tensor in inputs.values()):
            raise ValueError(
                f"labels and scales come one a sample: {len(labels)} labels, {len(inputs['scale'])} scales"
            )
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if wrong.numel():
            raise ValueError(f"label {wrong[0].item()} is outside 0 to {self.num_classes - 1}, the classes there are")

    def all_inputs(self) -> Inputs:
        return {"labels": torch.arange(self.num_classes, device=self._device)}

    def null_inputs(self, count: int) -> Inputs:
        return {"labels": torch.full((count,), self.num_classes, dtype=torch.long, device=self._device)}

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


class LabelTransformer(LabelCondition, System):
    """A transformer over the patches of square latents, conditioned on a label."""

    pos_embed: Tensor

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        num_classes: int,
        time_gaps: int = 0,
    ) -> None:
        super().__init__(hidden_size=hidden_size, num_classes=num_classes, time_gaps=time_gaps)
        self.patch_size = patch_size
        self.latent_shape = (in_channels, input_size, input_size)
        side = input_size // patch_size
        self.grid = (side, side)
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.register_buffer("pos_embed", torch.zeros(1, side * side, hidden_size))

    def embed_patches(self, x: Tensor) -> Tensor:
        return self.x_embedder(x) + self.pos_embed

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        return LabelCondition(hidden_size=dim, num_classes=rows - 1, time_gaps=given.get("time_gaps", 0))

    @classmethod
    def infer_grid(cls, shapes: Shapes, block: str, **given: Any) -> dict[str, Any]:
        """Constructor arguments that these systems read alike; `block` names one of the blocks, such as `blocks.0`."""
        found: dict[str, Any] = patches_of(shapes)
        rows, _ = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
        out, _ = dimensions(shapes, "final_layer.linear.weight", 2)
        return found | {
            "num_heads": head_count(shapes, found["hidden_size"], block, **given),
            "num_classes": rows - 1,
            "learn_sigma": out == 2 * found["in_channels"] * found["patch_size"] ** 2,
        }
