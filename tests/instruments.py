"""What the registry of the tests measures samples with: one extractor and one reference that are there, others not."""

from __future__ import annotations

from pathlib import Path

from tests.registry import write_registry

__all__ = ["INSTRUMENTS", "write_instruments"]

INSTRUMENTS = """
[models.scored]
family = "sit"
checkpoint = "shapes-sit/model.safetensors"
num_heads = 4
classes = 100
class_names = "shapes-sit/classes.txt"
condition_dim = 128
latent_shape = [3, 16, 16]
decoder = "pixels"
extractor = "shapes-classifier"
classifier = "shapes-classifier"
reference = "shapes"

[models.scored.defaults]
steps = 50
guidance_scale = 2.5

[extractors]
shapes-classifier = "shapes-classifier/model.safetensors"
inception = "published/inception.pt"

[references.shapes]
dataset = "shapes"
count = 100

[references.photos]
title = "Photographs"
source = "photos"
"""


def write_instruments(folder: Path) -> Path:
    """Write a registry with these and the files that are there; the path of `models.toml`."""
    path = write_registry(folder)
    (folder / "shapes-classifier").mkdir()
    (folder / "shapes-classifier" / "model.safetensors").write_bytes(b"classifier")
    path.write_text(path.read_text() + INSTRUMENTS)
    return path
