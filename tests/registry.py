"""A registry of one small model whose checkpoint is no real one: enough for all but the science."""

from __future__ import annotations

from pathlib import Path

REGISTRY = """
[models.shapes-sit]
title = "SiT on shapes"
family = "sit"
checkpoint = "shapes-sit/model.safetensors"
num_heads = 4
classes = 100
class_names = "shapes-sit/classes.txt"
condition_dim = 128
latent_shape = [3, 16, 16]
decoder = "pixels"
display_scale = 8
licence = "Apache-2.0"
source = "made for tests"

[models.shapes-sit.defaults]
sampler = "euler"
steps = 50
guidance_scale = 2.5
guided_channels = "all"
labels = [0, 11]
samples_per_label = 1

[models.absent-dit]
title = "DiT whose checkpoint is not there"
family = "dit"
checkpoint = "absent-dit/model.safetensors"
classes = 10
condition_dim = 64
latent_shape = [4, 8, 8]
decoder = "latents"
licence = "Apache-2.0"
source = "made for tests"

[models.absent-dit.defaults]
sampler = "ddim"
steps = 20
guidance_scale = 4.0
labels = [0]
"""


def write_registry(folder: Path) -> Path:
    """Write the registry and its files; the path of `models.toml`."""
    (folder / "shapes-sit").mkdir(parents=True)
    (folder / "shapes-sit" / "model.safetensors").write_bytes(b"weights")
    (folder / "shapes-sit" / "classes.txt").write_text("\n".join(f"class {n}" for n in range(100)))
    path = folder / "models.toml"
    path.write_text(REGISTRY)
    return path
