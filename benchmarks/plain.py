"""The other side of the sampling benchmarks: DiT and its sampling loop written plainly, after the paper and its script.

Every step makes the conditions of all rows anew, both branches of guidance go through the network as one batch, and
every block makes its own modulations. Attention is torch's fused kernel, as in the layers that the official code uses.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PlainDiT", "ddim_loop", "euler_loop"]


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, tokens, dim))


class PlainMlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.attn = PlainAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.mlp = PlainMlp(dim, 4 * dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class PlainFinal(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class PlainEmbedder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128).to(t.device)
        angles = t[:, None].float() * frequencies[None]
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class PlainLabels(nn.Module):
    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class PlainPatches(nn.Module):
    def __init__(self, patch: int, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class PlainDiT(nn.Module):
    """A DiT or SiT of these sizes, with the tensors' published names. out_channels: what is kept of its output."""

    pos_embed: Tensor

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
        out_channels: int,
        learned: int,
    ) -> None:
        super().__init__()
        self.patch, self.side = patch_size, input_size // patch_size
        self.channels, self.out_channels, self.num_classes = in_channels, out_channels, num_classes
        self.x_embedder = PlainPatches(patch_size, in_channels, hidden_size)
        self.t_embedder = PlainEmbedder(hidden_size)
        self.y_embedder = PlainLabels(num_classes, hidden_size)
        self.register_buffer("pos_embed", torch.zeros(1, self.side**2, hidden_size))
        self.blocks = nn.ModuleList(PlainBlock(hidden_size, num_heads) for _ in range(depth))
        self.final_layer = PlainFinal(hidden_size, patch_size**2 * learned)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        tokens = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(labels)
        for block in self.blocks:
            tokens = block(tokens, c)
        out = self.final_layer(tokens, c)
        out = out.reshape(len(x), self.side, self.side, self.patch, self.patch, -1)
        out = torch.einsum("nhwpqc->nchpwq", out).reshape(len(x), -1, self.side * self.patch, self.side * self.patch)
        return out[:, : self.out_channels]

    def guided(self, x: Tensor, t: float, labels: Tensor, scale: float, channels: int) -> Tensor:
        """Classifier-free guidance of the first channels, as in the official scripts."""
        null = torch.full_like(labels, self.num_classes)
        time = torch.full((2 * len(x),), t, device=x.device)
        out = self(torch.cat([x, x]), time, torch.cat([labels, null]))
        guided, rest = out[:, :channels], out[: len(x), channels:]
        conditional, unconditional = guided.chunk(2)
        return torch.cat([unconditional + scale * (conditional - unconditional), rest], dim=1)


@torch.inference_mode()
def euler_loop(model: PlainDiT, noise: Tensor, labels: Tensor, steps: int, scale: float, channels: int) -> Tensor:
    """Euler's method along the linear path, from time 0 to 1."""
    x = noise
    for i in range(steps):
        x = x + model.guided(x, i / steps, labels, scale, channels) / steps
    return x


@torch.inference_mode()
def ddim_loop(model: PlainDiT, noise: Tensor, labels: Tensor, steps: int, scale: float, channels: int) -> Tensor:
    """DDIM without noise (arXiv 2010.02502, eq. 12), at evenly spaced times of 1,000 with a linear schedule."""
    products = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    times = [round(i * 999 / (steps - 1)) for i in range(steps)]
    x = noise
    for i in reversed(range(steps)):
        now, before = products[times[i]].item(), products[times[i - 1]].item() if i else 1.0
        epsilon = model.guided(x, times[i], labels, scale, channels)[:, : model.channels]
        clean = (x - (1 - now) ** 0.5 * epsilon) / now**0.5
        x = before**0.5 * clean + (1 - before) ** 0.5 * epsilon
    return x
