"""Layers that the families share, with the attribute names of the published checkpoints.

modulate(x) = x * (1 + scale) + shift            AdaLN, arXiv 2212.09748, section 3.2
x <- x + gate * f(modulate(norm(x)))

Shifts, scales and gates depend on the condition alone. `AdaLN` computes them outside the blocks, which take them as an
argument, so that a sampler can compute those of many steps at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.systems import kernels

__all__ = [
    "AdaLN",
    "Attention",
    "FinalLayer",
    "LabelEmbedder",
    "Linear",
    "Mlp",
    "Modulated",
    "PatchEmbed",
    "TimestepEmbedder",
    "modulate",
    "sincos_positions",
    "timestep_features",
    "unpatchify",
]


def timestep_features(t: Tensor, width: int = 256, longest_period: float = 10000.0, gaps: int = 0) -> Tensor:
    """Sinusoids of `t`, cosines first. t, with shape (B,) -> (B, width), in float32.

    t: times, with shape (B,)
    width: the number of features, 256 by default
    longest_period: the reciprocal of the lowest frequency, 10,000 by default
    gaps: the index of that frequency; 0, the default, for width / 2, one past the last
    """
    half = width // 2
    order = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(longest_period) * order / (gaps or half))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sincos_positions(dim: int, side: int) -> Tensor:
    """Fixed 2-D positions -> (1, side * side, dim): half of the components from a patch's column, half from its row."""
    frequencies = 1 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim / 2)
    columns = axis[None, :, :].expand(side, side, -1)
    rows = axis[:, None, :].expand(side, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side * side, dim).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """shift + x * scale. x, with shape (B, N, d); shift and scale, to which AdaLN added one, with shape (B, 1, d)."""
    return torch.addcmul(shift, x, scale)


class AdaLN(nn.Module):
    """The linear layer that computes the shifts, scales and gates of one layer from SiLU(c).

    width: the number of inputs, d, or fewer in a compacted system
    dim: d, the width of each shift, scale and gate
    count: how many of them there are
    scales: the indices of the scales among them; one is added to these
    """

    def __init__(self, width: int, dim: int, count: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.add_module("1", nn.Linear(width, count * dim))  # the published name; 0 is the SiLU, in `System.read`
        self.count = count
        self.scales = list(scales)

    @property
    def linear(self) -> nn.Linear:
        """The linear layer, from `width` to `count * dim`."""
        return self.get_submodule("1")  # type: ignore[return-value]

    def forward(self, read: Tensor) -> Tensor:
        """The modulation. read, what AdaLN reads of c, with shape (B, width) -> (B, count, d)."""
        parts = self.linear(read).unflatten(-1, (self.count, -1))
        for scale in self.scales:
            parts.select(-2, scale).add_(1)
        return parts


class Modulated(nn.Module):
    """A layer that AdaLN shifts, scales and gates."""

    adaLN_modulation: AdaLN


class TimestepEmbedder(nn.Module):
    """t, with shape (B,) -> (B, d): sinusoids, linear, SiLU, linear."""

    def __init__(self, dim: int, width: int = 256, gaps: int = 0) -> None:
        super().__init__()
        self.width = width
        self.gaps = gaps
        self.mlp = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_features(t, self.width, gaps=self.gaps))


class LabelEmbedder(nn.Module):
    """A table of one row for each class, then one for the null condition, if any. labels, with shape (B,) -> (B, d)."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        # Zeros, since a random table on the meta device would import half of torch's compiler.
        self.embedding_table = nn.Embedding.from_pretrained(torch.zeros(rows, dim), freeze=False)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels.long())  # torch looks up no shorter integers


class PatchEmbed(nn.Module):
    """x, with shape (B, C, H, W) -> tokens, with shape (B, N, d), N = H W / p^2, row by row."""

    def __init__(self, patch_size: int, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        p = self.proj.kernel_size[0]
        patches = x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, p, p)
        # A matrix product instead of the convolution, which cuDNN would run in TF32, three digits short of float32.
        return F.linear(patches.flatten(3).flatten(1, 2), self.proj.weight.flatten(1), self.proj.bias)


def unpatchify(tokens: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Tokens as an image. tokens, with shape (B, N, p * p * C), each a patch (p, p, C) -> (B, C, H, W)."""
    (h, w), p = grid, patch_size
    patches = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h, w))  # (B, h, w, p, p, C)
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class Linear(nn.Linear):
    """A linear layer over tokens. x, with shape (B, N, in) -> (B, N, out)."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.linear(x, self.weight, self.bias)


class Attention(nn.Module):
    """Multi-head self-attention. x, with shape (B, N, d) -> (B, N, d).

    dim: d, the width of a token
    heads: the number of heads, a divisor of d
    norm: the class that normalises queries and keys, built with the width of a head; None, the default, for none
    """

    def __init__(self, dim: int, heads: int, norm: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm = norm(dim // heads) if norm else nn.Identity()
        self.k_norm = norm(dim // heads) if norm else nn.Identity()
        self.proj = Linear(dim, dim)

    def forward(
        self, x: Tensor, rotate: Callable[[Tensor], Tensor] | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """The attention's output. x, with shape (B, N, d) -> the same shape.

        rotate: a rotation of queries and keys, with shape (B, heads, N, d / heads), by their positions; None for none
        visible: the tokens that are attended to, bool, with shape (B, N); all by default, as in sampling
        """
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, d / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        bias = self.bias()
        if visible is not None:
            hidden = torch.zeros_like(visible, dtype=x.dtype).masked_fill(~visible, -torch.inf)[:, None, None, :]
            bias = hidden if bias is None else hidden + bias
        return self.proj(kernels.attend(q, k, v, bias).transpose(1, 2).flatten(2))

    def bias(self) -> Tensor | None:
        """What is added to the products of queries and keys, with shape (heads, N, N); None here."""
        return None


class Mlp(nn.Module):
    """x, with shape (B, N, d) -> (B, N, d): linear, tanh-GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(kernels.tanh_gelu(self.fc1(x)))


class FinalLayer(Modulated):
    """x, with shape (B, N, d) -> patches, with shape (B, N, p * p * C)."""

    def __init__(self, dim: int, patch_size: int, channels: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm_final = norm or nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.linear = Linear(dim, patch_size * patch_size * channels)
        self.adaLN_modulation = AdaLN(dim, dim, 2, scales=(1,))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The patches of x. modulation: shift and scale from AdaLN, with shape (B, 2, d)."""
        shift, scale = modulation.unsqueeze(2).unbind(1)
        return self.linear(modulate(self.norm_final(x), shift, scale))
