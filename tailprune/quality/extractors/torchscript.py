"""Networks that are published as TorchScript: their code comes in the file, and is run by torch's interpreter alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.jit import ScriptModule

from tailprune.quality.extractors.base import ExtractorError
from tailprune.quality.files import digest_of_files

__all__ = ["named", "open_torchscript"]

SHOWN = 12
"""Digits of a digest that tell networks apart in a name."""


def open_torchscript(path: Path, device: str | torch.device, fit: str) -> tuple[ScriptModule, str]:
    """The network and the digest of its file. Raises ExtractorError; `fit` says what would have been right."""
    if not path.is_file():
        raise ExtractorError(f"{path}: is {'a folder' if path.is_dir() else 'not there'}; it takes {fit}")
    try:
        model = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ExtractorError(f"{path}: is not a TorchScript file; it takes {fit}") from error
    return model.eval(), digest_of_files([path])


def named(name: str, digest: str) -> str:
    """The name of a network that is not known by its digest: numbers of two files must not look alike."""
    return f"{name}:{digest[:SHOWN]}"
