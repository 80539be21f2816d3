"""Images -> features that measures compare, and class probabilities.

One extractor for each network, behind one `load_extractor`. Weights are read from local files alone; the libraries that
hold the networks are imported when an extractor needs them.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch

from tailprune.quality.extractors.base import Extracted, Extractor, ExtractorError

__all__ = ["EXTRACTORS", "Extracted", "Extractor", "ExtractorError", "load_extractor"]

EXTRACTORS = ("shapes-classifier", "inception", "clip")
SOURCES = {
    "shapes-classifier": "models/shapes-classifier of the repository, or its model.safetensors",
    "inception": "the TorchScript file inception-2015-12-05.pt",
    "clip": "a folder of a CLIPModel of transformers",
}


def load_extractor(
    name: str, source: str | PathLike[str] | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """The extractor of that name, ready to call, on that device.

    `source` is where its weights are, on this machine. Raises ValueError for a name there is not; its kind
    ExtractorError for a source that is missing or not what it should be.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}")
    if source is None:
        raise ExtractorError(f"extractor {name!r} needs a source: {SOURCES[name]}")
    path = Path(source)
    if not path.exists():
        raise ExtractorError(f"{path}: is not there; extractor {name!r} takes {SOURCES[name]}")
    if name == "shapes-classifier":
        from tailprune.quality.extractors.shapes import load_shapes_classifier

        return load_shapes_classifier(path, device)
    if name == "inception":
        from tailprune.quality.extractors.inception import load_inception

        return load_inception(path, device)
    from tailprune.quality.extractors.clip import load_clip

    return load_clip(path, device)
