"""Registry files: the one way that tests write and change them, and two small registries without real checkpoints."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

Document = Mapping[str, Any]

PLAIN: Document = {
    "models": {
        "shapes-sit": {
            "title": "SiT on shapes",
            "family": "sit",
            "checkpoint": "shapes-sit/model.safetensors",
            "num_heads": 4,
            "classes": 100,
            "class_names": "shapes-sit/classes.txt",
            "condition_dim": 128,
            "latent_shape": [3, 16, 16],
            "decoder": "pixels",
            "display_scale": 8,
            "licence": "Apache-2.0",
            "source": "made for tests",
            "defaults": {
                "sampler": "euler",
                "steps": 50,
                "guidance_scale": 2.5,
                "guided_channels": "all",
                "labels": [0, 11],
                "samples_per_label": 1,
            },
        },
        "absent-dit": {
            "title": "DiT whose checkpoint is not there",
            "family": "dit",
            "checkpoint": "absent-dit/model.safetensors",
            "classes": 10,
            "condition_dim": 64,
            "latent_shape": [4, 8, 8],
            "decoder": "latents",
            "licence": "Apache-2.0",
            "source": "made for tests",
            "defaults": {"sampler": "ddim", "steps": 20, "guidance_scale": 4.0, "labels": [0]},
        },
    }
}

EVALUATED: Document = {
    "models": {
        "scored": {
            "family": "sit",
            "checkpoint": "shapes-sit/model.safetensors",
            "num_heads": 4,
            "classes": 100,
            "class_names": "shapes-sit/classes.txt",
            "condition_dim": 128,
            "latent_shape": [3, 16, 16],
            "decoder": "pixels",
            "extractor": "shapes-classifier",
            "classifier": "shapes-classifier",
            "reference": "shapes",
            "defaults": {"steps": 50, "guidance_scale": 2.5},
        }
    },
    "extractors": {"shapes-classifier": "shapes-classifier/model.safetensors", "inception": "published/inception.pt"},
    "references": {
        "shapes": {"dataset": "shapes", "count": 100},
        "photos": {"title": "Photographs", "source": "photos"},
    },
}


def write_document(folder: Path, document: Document) -> Path:
    """Write `models.toml` in the folder; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "models.toml"
    path.write_text(tomli_w.dumps(document))
    return path


def extend(registry: Path, document: Document) -> None:
    """Add tables to a registry file; a value that it already has is replaced."""
    write_document(registry.parent, _merged(tomllib.loads(registry.read_text()), document))


def write_registry(folder: Path) -> Path:
    """Write the registry `PLAIN` and the files of its first model; the path of `models.toml`."""
    (folder / "shapes-sit").mkdir(parents=True)
    (folder / "shapes-sit" / "model.safetensors").write_bytes(b"weights")
    (folder / "shapes-sit" / "classes.txt").write_text("\n".join(f"class {n}" for n in range(100)))
    return write_document(folder, PLAIN)


def write_evaluated_registry(folder: Path) -> Path:
    """Write `PLAIN` and `EVALUATED`, with the files of one extractor and one reference; the path of `models.toml`."""
    path = write_registry(folder)
    (folder / "shapes-classifier").mkdir()
    (folder / "shapes-classifier" / "model.safetensors").write_bytes(b"classifier")
    extend(path, EVALUATED)
    return path


def _merged(document: Document, more: Document) -> dict[str, Any]:
    """Both, table by table."""
    both = {**document, **more}
    shared = [key for key in document.keys() & more.keys() if isinstance(more[key], Mapping)]
    return both | {key: _merged(document[key], more[key]) for key in shared}
