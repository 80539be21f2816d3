"""LightningDiT (arXiv 2501.01423): a SiT with layers from recent language models.

    c = t_embedder(t) + y_embedder(label);   tokens = patches(x) + positions;   blocks(tokens, c);   final layer

    RMSNorm:   x / sqrt(mean(x^2) + eps) * weight, in float32          (arXiv 1910.07467)
    SwiGLU:    w3(SiLU(a) * b),  (a, b) = w12(x)                       (arXiv 2002.05202)
    rotary:    pairs (x_2k, x_2k+1) of queries and keys rotated by an angle per position, in the first half of a head
               by the row, in the second by the column             (arXiv 2104.09864)

Each of these, query/key norm and the shift of the modulation are options. It predicts the velocity of the linear path;
t runs from 0 (noise) to 1 (data).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.systems.base import Modulations
from tailprune.systems.dit import LabelConfig, LabelTransformer
from tailprune.systems.infer import Shapes, block_count, dimensions
from tailprune.systems.layers import AdaLN, Attention, FinalLayer, Linear, Mlp, Modulated, modulate

__all__ = ["LightningDiT", "LightningDiTConfig"]


class RMSNorm(nn.Module):
    """Root mean square normalisation. x, with shape (..., d) -> the same shape."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class SwiGLU(nn.Module):
    """The gated MLP. x, with shape (B, N, d) -> (B, N, d)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = Linear(dim, 2 * hidden)
        self.w3 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class Rotary(nn.Module):
    """Rotates queries or keys, with shape (B, heads, N, d / heads), by their positions."""

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(self, positions: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs_cos", torch.zeros(positions, head_dim))
        self.register_buffer("freqs_sin", torch.zeros(positions, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([-odd, even], dim=-1).flatten(-2)
        return x * self.freqs_cos.to(x.dtype) + turned * self.freqs_sin.to(x.dtype)


class LightningBlock(Modulated):
    """A block with AdaLN-Zero, with or without shifts.

    attention, mlp: the two parts
    norms: the normalisation before each
    shifted: whether AdaLN computes shifts
    """

    def __init__(self, attention: Attention, mlp: nn.Module, norms: tuple[nn.Module, nn.Module], shifted: bool) -> None:
        super().__init__()
        dim = attention.qkv.in_features
        self.shifted = shifted
        self.norm1, self.norm2 = norms
        self.attn = attention
        self.mlp = mlp
        self.adaLN_modulation = AdaLN(dim, dim, 6, (1, 4)) if shifted else AdaLN(dim, dim, 4, (0, 2))

    def forward(self, x: Tensor, modulation: Tensor, rotate: Rotary | None) -> Tensor:
        """The block's output. x, with shape (B, N, d) -> the same shape.

        modulation: shift, scale and gate of the attention, then of the MLP, from AdaLN, with shape (B, 6, d); (B, 4, d)
            without shifts
        rotate: the rotation of queries and keys; None for none
        """
        parts = modulation.unsqueeze(2).unbind(1)
        if self.shifted:
            shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = parts
        else:
            scale_attn, gate_attn, scale_mlp, gate_mlp = parts
            shift_attn = shift_mlp = torch.zeros_like(scale_attn)
        # x + gate * attn(modulate(norm(x), shift, scale)), and the same with the MLP
        x = torch.addcmul(x, gate_attn, self.attn(modulate(self.norm1(x), shift_attn, scale_attn), rotate))
        return torch.addcmul(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


@dataclass(frozen=True, kw_only=True)
class LightningDiTConfig(LabelConfig):
    """A LightningDiT, with its options under their published names.

    use_qknorm: whether queries and keys are normalised head by head, false by default
    use_swiglu: whether the MLP is a SwiGLU, of two thirds the hidden width, true by default
    use_rope: whether queries and keys are rotated by their positions, true by default
    use_rmsnorm: whether norms are RMSNorm, not LayerNorm, true by default
    wo_shift: whether AdaLN computes only scales and gates, false by default
    """

    learn_sigma: bool = False
    use_qknorm: bool = False
    use_swiglu: bool = True
    use_rope: bool = True
    use_rmsnorm: bool = True
    wo_shift: bool = False

    @property
    def mlp_hidden(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)


class LightningDiT(LabelTransformer):
    """The transformer of arXiv 2501.01423; `forward` returns the velocity, C channels."""

    family = "lightningdit"
    config_class = LightningDiTConfig
    buffer_names = ("feat_rope.",)

    def __init__(self, config: LightningDiTConfig) -> None:
        super().__init__(config)  # t_embedder, y_embedder, x_embedder, pos_embed
        d, heads = config.hidden_size, config.num_heads
        self.feat_rope = Rotary(math.prod(self.grid), d // heads) if config.use_rope else None

        def norm() -> nn.Module:
            return RMSNorm(d) if config.use_rmsnorm else nn.LayerNorm(d, eps=1e-6, elementwise_affine=False)

        def mlp() -> nn.Module:
            return SwiGLU(d, int(2 / 3 * config.mlp_hidden)) if config.use_swiglu else Mlp(d, config.mlp_hidden)

        head_norm = (RMSNorm if config.use_rmsnorm else nn.LayerNorm) if config.use_qknorm else None
        self.blocks = nn.ModuleList(
            LightningBlock(Attention(d, heads, head_norm), mlp(), (norm(), norm()), not config.wo_shift)
            for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(d, config.patch_size, config.out_channels, norm())

    def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
        *block_modulations, final_modulation = modulations
        tokens = self.embed_patches(x)  # (B, N, d)
        for block, modulation in zip(self.blocks, block_modulations, strict=True):
            tokens = block(tokens, modulation, self.feat_rope)
        return self.to_latents(self.final_layer(tokens, final_modulation))  # (B, C, H, W)

    @property
    def all_blocks(self) -> Sequence[Modulated]:
        return list(self.blocks)  # type: ignore[arg-type]

    # Checkpoints

    @classmethod
    def infer_configuration(cls, shapes: Shapes, **given: Any) -> LightningDiTConfig:
        found = cls.infer_grid(shapes, "blocks.0", **given)
        hidden = found["hidden_size"]
        use_swiglu = "blocks.0.mlp.w12.weight" in shapes
        if use_swiglu:
            _, mlp_hidden = dimensions(shapes, "blocks.0.mlp.w3.weight", 2)
            mlp_ratio = _ratio_of_swiglu(mlp_hidden, hidden)
        else:
            mlp_hidden, _ = dimensions(shapes, "blocks.0.mlp.fc1.weight", 2)
            mlp_ratio = _ratio(mlp_hidden, hidden)
        chunks, _ = dimensions(shapes, "blocks.0.adaLN_modulation.1.weight", 2)
        return LightningDiTConfig(
            **found,
            depth=block_count(shapes),
            mlp_ratio=mlp_ratio,
            use_qknorm="blocks.0.attn.q_norm.weight" in shapes,
            use_swiglu=use_swiglu,
            use_rope="feat_rope.freqs_cos" in shapes,
            use_rmsnorm="blocks.0.norm1.weight" in shapes,
            wo_shift=chunks == 4 * hidden,
        )


def _ratio_of_swiglu(hidden: int, dim: int) -> float:
    """A ratio r with int(2/3 int(r d)) = hidden; a whole number if one fits."""
    least = math.ceil(1.5 * hidden)
    width = next(w for w in range(least - 1, least + 2) if int(2 / 3 * w) == hidden)
    whole = round(width / dim)
    return float(whole) if int(2 / 3 * int(whole * dim)) == hidden else _ratio(width, dim)


def _ratio(width: int, dim: int) -> float:
    """A ratio r with int(r d) = width: the quotient, or the next float if rounding makes that too small."""
    ratio = width / dim
    return ratio if int(dim * ratio) == width else math.nextafter(ratio, math.inf)
