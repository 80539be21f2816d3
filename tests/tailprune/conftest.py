"""Small random systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tailprune.systems import DiT, SiT, System
from tests.choices import torchs_own  # noqa: F401, a fixture of all these tests

CONFIGURATION: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 4,
    "num_classes": 10,
}


def random_system(cls: type[System], **changes: Any) -> System:
    torch.manual_seed(0)
    system = cls(cls.config_class(**(CONFIGURATION | changes)))
    for tensor in system.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.15)
    return system.requires_grad_(False).eval()


@pytest.fixture
def sit() -> System:
    return random_system(SiT)


@pytest.fixture
def dit() -> System:
    return random_system(DiT)


@pytest.fixture
def dit_file(dit: System, tmp_path: Path) -> Path:
    path = tmp_path / "dit.safetensors"
    save_file(dit.state_dict(), path)
    return path
