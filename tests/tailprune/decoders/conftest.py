"""Checks that hold for every decoder with weights."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import Encoder

from tailprune.decoders import Decoder, load_decoder
from tests.hub import write_cached


@pytest.fixture
def check_batches() -> Callable[[Decoder, torch.Tensor], None]:
    """Checks that a batch is decoded as its items one by one."""

    def check_batches(decode: Decoder, latents: torch.Tensor) -> None:
        together, apart = decode(latents), [decode(one) for one in latents.split(1)]
        assert torch.equal(together.images, torch.cat([one.images for one in apart]))
        if together.sounds is not None:
            assert torch.equal(together.sounds, torch.cat([one.sounds for one in apart]))

    return check_batches


@pytest.fixture
def check_no_encoder() -> Callable[[], None]:
    """Checks that no encoder of diffusers is in memory."""

    def check_no_encoder() -> None:
        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing) is Encoder]

    return check_no_encoder


@pytest.fixture
def check_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path, torch.Tensor], None]:
    """Checks that a decoder is the same from a folder and from the hub's cached copy of it."""

    def check_hub(name: str, folder: Path, latents: torch.Tensor) -> None:
        monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        write_cached(tmp_path / "hub", "owner/repo", files)
        far, near = (load_decoder(name, source)(latents).images for source in ("hf://owner/repo", folder))
        assert torch.equal(far, near)

    return check_hub
