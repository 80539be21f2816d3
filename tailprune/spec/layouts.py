"""Whether all the files are there that a checkpoint or a decoder is made from, by the layouts that are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

__all__ = ["IMAGES", "missing_from_checkpoint", "missing_from_decoder"]

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""The files of a folder of images."""
CONFIG = "config.json"
SHIPPED = "model.safetensors"
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
VOCODER = ("model.safetensors", "pytorch_model.bin")


def missing_from_checkpoint(path: Path) -> list[str]:
    """The files that a checkpoint's folder lacks, by their names in it; nothing for a file."""
    if path.is_file() or (path / SHIPPED).is_file():
        return []
    within = "transformer/" if (path / "transformer").is_dir() else ""
    if not within and not (path / CONFIG).is_file():
        return [SHIPPED]
    return _lacks(path, within, DIFFUSERS)


def missing_from_decoder(name: str, path: Path) -> list[str]:
    """The files that the folder of a decoder of this name lacks; nothing for a file."""
    if path.is_file():
        return []
    if name == "audioldm":
        return [*_lacks(path, "vae/", DIFFUSERS), *_lacks(path, "vocoder/", VOCODER)]
    return _lacks(path, "vae/" if (path / "vae").is_dir() else "", DIFFUSERS)


def _lacks(folder: Path, within: str, weights: Sequence[str]) -> list[str]:
    """What is not there of a configuration and its weights, in one file of these names or several with an index."""
    absent = [] if (folder / within / CONFIG).is_file() else [within + CONFIG]
    index = folder / within / f"{weights[0]}.index.json"
    if index.is_file():
        return absent + [within + part for part in _parts(index) if not (folder / within / part).is_file()]
    if not any((folder / within / name).is_file() for name in weights):
        absent.append(within + weights[0])
    return absent


def _parts(index: Path) -> list[str]:
    """The files of an index; none where it cannot be read, which the worker will say."""
    try:
        return sorted({str(part) for part in json.loads(index.read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
