"""The names of the files and folders of checkpoints and decoders, and which of them a folder lacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "CONFIG",
    "DIFFUSERS_WEIGHTS",
    "IMAGES",
    "INDEX",
    "PICKLES",
    "SAFETENSORS",
    "TENSOR_FILES",
    "TRANSFORMER",
    "VAE",
    "VOCODER",
    "VOCODER_WEIGHTS",
    "WEIGHTS",
    "missing_from_checkpoint",
    "missing_from_decoder",
]

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
TENSOR_FILES = (SAFETENSORS, *PICKLES)
"""The endings of the names of files of tensors."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""The endings of the names of image files."""

WEIGHTS = "model.safetensors"
"""The file of a system's weights in a folder."""
CONFIG = "config.json"
"""The configuration that diffusers and transformers write beside weights."""
DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
VOCODER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
"""The ending of the index of weights in several files, after the first of the names above."""
TRANSFORMER, VAE, VOCODER = "transformer", "vae", "vocoder"
"""The folders of a diffusers repository, each with a configuration and weights."""


def missing_from_checkpoint(path: Path) -> list[str]:
    """The files that the folder of a checkpoint lacks, by their names in it; an empty list for a file."""
    if path.is_file() or (path / WEIGHTS).is_file():
        return []
    within = f"{TRANSFORMER}/" if (path / TRANSFORMER).is_dir() else ""
    if not within and not (path / CONFIG).is_file():
        return [WEIGHTS]
    return _lacks(path, within, DIFFUSERS_WEIGHTS)


def missing_from_decoder(name: str, path: Path) -> list[str]:
    """The files that the folder of a decoder of this name lacks; an empty list for a file."""
    if path.is_file():
        return []
    if name == "audioldm":
        return [*_lacks(path, f"{VAE}/", DIFFUSERS_WEIGHTS), *_lacks(path, f"{VOCODER}/", VOCODER_WEIGHTS)]
    return _lacks(path, f"{VAE}/" if (path / VAE).is_dir() else "", DIFFUSERS_WEIGHTS)


def _lacks(folder: Path, within: str, weights: Sequence[str]) -> list[str]:
    """Which of a configuration and its weights, in one of these files or in several with an index, are missing."""
    absent = [] if (folder / within / CONFIG).is_file() else [within + CONFIG]
    index = folder / within / (weights[0] + INDEX)
    if index.is_file():
        return absent + [within + part for part in _parts(index) if not (folder / within / part).is_file()]
    if not any((folder / within / name).is_file() for name in weights):
        absent.append(within + weights[0])
    return absent


def _parts(index: Path) -> list[str]:
    """The files of an index; none if it cannot be read, which loading it will report."""
    try:
        return sorted({str(part) for part in json.loads(index.read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
