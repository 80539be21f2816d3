"""Files of tensors that are written here: their bytes are a function of what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, safe_open, save_file

import tailprune
from tailprune.checkpoints import Pieces, write_tensors
from tailprune.spec import InputError
from tailprune.systems import DiT, System
from tests.tailprune.conftest import random_system

TYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.uint16, torch.uint32, torch.uint64, torch.complex64),
)
METADATA = {"zebra": "ü\n\x01", "ähre": '"\\', "compacted_from": "somewhere"}


def counted(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers that every type can hold, the same on every machine."""
    return (torch.arange(torch.Size(shape).numel()) % 16).reshape(shape).to(dtype)


@pytest.fixture
def every_type() -> System:
    """A system with a tensor of each type, one of no dimensions and one of no elements."""
    system = random_system(DiT, time_gaps=127, mlp_norm_eps=1e-5)
    system.load_state_dict({name: counted(tuple(value.shape)) for name, value in system.state_dict().items()})
    for dtype in TYPES:
        system.register_buffer(f"of_{dtype}".replace("torch.", ""), counted((2, 3), dtype))
    system.register_buffer("scalar", torch.tensor(0.5))
    system.register_buffer("empty", torch.zeros(0, 4))
    system.register_buffer("türned", counted((3, 4)).T)
    return system


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "c44f851ce643234cf242406e8747e6193aceff50451f7e840b08c6ba0aaedbbd"),
        (METADATA, "cc22ffabfe2d3a04d88c0c7e95cc53c73c8f6c0e526c893688f4999b4233f1be"),
    ],
    ids=["as it is", "with more metadata"],
)
def test_the_bytes_of_a_saved_system_stay_what_they_are(
    every_type: System, tmp_path: Path, metadata: dict[str, str], expected: str
) -> None:
    """Artifacts are kept by their digests."""
    tailprune.save_system(every_type, tmp_path / "a.safetensors", metadata)
    assert digest((tmp_path / "a.safetensors").read_bytes()) == expected


def test_a_saved_system_has_the_bytes_that_the_library_writes_but_for_the_order_of_metadata(
    every_type: System, tmp_path: Path
) -> None:
    tailprune.save_system(every_type, tmp_path / "ours.safetensors", METADATA)
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        metadata = file.metadata()
    assert METADATA.items() < metadata.items()
    tensors = {name: tensor.contiguous() for name, tensor in every_type.state_dict().items()}
    torch.testing.assert_close(load_file(tmp_path / "ours.safetensors"), tensors, rtol=0, atol=0)
    save_file(tensors, tmp_path / "theirs.safetensors", metadata)
    ours, theirs = ((tmp_path / f"{whose}.safetensors").read_bytes() for whose in ("ours", "theirs"))
    assert len(ours) == len(theirs)
    tensors_at = ours.index(b'},"') + 1  # after the metadata
    assert ours[tensors_at:] == theirs[tensors_at:]


def test_a_system_is_not_saved_where_there_is_no_folder(every_type: System, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"there is no folder {tmp_path / 'none'} to write a.safetensors to"):
        tailprune.save_system(every_type, tmp_path / "none" / "a.safetensors")


def test_everyone_may_read_a_saved_system(every_type: System, tmp_path: Path) -> None:
    tailprune.save_system(every_type, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_system_is_saved_over_the_file_that_it_was_mapped_from(dit: System, tmp_path: Path) -> None:
    tailprune.save_system(dit, tmp_path / "a.safetensors")
    mapped = load_file(tmp_path / "a.safetensors")
    dit.load_state_dict(mapped, assign=True)
    tailprune.save_system(dit, tmp_path / "a.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "a.safetensors"), mapped, rtol=0, atol=0)


FILES = {
    "metadata": (
        {"b": counted((2, 3)).T, "a": counted((2,), torch.int64)},
        METADATA,
        "221dec4cf30195440937a6be83d5aa38228a531e60d648c006efe942f94ab0c7",
    ),
    "a number": (
        {"c": torch.tensor(0.5), "timesteps": torch.tensor(3)},
        {"model": "m"},
        "1e3c46ce8ee399ccdd1e644892f397dae11737a426cf347b87425d22ff6dc71e",
    ),
    "nothing": (
        {"ü": torch.zeros(0, 3), "i": torch.zeros(2, 0, dtype=torch.int64)},
        {},
        "22b3eff0b36489fd2a6c4d40ca27aaffec1faa02e6f6f559c9aac7a3d611e656",
    ),
}


def written(tensors: Mapping[str, torch.Tensor | Pieces], metadata: dict[str, str], folder: Path) -> bytes:
    write_tensors(folder / "vectors.safetensors", tensors, metadata)
    return (folder / "vectors.safetensors").read_bytes()


@pytest.mark.parametrize(("tensors", "metadata", "expected"), FILES.values(), ids=FILES)
def test_the_bytes_of_a_file_of_vectors_stay_what_they_are(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], expected: str, tmp_path: Path
) -> None:
    content = written(tensors, metadata, tmp_path)
    torch.testing.assert_close(load(content), tensors, rtol=0, atol=0)
    assert digest(content) == expected


def test_a_file_of_tensors_has_the_same_bytes_every_time_and_reads_back(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([7, 8])}
    metadata = {"model": "m", "family": "f", "digest": "ü"}
    content = written(tensors, metadata, tmp_path)
    assert {written(tensors, metadata, tmp_path) for _ in range(5)} == {content}
    torch.testing.assert_close(load(content), tensors, rtol=0, atol=0)
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])["__metadata__"] == metadata
    assert (8 + size) % 8 == 0


def test_a_tensor_in_pieces_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    whole = counted((5, 3, 4))
    pieces = Pieces(whole.dtype, (5, 3, 4), iter(whole.split(2)))
    last = {"last": torch.ones(2)}
    assert written({"c": pieces, **last}, {}, tmp_path) == written({"c": whole, **last}, {}, tmp_path)


def test_a_tensor_in_pieces_is_never_whole_in_memory(run_python: Callable[[str], str], tmp_path: Path) -> None:
    grown = run_python(f"""
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
import torch
from tailprune.checkpoints import Pieces, write_tensors
def write(count):
    pieces = Pieces(torch.float32, (count, 2**18), (torch.full((2**18,), float(each)) for each in range(count)))
    write_tensors(Path({str(tmp_path / "c.safetensors")!r}), {{"c": pieces}}, {{}})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = write(4)
print(write(256) - before)  # KiB, of a file of 256 MiB
""")
    assert int(grown) < 64 * 1024
    assert (tmp_path / "c.safetensors").stat().st_size > 256 * 2**20
