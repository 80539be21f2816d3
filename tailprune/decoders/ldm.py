"""Autoencoders in the format of the LDM code (arXiv 2112.10752): diffusers' configuration and names of their files.

The LDM code numbers levels of the decoder from the image (`up.0`) to the latents, diffusers in the order they compute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tailprune.spec import InputError

__all__ = ["NotLDM", "configuration", "ldm_name"]

GROUPS = 32
"""The groups of every GroupNorm, which neither names nor shapes show."""

RENAMED = (
    (r"\bmid_block\.resnets\.0\b", "mid.block_1"),
    (r"\bmid_block\.resnets\.1\b", "mid.block_2"),
    (r"\bmid_block\.attentions\.0\b", "mid.attn_1"),
    (r"\bresnets\.", "block."),
    (r"\battentions\.", "attn."),
    (r"\bupsamplers\.0\b", "upsample"),
    (r"\bconv_shortcut\b", "nin_shortcut"),
    (r"\bconv_norm_out\b", "norm_out"),
    (r"\bgroup_norm\b", "norm"),
    (r"\bto_(q|k|v)\b", r"\1"),
    (r"\bto_out\.0\b", "proj_out"),
)


class NotLDM(InputError):
    """Names and shapes that do not fit a decoder of the LDM code; the message names them."""


def configuration(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """AutoencoderKL's configuration, from the shapes of a file's tensors by name. Raises NotLDM if they do not fit."""
    resnets = _numbers(shapes, r"decoder\.up\.(\d+)\.block\.(\d+)\.conv2\.weight")
    levels = len({level for level, _ in resnets})
    blocks = len(resnets) // levels if levels else 0
    if not resnets or resnets != [(level, block) for level in range(levels) for block in range(blocks)]:
        raise NotLDM(
            "every level N, from 0, needs decoder.up.N.block.M.conv2.weight, with the same blocks M, from 0; "
            + (f"the file has N.M = {', '.join(f'{n}.{m}' for n, m in resnets)}" if resnets else "the file has none")
        )
    firsts = [f"decoder.up.{level}.block.0.conv2.weight" for level in range(levels)]
    for name in (*firsts, "decoder.conv_in.weight", "decoder.conv_out.weight", "post_quant_conv.weight"):
        if len(shapes.get(name, ())) != 4:
            raise NotLDM(f"{name} must exist, with four dimensions")
    widths = [shapes[name][0] for name in firsts]
    if indivisible := [width for width in widths if width % GROUPS]:
        raise NotLDM(f"a level has {indivisible[0]} channels, not a multiple of the {GROUPS} groups of GroupNorm")
    attentive = {level for level, _ in _numbers(shapes, r"decoder\.up\.(\d+)\.attn\.(\d+)\.q\.weight")}
    return {
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": [
            "AttnUpDecoderBlock2D" if level in attentive else "UpDecoderBlock2D" for level in reversed(range(levels))
        ],
        "layers_per_block": blocks - 1,  # a decoder has one more
        "norm_num_groups": GROUPS,
        "mid_block_add_attention": "decoder.mid.attn_1.q.weight" in shapes,
    }


def ldm_name(name: str, levels: int) -> str:
    """The LDM code's name of a tensor of diffusers' decoder with `levels` levels."""
    name = re.sub(r"\bup_blocks\.(\d+)\b", lambda level: f"up.{levels - 1 - int(level[1])}", name)
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _numbers(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> list[tuple[int, int]]:
    found = (re.fullmatch(pattern, name) for name in shapes)
    return sorted((int(match[1]), int(match[2])) for match in found if match)
