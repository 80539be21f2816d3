"""A registry with a very small SiT of random weights, for tests that are about everything but the pictures.

`tiny` is whole; of `condition-only` the checkpoint holds the condition's tensors and no other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from tailprune.systems.dit import SiT

NAME = "tiny"
CONDITION_ONLY = "condition-only"
CLASSES = ["circle", "square", "star", "ring"]
WIDTH = 32
HEADS = 2
CONDITION_TENSORS = ("t_embedder.", "y_embedder.")

REGISTRY = """
[models.{name}]
title = "A very small SiT of random weights"
family = "sit"
checkpoint = "{name}.safetensors"
num_heads = 2
classes = 4
class_names = "classes.txt"
condition_dim = 32
latent_shape = [3, 8, 8]
decoder = "pixels"
display_scale = 4
licence = "Apache-2.0"
source = "random"
[models.{name}.defaults]
sampler = "euler"
steps = 4
guidance_scale = 2.0
labels = [0, 1]
"""


def write_tiny_model(folder: Path) -> Path:
    """Writes both checkpoints and their registry; returns the registry's path."""
    torch.manual_seed(0)
    system = SiT(
        input_size=8,
        patch_size=4,
        in_channels=3,
        hidden_size=WIDTH,
        depth=1,
        num_heads=HEADS,
        num_classes=len(CLASSES),
        learn_sigma=False,
    )
    for table in (system.y_embedder.embedding_table.weight, system.pos_embed):
        torch.nn.init.normal_(table)
    tensors = system.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{NAME}.safetensors")
    condition = {name: tensor for name, tensor in tensors.items() if name.startswith(CONDITION_TENSORS)}
    save_file(condition, folder / f"{CONDITION_ONLY}.safetensors")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    registry = folder / "models.toml"
    registry.write_text(REGISTRY.format(name=NAME) + REGISTRY.format(name=CONDITION_ONLY))
    return registry
