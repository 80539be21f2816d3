"""Statistics of a file of the published size: no more of it is touched than the condition's tensors."""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.stack import running
from tests.registry import write_document

OFFICIAL = json.loads((Path(__file__).parents[1] / "reference" / "official_checkpoints.json").read_text())
NAME = "DiT-XL/2 256"
CONDITION = ("t_embedder.", "y_embedder.")
MOST_TOUCHED = 0.02


def write_sparse(path: Path) -> None:
    """A safetensors file of the published names and shapes: random condition tensors, holes for the rest."""
    header, end = {}, 0
    for name, said in OFFICIAL[NAME]["tensors"].items():
        begin, end = end, end + 4 * math.prod(said["shape"])
        header[name] = {"dtype": "F32", "shape": said["shape"], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, said in header.items():
            if name.startswith(CONDITION):
                file.seek(8 + len(text) + said["data_offsets"][0])
                file.write(random.standard_normal(said["shape"], dtype=np.float32).tobytes())
        file.truncate(8 + len(text) + end)


def touched_share(path: Path) -> float:
    """The part of a file that is in memory, by the kernel: pages of it that any process has read or written."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, dtype=np.uint8)
        pages = -(-len(view) // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(view.__array_interface__["data"][0])
        assert libc.mincore(address, ctypes.c_size_t(len(view)), resident) == 0, ctypes.get_errno()
        del view
        return sum(page & 1 for page in resident) / pages


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel which pages were touched")
def test_statistics_of_a_large_file_touch_its_condition_alone(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_sparse(models / "xl.safetensors")
    entry = {
        "family": "dit",
        "checkpoint": "xl.safetensors",
        "classes": 1000,
        "condition_dim": 1152,
        "latent_shape": [4, 32, 32],
    }
    registry = write_document(models, {"models": {"xl": entry}})
    assert (models / "xl.safetensors").stat().st_size > 2.7e9
    with running(tmp_path / "stack", TAILPRUNE_REGISTRY=str(registry)) as stack:
        answer = stack.http.get("/metrics/xl", headers={"Prefer": "wait=50"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["count"], answer.json()["dim"]) == (1000, 1152)
    share = touched_share(models / "xl.safetensors")
    print(f"\n{share:.2%} of {(models / 'xl.safetensors').stat().st_size / 1e9:.2f} GB touched")
    assert 0 < share < MOST_TOUCHED


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel which pages were touched")
def test_touching_more_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**24)
    before = touched_share(path)
    with path.open("rb") as file:
        file.seek(2**22)
        file.read(2**22)
    assert touched_share(path) - before >= 0.25
