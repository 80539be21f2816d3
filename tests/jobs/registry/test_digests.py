"""What a result depends on, as digests, and how little is read for them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobs.registry import digests
from jobs.registry.digests import content_digest, file_states, identify
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.base import Reads
from tailprune.spec import MissingFileError
from tailprune.spec.layouts import IMAGES
from tests.hub import write_cached
from tests.registry import write_document

TENSORS = {
    "t_embedder.mlp.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "y_embedder.embedding_table.weight": np.arange(8, dtype=np.float32).reshape(4, 2),
    "blocks.0.attn.qkv.weight": np.ones((3, 3), np.float32),
    "blocks.0.adaLN_modulation.1.weight": np.ones((6, 2), np.float32),
}
TIME, LABELS, BLOCK, ADALN = TENSORS
STORED = "ab" * 32


def entry_of(folder: Path, checkpoint: str, hub_cache: Path | None = None, **said: str) -> ModelEntry:
    """A SiT of the registry in a folder."""
    shape = {"classes": 4, "condition_dim": 2, "latent_shape": [4, 8, 8]}
    entry = {"family": "sit", "checkpoint": checkpoint, **shape, **said}
    return Registry.read(write_document(folder, {"models": {"a": entry}}), hub_cache).get("a")


def weights(reads: Reads, folder: Path, checkpoint: str) -> str:
    return identify(reads, entry_of(folder, checkpoint), folder / "data").weights


def weights_with(reads: Reads, folder: Path, changes: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """The digests of a file, and of one of which these tensors are others."""
    save_file(TENSORS, folder / "one.safetensors")
    save_file({**TENSORS, **changes}, folder / "other.safetensors")
    return weights(reads, folder, "one.safetensors"), weights(reads, folder, "other.safetensors")


def put_decoder(folder: Path, content: bytes) -> None:
    """An autoencoder in the folder `vae`."""
    (folder / "vae").mkdir(exist_ok=True)
    (folder / "vae" / "config.json").write_text("{}")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def header(said: Any) -> bytes:
    """What a safetensors file of this header begins with."""
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text


class Counted(io.FileIO):
    """A file that knows how many bytes were read of any."""

    read_bytes = 0

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        Counted.read_bytes += count or 0
        return count


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    """Counts what is read of files by `Path.open`, from zero."""
    opened = Path.open

    def open_counted(path: Path, mode: str = "r", *options: Any, **named: Any) -> Any:
        return io.BufferedReader(Counted(path)) if mode == "rb" else opened(path, mode, *options, **named)

    monkeypatch.setattr(Path, "open", open_counted)
    monkeypatch.setattr(Counted, "read_bytes", 0)
    return Counted


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    assert content_digest(tmp_path / "a.pt", tmp_path / "data") == sha256(b"weights")


def test_a_file_that_changed_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    content_digest(tmp_path / "a.pt", tmp_path / "data")
    (tmp_path / "a.pt").write_bytes(b"other weights")
    assert content_digest(tmp_path / "a.pt", tmp_path / "data") == sha256(b"other weights")


def test_a_file_of_the_same_size_that_changed_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    before = content_digest(tmp_path / "a.pt", tmp_path / "data")
    (tmp_path / "a.pt").write_bytes(b"WEIGHTS")
    os.utime(tmp_path / "a.pt", ns=(0, 1))
    assert content_digest(tmp_path / "a.pt", tmp_path / "data") != before


def test_a_known_digest_is_not_computed_again_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    known = content_digest(tmp_path / "a.pt", tmp_path / "data")
    monkeypatch.setattr(digests, "_digests", {})
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert content_digest(tmp_path / "a.pt", tmp_path / "data") == known


def test_twenty_who_ask_at_once_for_the_digest_of_a_file_read_it_once(tmp_path: Path, counted: type[Counted]) -> None:
    (tmp_path / "a").write_bytes(bytes(2**22))
    together = threading.Barrier(20)

    def ask(_: int) -> str:
        together.wait()
        return content_digest(tmp_path / "a", tmp_path / "data")

    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(ask, range(20)))
    assert found == {sha256(bytes(2**22))}
    assert counted.read_bytes == 2**22


def test_processes_that_ask_at_once_for_the_digest_of_a_file_read_it_once(
    tmp_path: Path, run_python: Callable[[str], str]
) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    code = f"""
import time
from pathlib import Path
from jobs.registry import digests
folder = Path({str(tmp_path)!r})
def slowly(path):
    with (folder / "reads").open("a") as reads:
        reads.write("read ")
    time.sleep(1)
    return digests.hashlib.sha256(path.read_bytes()).hexdigest()
digests._whole = slowly
(folder / str(time.monotonic_ns())).touch()
while len([each for each in folder.iterdir() if each.name.isdecimal()]) < 3:
    time.sleep(0.01)
print(digests.content_digest(folder / "a", folder / "data"))
"""
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: run_python(code).strip(), range(3)))
    assert found == {sha256(bytes(100))}
    assert (tmp_path / "reads").read_text() == "read "


@pytest.mark.parametrize("refused", ["mkdir", "mkstemp", "replace", "flock"])
def test_a_digest_that_cannot_be_noted_is_known_all_the_same(
    tmp_path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = {"mkdir": Path, "mkstemp": digests.tempfile, "replace": digests.os, "flock": digests.fcntl}[refused]
    (tmp_path / "a").write_bytes(b"content")
    with monkeypatch.context() as patched:
        patched.setattr(owner, refused, full)
        assert content_digest(tmp_path / "a", tmp_path / "data") == sha256(b"content")
    left = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert all(len(name) == 64 for name in left), "a part of a note is left behind"


@pytest.mark.parametrize("damaged", [b"", b"ab12", b"\xff" * 64])
def test_a_damaged_note_is_not_taken_for_a_digest(
    tmp_path: Path, damaged: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    content_digest(tmp_path / "a", tmp_path / "data")
    (note,) = [path for path in (tmp_path / "data" / "digests").iterdir() if path.suffix != ".lock"]
    note.write_bytes(damaged)
    monkeypatch.setattr(digests, "_digests", {})  # another process
    assert content_digest(tmp_path / "a", tmp_path / "data") == sha256(b"content")
    assert note.read_text() == sha256(b"content")


def test_digests_for_several_uses_of_a_file_are_not_taken_for_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    whole = weights("model", tmp_path, "a.safetensors")
    of_condition = weights("condition", tmp_path, "a.safetensors")
    monkeypatch.setattr(digests, "_digests", {})
    assert weights("condition", tmp_path, "a.safetensors") == of_condition != whole


def test_what_is_not_there_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a\.pt is missing"):
        content_digest(tmp_path / "a.pt", tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    (tmp_path / "model" / "transformer" / "config.json").write_text("{}")
    (tmp_path / "model" / "transformer" / "weights.bin").write_bytes(b"weights")
    (tmp_path / "model" / "README.md").write_text("what it is")
    return tmp_path / "model"


@pytest.fixture
def before(folder: Path, tmp_path: Path) -> str:
    return content_digest(folder, tmp_path / "data")


def test_the_digest_of_a_folder_changes_when_a_file_in_it_changes(folder: Path, before: str, tmp_path: Path) -> None:
    (folder / "transformer" / "weights.bin").write_bytes(b"other weights")
    assert content_digest(folder, tmp_path / "data") != before


def test_the_digest_of_a_folder_changes_when_a_file_in_it_is_renamed(folder: Path, before: str, tmp_path: Path) -> None:
    (folder / "transformer" / "weights.bin").rename(folder / "transformer" / "other.bin")
    assert content_digest(folder, tmp_path / "data") != before


def test_the_digest_of_a_folder_changes_when_a_file_comes_into_it(folder: Path, before: str, tmp_path: Path) -> None:
    (folder / "more.safetensors").write_bytes(b"weights")
    assert content_digest(folder, tmp_path / "data") != before


def test_the_digest_of_a_folder_stays_when_an_unrelated_file_changes(folder: Path, before: str, tmp_path: Path) -> None:
    (folder / "README.md").write_text("what else it is")
    (folder / "LICENSE").write_text("what may be done")
    assert content_digest(folder, tmp_path / "data") == before


@pytest.mark.parametrize("suffix", IMAGES)
def test_every_image_that_is_read_of_a_reference_is_in_its_identity(folder: Path, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    entry = entry_of(tmp_path, "a.pt")

    def instruments() -> dict[str, str]:
        return identify("model", entry, tmp_path / "data", {"reference photos": folder}).reading["instruments"]

    before = instruments()
    (folder / f"image{suffix.upper()}").write_bytes(b"image")
    assert instruments() != before


def test_a_file_whose_name_is_not_unicode_has_a_digest(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    file.write_bytes(b"image")
    assert content_digest(file, tmp_path / "data") == sha256(b"image")


def test_a_folder_with_a_file_whose_name_is_not_unicode_has_a_digest(folder: Path, before: str, tmp_path: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.safetensors")).write_bytes(b"weights")
    assert content_digest(folder, tmp_path / "data") != before


def test_the_digest_of_a_folder_changes_with_a_file_in_a_folder_that_it_links_to(
    folder: Path, before: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "more.safetensors").write_bytes(b"weights")
    assert content_digest(folder, tmp_path / "data") != before


def test_the_digest_of_a_folder_stays_when_the_folder_is_moved(folder: Path, before: str, tmp_path: Path) -> None:
    assert content_digest(folder.rename(tmp_path / "moved"), tmp_path / "data") == before


def test_the_name_of_a_stored_file_is_taken_for_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {"a.pt": b"weights"})
    monkeypatch.setattr(Path, "open", None)
    assert content_digest(snapshot / "a.pt", tmp_path / "data") == sha256(b"weights")


def test_a_stored_file_of_another_name_is_read(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {"config.json": b"{}"})
    blob = (snapshot / "config.json").resolve()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(blob.rename(blob.with_name("0" * 40)))  # as git names it
    assert content_digest(snapshot / "config.json", tmp_path / "data") == sha256(b"{}")


def test_a_file_that_only_looks_stored_is_read(tmp_path: Path) -> None:
    (tmp_path / STORED).write_bytes(b"weights")
    assert content_digest(tmp_path / STORED, tmp_path / "data") == sha256(b"weights")


def test_a_model_of_the_hub_has_the_digest_that_it_is_stored_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cached(tmp_path / "hub", "owner/repo", {"a.safetensors": b"weights"})
    entry = entry_of(tmp_path, "hf://owner/repo/a.safetensors", tmp_path / "hub")
    monkeypatch.setattr(digests, "_known", None)
    assert identify("model", entry, tmp_path / "data").weights == sha256(b"weights")


def test_the_condition_tensors_of_a_model_of_the_hub_have_the_digest_of_those_of_a_file(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    write_cached(tmp_path / "hub", "owner/repo", {"a.safetensors": (tmp_path / "a.safetensors").read_bytes()})
    of_hub = entry_of(tmp_path, "hf://owner/repo/a.safetensors", tmp_path / "hub")
    assert identify("condition", of_hub, tmp_path / "data").weights == weights("condition", tmp_path, "a.safetensors")


def test_a_model_of_the_hub_that_was_not_fetched_is_reported(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "hf://owner/repo/a.safetensors", tmp_path / "hub")
    with pytest.raises(FileNotFoundError, match=r"hf://owner/repo/a\.safetensors is missing"):
        identify("condition", entry, tmp_path / "data")


def test_the_digest_for_metrics_stays_when_a_block_changes(tmp_path: Path) -> None:
    one, other = weights_with("condition", tmp_path, {BLOCK: np.zeros((5, 5), np.float32)})
    assert one == other


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ("", "99f6a1b36b31c3b1fdc1124b2051874604c81f849c121b2ad381bc44cb41ac29"),
        ("module._orig_mod.", "8708b556d00de839bbe4f1b4e5beef3c7698cda9c9aa26ddbe5e9f88f97bc8da"),
    ],
)
def test_the_digest_for_metrics_stays_what_it_is(tmp_path: Path, wrapper: str, expected: str) -> None:
    """Results are kept by it, and a new one would have them all made again."""
    save_file({wrapper + name: tensor for name, tensor in TENSORS.items()}, tmp_path / "a.safetensors", {"a": "b"})
    assert weights("condition", tmp_path, "a.safetensors") == expected


@pytest.mark.parametrize("name", [TIME, LABELS])
def test_the_digest_for_metrics_changes_when_a_condition_tensor_does(tmp_path: Path, name: str) -> None:
    one, other = weights_with("condition", tmp_path, {name: TENSORS[name] + 1})
    assert one != other


@pytest.mark.parametrize("other", [TENSORS[TIME].reshape(3, 2), TENSORS[TIME].view(np.int32)])
def test_the_digest_for_metrics_changes_with_shape_and_type_of_the_same_bytes(
    tmp_path: Path, other: np.ndarray
) -> None:
    before, after = weights_with("condition", tmp_path, {TIME: other})
    assert before != after


def test_the_digest_for_metrics_changes_when_a_condition_tensor_of_a_wrapper_does(tmp_path: Path) -> None:
    for name, change in (("one", 0), ("other", 1)):
        wrapped = {f"module._orig_mod.{key}": value + change for key, value in TENSORS.items()}
        save_file(wrapped, tmp_path / f"{name}.safetensors")
    one, other = (weights("condition", tmp_path, f"{name}.safetensors") for name in ("one", "other"))
    assert one != other


@pytest.mark.parametrize(("name", "changes"), [(TIME, True), (ADALN, True), (BLOCK, False)])
def test_the_digest_for_modulations_is_of_the_condition_and_adaln(tmp_path: Path, name: str, changes: bool) -> None:
    one, other = weights_with("modulation", tmp_path, {name: TENSORS[name] + 1})
    assert (one != other) is changes
    assert one != weights("condition", tmp_path, "one.safetensors")


@pytest.mark.parametrize("reads", ["condition", "modulation"])
def test_a_file_with_no_tensor_of_these_names_has_the_digest_of_the_whole(reads: Reads, tmp_path: Path) -> None:
    save_file({f"ema.{name}": tensor for name, tensor in TENSORS.items()}, tmp_path / "a.safetensors")
    assert weights(reads, tmp_path, "a.safetensors") == sha256((tmp_path / "a.safetensors").read_bytes())


def test_no_more_is_read_for_metrics_than_the_header_and_the_condition_tensors(
    tmp_path: Path, counted: type[Counted]
) -> None:
    gibibyte = 2**30
    offsets = {TIME: (0, 400), BLOCK: (400, gibibyte - 400), LABELS: (gibibyte - 400, gibibyte)}
    tensors = {
        name: {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop]}
        for name, (start, stop) in offsets.items()
    }
    begin = header(tensors)
    (tmp_path / "great.safetensors").write_bytes(begin)
    os.truncate(tmp_path / "great.safetensors", len(begin) + gibibyte)  # a hole, which takes no room
    weights("condition", tmp_path, "great.safetensors")
    assert 800 <= counted.read_bytes <= 4 * io.DEFAULT_BUFFER_SIZE


def test_the_digest_for_metrics_of_a_folder_as_shipped_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "sit").mkdir()
    save_file(TENSORS, tmp_path / "sit" / "model.safetensors")
    (tmp_path / "sit" / "training.json").write_text("{}")
    of_file = weights("condition", tmp_path, "sit/model.safetensors")
    assert weights("condition", tmp_path, "sit") == of_file


def test_the_digest_for_metrics_of_a_folder_in_diffusers_layout_is_that_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "dit").mkdir()
    save_file(TENSORS, tmp_path / "dit" / "diffusion_pytorch_model.safetensors")
    assert weights("condition", tmp_path, "dit") == content_digest(tmp_path / "dit", tmp_path / "data")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_the_digest_for_metrics_of_a_pickle_is_that_of_the_whole(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"weights")
    assert weights("condition", tmp_path, f"a{suffix}") == sha256(b"weights")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"weights", id="shorter than a size"),
        pytest.param((2**63).to_bytes(8, "little") + b"{}", id="header longer than the file"),
        pytest.param((9).to_bytes(8, "little") + b"no json..", id="header of no JSON"),
        pytest.param((10**5).to_bytes(8, "little") + b"[" * 10**5, id="header nested too deep"),
        pytest.param(header([TIME]), id="header of a list"),
        pytest.param(header({TIME: "F32"}), id="tensor of a text"),
        pytest.param(header({TIME: {"dtype": "F32", "shape": [1]}}), id="no offsets"),
        *(
            pytest.param(header({TIME: {"dtype": "F32", "shape": [1], "data_offsets": offsets}}) + bytes(4), id=what)
            for what, offsets in {
                "one offset": [0],
                "offsets of text": ["0", "4"],
                "offset before the file": [-(10**6), 4],
                "offsets backwards": [4, 0],
                "offset beyond the file": [0, 8],
                "offset beyond all memory": [0, 10**17],
                "offset beyond all numbers": [0, 2**70],
            }.items()
        ),
    ],
)
def test_the_digest_for_metrics_of_a_damaged_file_is_that_of_the_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert weights("condition", tmp_path, "a.safetensors") == sha256(content)


@pytest.mark.parametrize("name", TENSORS)
def test_the_digest_for_samples_changes_when_any_tensor_does(tmp_path: Path, name: str) -> None:
    one, other = weights_with("model", tmp_path, {name: TENSORS[name] + 1})
    assert one != other


@pytest.fixture
def shown(tmp_path: Path) -> ModelEntry:
    save_file(TENSORS, tmp_path / "a.safetensors")
    return entry_of(tmp_path, "a.safetensors", decoder="sd-vae", decoder_source="vae")


def test_samples_are_read_otherwise_once_the_decoder_is_there(shown: ModelEntry, tmp_path: Path) -> None:
    before = identify("model", shown, tmp_path / "data")
    put_decoder(tmp_path, b"decoder")
    after = identify("model", shown, tmp_path / "data")
    assert (before.reading["decoder"], after.reading["decoder"]) == ("latents", "sd-vae")
    assert before.reading["decoder_files"] != after.reading["decoder_files"]


def test_samples_are_read_otherwise_once_the_decoder_is_another(shown: ModelEntry, tmp_path: Path) -> None:
    put_decoder(tmp_path, b"decoder")
    before = identify("model", shown, tmp_path / "data")
    put_decoder(tmp_path, b"another decoder")
    after = identify("model", shown, tmp_path / "data")
    assert before.reading["decoder_files"] != after.reading["decoder_files"]
    assert before.weights == after.weights


def test_samples_are_read_otherwise_once_the_statistics_of_latents_are_others(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    (tmp_path / "vae.pt").write_bytes(b"decoder")
    decoder = {"decoder": "va-vae", "decoder_source": "vae.pt", "decoder_statistics": "statistics.pt"}
    entry = entry_of(tmp_path, "a.safetensors", **decoder)
    (tmp_path / "statistics.pt").write_bytes(b"mean")
    before = identify("model", entry, tmp_path / "data")
    (tmp_path / "statistics.pt").write_bytes(b"another mean")
    assert identify("model", entry, tmp_path / "data").reading != before.reading


def test_metrics_are_the_same_with_and_without_a_decoder(shown: ModelEntry, tmp_path: Path) -> None:
    before = identify("condition", shown, tmp_path / "data")
    put_decoder(tmp_path, b"decoder")
    assert identify("condition", shown, tmp_path / "data") == before


def test_what_shows_names_of_classes_depends_on_them_and_statistics_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "classes.txt").write_text("cat\nowl\nfox\nelk\n")
    entry = entry_of(tmp_path, "a.pt", class_names="classes.txt")
    of_figures, of_statistics = (
        identify(reads, entry, tmp_path / "data") for reads in ("named condition", "condition")
    )
    (tmp_path / "classes.txt").write_text("dog\nowl\nfox\nelk\n")
    assert identify("named condition", entry, tmp_path / "data") != of_figures
    assert identify("condition", entry, tmp_path / "data") == of_statistics


def test_what_is_told_a_guidance_scale_depends_on_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    entry = entry_of(tmp_path, "a.pt", family="mg")
    other = entry.model_copy(update={"defaults": entry.defaults.model_copy(update={"guidance_scale": 3.0})})
    found = [identify("condition", model, tmp_path / "data").reading["guidance_scale"] for model in (entry, other)]
    assert found == [1.0, 3.0]


def test_the_record_of_a_training_stands_for_itself(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "absent.pt", card="README.md")
    (tmp_path / "training.json").write_bytes(b"{}")
    assert identify("training", entry, tmp_path / "data").weights == sha256(b"{}")
    with pytest.raises(FileNotFoundError, match="no card"):
        identify("training", entry_of(tmp_path, "absent.pt"), tmp_path / "data")


def test_metrics_are_read_as_the_family_and_its_numbers_say(shown: ModelEntry, tmp_path: Path) -> None:
    assert identify("condition", shown, tmp_path / "data").reading == {
        "family": "sit",
        "key": None,
        "classes": 4,
        "num_heads": None,
        "decode_layer": None,
    }


def test_the_state_of_files_is_another_after_a_change_and_none_where_one_is_missing(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    entry = entry_of(tmp_path, "a.safetensors", class_names="names.txt")
    before = file_states(entry)
    assert before is not None
    assert file_states(entry) == before
    save_file({**TENSORS, LABELS: TENSORS[LABELS] + 1}, tmp_path / "a.safetensors")
    os.utime(tmp_path / "a.safetensors", ns=(1, 1))  # clocks of file systems are coarse
    assert file_states(entry) not in (None, before)
    (tmp_path / "names.txt").unlink()
    assert file_states(entry) is None


def test_the_state_of_a_folder_is_that_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "part").mkdir(parents=True)
    save_file(TENSORS, tmp_path / "a" / "part" / "one.safetensors")
    entry = entry_of(tmp_path, "a")
    before = file_states(entry)
    (tmp_path / "a" / "part" / "two.json").write_text("{}")
    after = file_states(entry)
    assert before is not None
    assert after is not None
    assert len(after) == len(before) + 1
    shutil.rmtree(tmp_path / "a")
    assert file_states(entry) is None
