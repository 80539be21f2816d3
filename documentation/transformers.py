"""The table of docs/large-transformers.md: `python -m documentation.transformers`.

The configurations are those that the models were published with; a field that is not here has the default of its class
in diffusers. No weights are read or made: diffusers builds each class on the meta device, a file of its tensors' names,
types and shapes is written with a hole in place of every value, and tailprune looks at that file.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.spec.safetensors import encode_header
from tailprune.transformers import Anatomy, anatomy

__all__ = ["PUBLISHED", "row", "table", "write_headers"]

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "MiniMax-H3": ("MiniMaxH3Transformer3DModel", {}),
    "Qwen-Image": ("QwenImageTransformer2DModel", {}),
    "HunyuanImage 2.1": ("HunyuanImageTransformer2DModel", {"text_embed_2_dim": 1472}),
    "HunyuanVideo": ("HunyuanVideoTransformer3DModel", {}),
    "FLUX.1-dev": ("FluxTransformer2DModel", {"guidance_embeds": True}),
    "FLUX.1-schnell": ("FluxTransformer2DModel", {"guidance_embeds": False}),
    "HunyuanVideo 1.5": ("HunyuanVideo15Transformer3DModel", {}),
    "Mochi 1": ("MochiTransformer3DModel", {}),
    "SD3.5-large": (
        "SD3Transformer2DModel",
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
    ),
    "HiDream-I1": (
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "caption_channels": [4096, 4096],
            "llama_layers": list(range(32)) + [31] * 16,
        },
    ),
    "AuraFlow 0.3": ("AuraFlowTransformer2DModel", {"pos_embed_max_size": 9216}),
    "LongCat-Image": ("LongCatImageTransformer2DModel", {"num_layers": 10, "num_single_layers": 20}),
    "Ovis-Image": ("OvisImageTransformer2DModel", {}),
    "CogVideoX-5b": ("CogVideoXTransformer3DModel", {"num_layers": 42, "num_attention_heads": 48}),
    "SD3.5-medium": (
        "SD3Transformer2DModel",
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 384,
            "qk_norm": "rms_norm",
            "dual_attention_layers": list(range(13)),
        },
    ),
    "CogView4-6B": (
        "CogView4Transformer2DModel",
        {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128},
    ),
    "SD3-medium": (
        "SD3Transformer2DModel",
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 192,
        },
    ),
    "CogVideoX-2b": ("CogVideoXTransformer3DModel", {}),
    "DiT-XL/2": ("DiTTransformer2DModel", {}),
}

COLUMNS = (
    *("model", "class", "all, 10⁹", "AdaLN, 10⁹", "share", "layers", "width of c", "c is made of"),
    *("AdaLN", "50 steps", "rank 64"),
)


def write_headers(model: str, folder: Path, **changes: Any) -> None:
    """A folder as diffusers saves the model in bfloat16, with a hole in place of every value.

    changes: fields of the configuration that are other than in the published one
    """
    import diffusers
    import torch

    name, config = PUBLISHED[model]
    config = {**config, **changes}
    with torch.device("meta"):
        built = getattr(diffusers, name)(**config)
    shapes = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    header = encode_header({name: ("BF16", shape, 2 * math.prod(shape)) for name, shape in sorted(shapes.items())})
    (folder / CONFIG).write_text(json.dumps({"_class_name": name, **config}))
    with (folder / DIFFUSERS_WEIGHTS[0]).open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(2 * math.prod(shape) for shape in shapes.values()))


def table() -> list[str]:
    """The rows of the table, the largest AdaLN first."""
    found: dict[str, Anatomy] = {}
    for model in PUBLISHED:
        with tempfile.TemporaryDirectory() as folder:
            write_headers(model, Path(folder))
            found[model] = anatomy(folder)
    ordered = sorted(found.items(), key=lambda item: -item[1].adaln_parameters)
    return [_line(COLUMNS), "|" + "---|" * len(COLUMNS), *(row(model, each) for model, each in ordered)]


def row(model: str, found: Anatomy) -> str:
    """The row of one model, of whose weights the headers alone were read."""
    rank, steps = found.replacements
    cells = [
        model,
        f"`{found.name}`",
        f"{found.parameters / 1e9:.2f}",
        f"{found.adaln_parameters / 1e9:.2f}",
        f"{100 * found.adaln_share:.1f} %",
        f"{sum(group.count for group in found.linears)}",
        f"{found.condition_dim:,}",
        " + ".join(found.depends_on),
        f"{found.adaln_bytes / 1e9:.2f}",
        f"{steps.bytes / 1e9:.2f}",
        f"{rank.bytes / 1e9:.2f}",
    ]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join(table()))
