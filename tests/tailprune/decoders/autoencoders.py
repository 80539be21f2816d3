"""Small decoders with random weights, in the formats that the large ones are published in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """With every tensor random, so that none can be left out or taken for another unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        tensor.copy_(_random(name, tuple(tensor.shape), generator))
    return module.eval().requires_grad_(False)


def tiny_vae(**changed: Any) -> AutoencoderKL:
    options = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
    }
    return randomised(AutoencoderKL(**options | changed))


def ldm_weights(
    widths: tuple[int, ...], z: int, resnets: int, attentive: tuple[int, ...] = (), seed: int = 0
) -> dict[str, Tensor]:
    """Tensors of an LDM decoder by name: `widths` by level from the image, `attentive` the levels with attention."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def resnet(name: str, before: int, after: int) -> None:
        layer(f"{name}.norm1", before)
        layer(f"{name}.conv1", after, before, 3, 3)
        layer(f"{name}.norm2", after)
        layer(f"{name}.conv2", after, after, 3, 3)
        if before != after:
            layer(f"{name}.nin_shortcut", after, before, 1, 1)

    def attention(name: str, width: int) -> None:
        layer(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.{part}", width, width, 1, 1)

    width = widths[-1]
    layer("post_quant_conv", z, z, 1, 1)
    layer("decoder.conv_in", width, z, 3, 3)
    resnet("decoder.mid.block_1", width, width)
    attention("decoder.mid.attn_1", width)
    resnet("decoder.mid.block_2", width, width)
    for level in reversed(range(len(widths))):
        for block in range(resnets):
            resnet(f"decoder.up.{level}.block.{block}", width, widths[level])
            width = widths[level]
            if level in attentive:
                attention(f"decoder.up.{level}.attn.{block}", width)
        if level:
            layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    layer("decoder.norm_out", width)
    layer("decoder.conv_out", 3, width, 3, 3)
    generator = torch.Generator().manual_seed(seed)
    return {name: _random(name, shape, generator) for name, shape in shapes.items()}


def ldm_decode(weights: dict[str, Tensor], z: Tensor) -> Tensor:
    """The LDM code's decoder (arXiv 2112.10752) computed from its tensors alone: a reference for the conversion."""

    def conv(name: str, x: Tensor) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    def resnet(name: str, x: Tensor) -> Tensor:
        inner = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", x)))
        inner = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", inner)))
        return inner + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in weights else x)

    def attention(name: str, x: Tensor) -> Tensor:
        normed = norm(f"{name}.norm", x)
        q, k, v = (conv(f"{name}.{part}", normed).flatten(2) for part in ("q", "k", "v"))  # (B, C, HW)
        weight = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5, dim=-1)
        return x + conv(f"{name}.proj_out", torch.einsum("bij,bcj->bci", weight, v).view_as(x))

    def has(name: str) -> bool:
        return any(stored.startswith(f"{name}.") for stored in weights)

    x = conv("decoder.conv_in", conv("post_quant_conv", z))
    x = resnet("decoder.mid.block_1", x)
    x = attention("decoder.mid.attn_1", x)
    x = resnet("decoder.mid.block_2", x)
    levels = 0
    while has(f"decoder.up.{levels}"):
        levels += 1
    for level in reversed(range(levels)):
        block = 0
        while has(f"decoder.up.{level}.block.{block}"):
            x = resnet(f"decoder.up.{level}.block.{block}", x)
            if has(f"decoder.up.{level}.attn.{block}"):
                x = attention(f"decoder.up.{level}.attn.{block}", x)
            block += 1
        if level:
            x = conv(f"decoder.up.{level}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return conv("decoder.conv_out", F.silu(norm("decoder.norm_out", x)))


def statistics(path: Path, channels: int, seed: int = 3) -> tuple[Path, Tensor, Tensor]:
    """A latents_stats.pt, and the mean and deviation in it, with shape (1, C, 1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(1, channels, 1, 1, generator=generator)
    std = torch.rand(1, channels, 1, 1, generator=generator) + 0.5
    torch.save({"mean": mean, "std": std}, path)
    return path, mean, std


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if name.endswith("weight") and len(shape) > 1:
        return noise * shape[0] ** 0.5 / noise.numel() ** 0.5  # keeps the variance of what goes through
    return 0.1 * noise + (1.0 if name.endswith(("weight", "scale")) else 0.0)
