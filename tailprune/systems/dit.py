"""DiT (arXiv 2212.09748): a transformer over patches of latents, conditioned on time and a label.

    c = t_embedder(t) + y_embedder(label)                                   LabelCondition
    tokens = patches(x) + positions                                         LabelTransformer
    x <- x + gate * f(modulate(norm(x), shift, scale)),  f attention, MLP   Block; shift, scale, gate = AdaLN(SiLU(c))
    out = final_layer(blocks(tokens, c), c)                                 DiT

The official `forward(x, t, y)` is `system(x, system.condition(t, {"labels": y}))`. DiT predicts the noise in the first
C channels and the variance in the other C; t runs from 999 (noise) to 0 (data). The other class-conditional systems
inherit `LabelCondition` and `LabelTransformer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tailprune.arguments import as_tensors, as_times
from tailprune.spec import InputError
from tailprune.systems.base import Condition, Inputs, InputsLike, Modulations, System
from tailprune.systems.config import SquareConfig
from tailprune.systems.infer import LABEL_TABLE, Shapes, block_count, classes_of, dimensions, head_count, patches_of
from tailprune.systems.layers import (
    AdaLN,
    Attention,
    FinalLayer,
    LabelEmbedder,
    Mlp,
    Modulated,
    PatchEmbed,
    TimestepEmbedder,
    modulate,
)

__all__ = ["Block", "DiT", "DiTConfig", "LabelCondition", "LabelConfig", "LabelTransformer", "PerBlockDiT"]

FIRST_EMBEDDERS = "embedders.0."
"""The prefix of the first block's embedders in a DiT whose blocks have their own (`PerBlockDiT`)."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig(SquareConfig):
    """A transformer over square latents, conditioned on one of `num_classes` labels.

    null_condition: whether the label table has a row behind them for the null condition, true by default; false for a
        system that was trained without dropping labels
    """

    num_classes: int
    null_condition: bool = True


@dataclass(frozen=True, kw_only=True)
class DiTConfig(LabelConfig):
    """A DiT, with the options that later authors and diffusers added.

    qk_norm: whether queries and keys are normalised head by head, false by default
    time_gaps: `gaps` of `timestep_features`; 0, the default, as published; diffusers has another value
    mlp_norm_eps: the epsilon of the LayerNorm before the MLP; 1e-6, the default, as published
    """

    qk_norm: bool = False
    time_gaps: int = 0
    mlp_norm_eps: float = 1e-6

    metadata_fields: ClassVar[Mapping[str, type[int] | type[float]]] = {
        "num_heads": int, "time_gaps": int, "mlp_norm_eps": float
    }  # fmt: skip


class LabelCondition(Condition):
    """`c = t_embedder(t) + y_embedder(label)`; label `num_classes` is the null condition, if there is one.

    hidden_size: d, the width of c
    num_classes: the number of labels, the null condition's not counted
    null_condition: as in `LabelConfig`
    time_gaps: `gaps` of `timestep_features`, 0 by default
    depth: the number of blocks, for a subclass with embedders for each
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_classes: int,
        null_condition: bool = True,
        time_gaps: int = 0,
        depth: int = 1,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.condition_dim = hidden_size
        self.num_classes = num_classes
        self.null_condition = null_condition
        self.make_embedders(hidden_size, time_gaps, depth)

    def make_embedders(self, hidden_size: int, time_gaps: int, depth: int) -> None:
        """Build the embedders, whose outputs c is the sum of."""
        self.t_embedder = TimestepEmbedder(hidden_size, gaps=time_gaps)  # t (B,) -> (B, d)
        self.y_embedder = LabelEmbedder(self.num_classes + self.null_condition, hidden_size)  # labels (B,) -> (B, d)

    def embed_time(self, t: Tensor) -> Tensor:
        return self.t_embedder(as_times(t).to(self._device))

    def embed_inputs(self, inputs: InputsLike) -> Tensor:
        checked = self._checked(inputs, self.num_classes + 1)  # the null condition's too
        return self.y_embedder(checked["labels"].to(self._device))

    def check_inputs(self, inputs: InputsLike) -> Inputs:
        return self._checked(inputs, self.num_classes)

    def _checked(self, given: InputsLike, rows: int) -> Inputs:
        """The inputs as tensors, each with shape (B,); labels are from 0 to `rows` - 1."""
        takes = {"labels", "scale"} if self.takes_guidance else {"labels"}
        inputs = as_tensors(given)
        if "labels" not in inputs or not inputs.keys() <= takes:
            raise InputError(
                f"this system takes the inputs {' and '.join(sorted(takes))}, not {', '.join(inputs) or 'none'}"
            )
        labels = inputs["labels"]
        if labels.shape == (0,) and not isinstance(given["labels"], Tensor):  # no list says what it would hold
            raise InputError("labels are empty: give at least one")
        if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
            raise InputError(f"labels must be whole numbers, not {labels.dtype}: give labels.long()")
        for name, tensor in inputs.items():
            if tensor.ndim != 1:
                raise InputError(f"{name} must have shape (B,), one for each sample, not {tuple(tensor.shape)}")
            if not torch.isfinite(tensor).all():
                raise InputError(f"{name} holds NaN or infinity")
        if any(len(tensor) != len(labels) for tensor in inputs.values()):
            raise InputError(
                f"labels and scales must be as many, not {len(labels)} labels and {len(inputs['scale'])} scales"
            )
        wrong = labels[(labels < 0) | (labels >= rows)]
        if wrong.numel():
            last = self.num_classes - 1
            raise InputError(f"label {wrong[0].item()} is outside 0 to {last}, the classes of this system")
        return inputs

    def all_inputs(self) -> Inputs:
        return {"labels": torch.arange(self.num_classes, device=self._device)}

    def null_inputs(self, count: int) -> Inputs:
        if not self.null_condition:
            raise InputError(
                "this system has no null condition, since it was trained without dropping labels: guidance must be 1"
            )
        return {"labels": torch.full((count,), self.num_classes, dtype=torch.long, device=self._device)}

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


class LabelTransformer(LabelCondition, System):
    """A transformer over the patches of square latents, conditioned on a label."""

    pos_embed: Tensor

    def __init__(self, config: LabelConfig, time_gaps: int = 0) -> None:
        d, patch = config.hidden_size, config.patch_size
        super().__init__(
            hidden_size=d,
            num_classes=config.num_classes,
            null_condition=config.null_condition,
            time_gaps=time_gaps,
            depth=config.depth,
            config=config,
        )
        self.patch_size = patch
        self.x_embedder = PatchEmbed(patch, config.in_channels, d)
        self.register_buffer("pos_embed", torch.zeros(1, self.grid[0] * self.grid[1], d))

    def embed_patches(self, x: Tensor) -> Tensor:
        """The embedded patches plus their positions. x, with shape (B, C, H, W) -> (B, N, d), N = H W / p^2."""
        return (self.x_embedder(x) + self.pos_embed).to(self.precision)

    # Checkpoints

    def metadata_arguments(self) -> dict[str, int | float]:
        own = super().metadata_arguments()
        return own if self.null_condition else own | {"num_classes": self.num_classes}

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, LABEL_TABLE, 2)
        return LabelCondition(hidden_size=dim, **classes_of(rows, given), time_gaps=given.get("time_gaps", 0))

    @classmethod
    def infer_grid(cls, shapes: Shapes, block: str, **given: Any) -> dict[str, Any]:
        """The fields that all class-conditional systems share; block: the name of a block, such as `blocks.0`."""
        found: dict[str, Any] = patches_of(shapes)
        rows, _ = dimensions(shapes, LABEL_TABLE, 2)
        out, _ = dimensions(shapes, "final_layer.linear.weight", 2)
        return found | {
            "num_heads": head_count(shapes, found["hidden_size"], block, **given),
            **classes_of(rows, given),
            "learn_sigma": out == 2 * found["in_channels"] * found["patch_size"] ** 2,
        }


class Block(Modulated):
    """A transformer block with AdaLN-Zero."""

    def __init__(self, dim: int, attention: Attention, mlp_hidden: int, mlp_norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=mlp_norm_eps, elementwise_affine=False)
        self.mlp = Mlp(dim, mlp_hidden)
        self.adaLN_modulation = AdaLN(dim, dim, 6, scales=(1, 4))

    def forward(self, x: Tensor, modulation: Tensor, visible: Tensor | None = None) -> Tensor:
        """The block's output. x, with shape (B, N, d) -> the same shape.

        modulation: shift, scale and gate of the attention, then of the MLP, from AdaLN, with shape (B, 6, d)
        visible: as in `Attention`, all tokens by default
        """
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.unsqueeze(2).unbind(1)
        # x + gate * attn(modulate(norm(x), shift, scale)), and the same with the MLP
        x = torch.addcmul(x, gate_attn, self.attn(modulate(self.norm1(x), shift_attn, scale_attn), visible=visible))
        return torch.addcmul(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


class DiT(LabelTransformer):
    """The diffusion transformer of arXiv 2212.09748; `forward` returns noise and variance, 2 C channels."""

    family = "dit"
    config_class = DiTConfig
    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config, config.time_gaps)  # t_embedder, y_embedder, x_embedder, pos_embed
        d, heads, head_norm = config.hidden_size, config.num_heads, nn.LayerNorm if config.qk_norm else None
        self.blocks = nn.ModuleList(
            Block(d, Attention(d, heads, head_norm), config.mlp_hidden, config.mlp_norm_eps)
            for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(d, config.patch_size, config.out_channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The prediction. x, with shape (B, C, H, W), and c, with shape (B, d) -> (B, 2 C, H, W)."""
        return self.forward_modulated(x, self.modulations(c))

    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        """The prediction from x, with shape (B, C, H, W), and the modulations AdaLN(SiLU(c)) -> (B, 2 C, H, W).

        modulations: one with shape (B, 6, d) for each block, and one with shape (B, 2, d) for the final layer
        """
        *block_modulations, final_modulation = modulations
        tokens = self.embed_patches(x)  # (B, N, d), N = H W / p^2
        for block, modulation in zip(self.blocks, block_modulations, strict=True):
            tokens = block(tokens, modulation)  # (B, N, d)
        patches = self.final_layer(tokens, final_modulation)  # (B, N, p * p * 2 C)
        return self.to_latents(patches)  # (B, 2 C, H, W)

    @property
    def all_blocks(self) -> Sequence[Modulated]:
        return list(self.blocks)  # type: ignore[arg-type]

    # Checkpoints

    @classmethod
    def variant(cls, shapes: Shapes) -> type[System]:
        return PerBlockDiT if any(name.startswith(FIRST_EMBEDDERS) for name in shapes) else cls

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> DiTConfig:
        mlp_hidden, hidden = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
        found = cls.infer_grid(shapes, "blocks.0", **given)
        found |= {name: given[name] for name in ("time_gaps", "mlp_norm_eps") if name in given}
        return DiTConfig(
            **found,
            depth=block_count(shapes),
            mlp_ratio=mlp_hidden / hidden,
            qk_norm="blocks.0.attn.q_norm.weight" in shapes,
        )


class PerBlockCondition(LabelCondition):
    """The concatenated conditions of all blocks, each with its own embedders -> (B, depth * d)."""

    def make_embedders(self, hidden_size: int, time_gaps: int, depth: int) -> None:
        self.condition_dim = depth * hidden_size
        self.embedders = nn.ModuleList(
            LabelCondition(
                hidden_size=hidden_size,
                num_classes=self.num_classes,
                null_condition=self.null_condition,
                time_gaps=time_gaps,
            )
            for _ in range(depth)
        )

    def embed_time(self, t: Tensor) -> Tensor:
        return torch.cat([part.embed_time(t) for part in self._parts], dim=-1)

    def embed_inputs(self, inputs: InputsLike) -> Tensor:
        return torch.cat([part.embed_inputs(inputs) for part in self._parts], dim=-1)

    @property
    def _parts(self) -> list[LabelCondition]:
        return [part for part in self.embedders if isinstance(part, LabelCondition)]


class PerBlockDiT(PerBlockCondition, DiT):
    """A DiT whose blocks have their own conditions, as diffusers trains it.

    diffusers gives every block its own embedders. If they differ, `c` is the concatenation of the blocks' conditions,
    depth * d components in the order of the blocks; the final layer reads that of the first block.
    """

    def modulations(self, c: Tensor) -> Modulations:
        parts = self.read(c).chunk(len(self.blocks), dim=-1)
        return [
            layer.adaLN_modulation(part).to(self.precision)
            for layer, part in zip(self.modulated, (*parts, parts[0]), strict=True)
        ]

    # Checkpoints

    @classmethod
    def condition_part(cls, shapes: Shapes, **given: Any) -> Condition:
        rows, dim = dimensions(shapes, FIRST_EMBEDDERS + LABEL_TABLE, 2)
        depth = block_count(shapes, "embedders")
        return PerBlockCondition(
            depth=depth, hidden_size=dim, **classes_of(rows, given), time_gaps=given.get("time_gaps", 0)
        )

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> DiTConfig:
        as_if_shared = {name.removeprefix(FIRST_EMBEDDERS): shape for name, shape in shapes.items()}
        return super().infer_configuration(as_if_shared, **given)
