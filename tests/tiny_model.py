"""A registry with very small systems of random weights, for tests that are about everything but the pictures.

`tiny`, a SiT in pixels, and `tiny-dit`, a DiT on latents, are whole; of `condition-only` the checkpoint holds the
tensors of `tiny`'s condition and no other.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from tailprune.systems import DiT, SiT
from tailprune.systems.dit import DiTConfig
from tests.registry import Document, write_document

NAME = "tiny"
TINY_DIT = "tiny-dit"
CONDITION_ONLY = "condition-only"
CLASSES = ["circle", "square", "star", "ring"]
WIDTH = 32
HEADS = 2
CURVE = [{"step": 100 * n, "loss": 1 / n, "npr": 0.5 / n, "cosine": 1 - 0.1 / n} for n in range(1, 6)]
CONDITION_TENSORS = ("t_embedder.", "y_embedder.")

SIT_ENTRY: dict[str, Any] = {
    "title": "A very small SiT of random weights",
    "family": "sit",
    "num_heads": 2,
    "classes": 4,
    "class_names": "classes.txt",
    "condition_dim": 32,
    "latent_shape": [3, 8, 8],
    "decoder": "pixels",
    "display_scale": 4,
    "licence": "Apache-2.0",
    "source": "random",
    "card": "README.md",
    "extractor": "shapes-classifier",
    "classifier": "shapes-classifier",
    "reference": "shapes",
    "defaults": {"sampler": "euler", "steps": 4, "guidance_scale": 2.0, "labels": [0, 1]},
}
DIT_ENTRY: dict[str, Any] = {
    "title": "A very small DiT of random weights",
    "family": "dit",
    "checkpoint": "tiny-dit.pt",
    "num_heads": 2,
    "classes": 4,
    "condition_dim": 32,
    "latent_shape": [4, 8, 8],
    "decoder": "latents",
    "licence": "Apache-2.0",
    "source": "random",
    "defaults": {"sampler": "ddim", "steps": 4, "guidance_scale": 2.0, "guided_channels": 3, "labels": [0, 1]},
}
REGISTRY: Document = {
    "models": {
        **{name: SIT_ENTRY | {"checkpoint": f"{name}.safetensors"} for name in (NAME, CONDITION_ONLY)},
        TINY_DIT: DIT_ENTRY,
    },
    "extractors": {
        "shapes-classifier": "classifier.safetensors",
        "inception": "inception.pt",
        "clip": "clip",
        "lpips": "vgg16.pt",
    },
    "references": {
        "shapes": {"title": "Pictures of shapes", "dataset": "shapes", "count": 100},
        "folder": {"title": "A folder of images", "source": "images"},
        "both": {"title": "Moments and images", "source": "both.npz"},
        "published": {"title": "Moments alone", "source": "moments.npz"},
    },
}
CLASSIFIER = Path(__file__).parents[1] / "models" / "shapes-classifier" / "model.safetensors"


def write_tiny_model(folder: Path) -> Path:
    """Writes the checkpoints and their registry; returns the registry's path."""
    shutil.copytree(_made().name, folder, dirs_exist_ok=True)
    return folder / "models.toml"


@cache
def _made() -> TemporaryDirectory[str]:
    """A folder of the same, made once for all tests of this process."""
    made = TemporaryDirectory(prefix="tiny-")
    folder = Path(made.name)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"input_size": 8, "patch_size": 4, "hidden_size": WIDTH, "depth": 1, "num_heads": HEADS}
    sit = SiT(DiTConfig(**shape, in_channels=3, num_classes=len(CLASSES), learn_sigma=False))
    dit = DiT(DiTConfig(**shape, in_channels=4, num_classes=len(CLASSES)))
    for system in (sit, dit):
        for table in (system.y_embedder.embedding_table.weight, system.pos_embed):
            torch.nn.init.normal_(table)
    tensors = sit.state_dict()
    save_file(tensors, folder / f"{NAME}.safetensors")
    condition = {name: tensor for name, tensor in tensors.items() if name.startswith(CONDITION_TENSORS)}
    save_file(condition, folder / f"{CONDITION_ONLY}.safetensors")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "training.json").write_text(json.dumps({"curve": CURVE}))
    torch.save({"ema": dit.state_dict()}, folder / f"{TINY_DIT}.pt")
    shutil.copy(CLASSIFIER, folder / "classifier.safetensors")
    write_document(folder, REGISTRY)
    return made
