"""Layers that families of diffusion transformers share, under the attribute names of the published files.

modulate(x) = x * (1 + scale) + shift            AdaLN, arXiv 2212.09748, section 3.2
x <- x + gate * f(modulate(norm(x)))
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Attention",
    "Block",
    "FinalLayer",
    "LabelEmbedder",
    "Mlp",
    "PatchEmbed",
    "TimestepEmbedder",
    "modulate",
    "timestep_features",
    "unpatchify",
]


def timestep_features(t: Tensor, width: int = 256, longest_period: float = 10000.0) -> Tensor:
    """Sinusoids of `t`, cosines first. t, with shape (B,) -> (B, width), in float32."""
    half = width // 2
    frequencies = torch.exp(-math.log(longest_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x, with shape (B, N, d); shift and scale, with shape (B, d)."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class TimestepEmbedder(nn.Module):
    """t, with shape (B,) -> (B, d): sinusoids, linear, SiLU, linear."""

    def __init__(self, dim: int, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_features(t, self.width))


class LabelEmbedder(nn.Module):
    """A table of `classes + 1` rows; the last one is the null condition. labels, with shape (B,) -> (B, d)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        # From zeros: drawing the table at random on the meta device would import half of torch's compiler.
        self.embedding_table = nn.Embedding.from_pretrained(torch.zeros(classes + 1, dim), freeze=False)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class PatchEmbed(nn.Module):
    """x, with shape (B, C, H, W) -> tokens, with shape (B, N, d), N = H W / p^2, row by row."""

    def __init__(self, patch_size: int, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        p = self.proj.kernel_size[0]
        patches = x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, p, p)
        # The convolution as the linear map it is: cuDNN's would run in TF32, three digits short of float32.
        return F.linear(patches.flatten(3).flatten(1, 2), self.proj.weight.flatten(1), self.proj.bias)


def unpatchify(tokens: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """tokens, with shape (B, N, p * p * C), each read as (p, p, C) -> (B, C, H, W)."""
    (h, w), p = grid, patch_size
    patches = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h, w))  # (B, h, w, p, p, C)
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class Attention(nn.Module):
    """Multi-head self-attention. x, with shape (B, N, d) -> (B, N, d)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, d / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, d / heads)
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """x, with shape (B, N, d) -> (B, N, d): linear, tanh-GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """A transformer block under AdaLN-Zero. x, with shape (B, N, d), and c, with shape (B, d) -> (B, N, d)."""

    def __init__(self, dim: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(dim, mlp_hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        chunks = self.adaLN_modulation(c).chunk(6, dim=1)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = chunks
        x = x + gate_attn.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift_attn, scale_attn))
        return x + gate_mlp.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp))


class FinalLayer(nn.Module):
    """x, with shape (B, N, d), and c, with shape (B, d) -> patches, with shape (B, N, p * p * C)."""

    def __init__(self, dim: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(dim, patch_size * patch_size * channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))
