"""Files that deceive, change or do not fit while they are read or written: nothing is made of them under its name."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError, MissingFileError
from tailprune.transformers import anatomy, compact, convert, converting, lora, project_lora, rewriting, verify, writing
from tailprune.transformers.directions import Directions, best_directions
from tests.tailprune.transformers.test_source import rewrite_header
from tests.tailprune.transformers.tiny_models import TINY

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
EMBEDDED, READS = "time_embedder.linear_2.weight", "transformer_blocks.1.adaln_proj.linear"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MiniMax-H3 in one file and in several, compacted from several, and a LoRA of it."""
    folder = tmp_path_factory.mktemp("made")
    TINY["minimax-h3"].save(folder / "whole")
    TINY["minimax-h3"].save(folder / "many", max_shard_size="60KB")
    compact(folder / "many", folder / "small", rank=8)
    name = f"transformer.{READS}"
    lora = {f"{name}.lora_A.weight": torch.ones(2, 24), f"{name}.lora_B.weight": torch.ones(1152, 2)}
    save_file(lora, folder / "lora.safetensors")
    return folder


@pytest.fixture
def whole(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "whole", tmp_path / "whole"))


@pytest.fixture
def small(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "small", tmp_path / "small"))


def edit_tensors(path: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def refused_by_all(folder: Path, said: str, error: type[Exception] = CheckpointError) -> None:
    """Whatever reads a folder refuses it, and leaves nothing."""
    out = folder.parent / "out"
    lora_file = folder.parent / "l.safetensors"
    save_file({"x.lora_A.weight": torch.ones(1, 1)}, lora_file)
    shutil.copytree(folder, folder.parent / "copy")
    (folder.parent / "copy" / "compaction.json").write_text('{"files": {}, "plan": {}}')
    for call in (
        lambda: anatomy(folder),
        lambda: compact(folder, out, rank=4),
        lambda: verify(folder.parent / "copy", folder),
        lambda: project_lora(lora_file, folder.parent / "copy", folder.parent / "out.safetensors"),
        lambda: convert(folder, out, layout="sglang"),
    ):
        with pytest.raises(error, match=said):
            call()
    assert not [each for each in folder.parent.iterdir() if "out" in each.name]


def twice(path: Path) -> None:
    """Describe the first tensor of a file twice, as readers that keep the first or the last would differ."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    name = next(name for name in header if name != "__metadata__")
    text = (json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}").encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (twice, "the header has '.*' more than once"),
        (
            lambda path: rewrite_header(
                path, lambda header: header[EMBEDDED].update(data_offsets=[10**9, 10**9 + 24 * 48 * 4])
            ),
            "begins at byte",
        ),
        (
            lambda path: rewrite_header(path, lambda header: header[EMBEDDED].update(dtype="F64")),
            "takes 4,608 bytes, but",
        ),
        (
            lambda path: rewrite_header(path, lambda header: header[EMBEDDED].update(shape=[2**62] * 40)),
            "takes 4,608 bytes, but F32 of shape",
        ),
        (
            lambda path: rewrite_header(path, lambda header: header[EMBEDDED].update(shape=[1] * 65)),
            "does not describe a tensor",
        ),
        (
            lambda path: rewrite_header(path, lambda header: header[EMBEDDED].update(shape=[2**64, 0])),
            "does not describe a tensor",
        ),
        (lambda path: path.write_bytes((2**50).to_bytes(8, "little") + path.read_bytes()[8:]), "neither a safetensors"),
        (
            lambda path: path.write_bytes((2**26).to_bytes(8, "little") + path.read_bytes()[8:]),
            "cut short in its header",
        ),
    ],
)
def test_headers_that_lie_are_refused_by_all_that_reads_them(
    spoil: Callable[[Path], Any], said: str, whole: Path
) -> None:
    spoil(whole / WEIGHTS)
    refused_by_all(whole, said)


def test_an_index_that_leads_out_of_the_folder_is_refused(made: Path, tmp_path: Path) -> None:
    many = Path(shutil.copytree(made / "many", tmp_path / "deep" / "many"))
    shard = sorted(many.glob("*-of-*"))[0]

    def outside(index: dict[str, Any]) -> None:
        weights = index["weight_map"]
        weights.update({name: f"../{file}" for name, file in weights.items() if file == shard.name})

    edit_json(many / INDEX, outside)
    with pytest.raises(CheckpointError, match=rf"is in \.\./{shard.name}, which does not have it"):
        anatomy(many)
    shard.rename(many.parent / shard.name)
    with pytest.raises(MissingFileError, match=f"lacks {shard.name}"):
        anatomy(many)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"weight_map": ["a"]}', '{"weight_map": {"a": {}}}', "\udcff"])
def test_an_index_that_is_none_is_refused(text: str, made: Path, tmp_path: Path) -> None:
    many = Path(shutil.copytree(made / "many", tmp_path / "many"))
    (many / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="names no files of weights"):
        anatomy(many)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": 5}, "its class is '5'"),
        ({"_class_name": ["x"]}, "its class is"),
        ({"time_embed_dim": 48}, "time_embed_dim is 48 in its configuration, but c has 24"),
        ({"num_layers": 3}, "num_layers is 3 in its configuration, but the files have 2"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change: dict[str, Any], said: str, whole: Path) -> None:
    edit_json(whole / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError, match=said):
        compact(whole, whole.parent / "out", rank=4)
    assert not (whole.parent / "out").exists()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (EMBEDDED, lambda values: torch.tensor(1.0), "has shape .*, which is no linear layer's"),
        (EMBEDDED, lambda values: values[:, :1].clone(), r"linear_2.weight has shape \[24, 1\], but it reads the 48"),
        (
            "time_embedder.linear_1.weight",
            lambda values: values[:1].clone(),
            "bias has shape .48., and its weight 1 rows",
        ),
        (
            "time_embedder.linear_1.bias",
            lambda values: values[:1].clone(),
            "bias has shape .1., and its weight 48 rows",
        ),
        (
            "time_embedder.linear_2.bias",
            None,
            "one of time_embedder.linear_1 and .* has a bias, and the other has none",
        ),
        (f"{READS}.bias", lambda values: values[:1].clone(), "bias has shape .1., and its weight 1,152 rows"),
        (f"{READS}.bias", None, "some of .* have a bias, and others have none"),
        (EMBEDDED, lambda values: values * float("nan"), "the weights that make the condition hold NaN"),
        ("time_embedder.linear_1.weight", torch.zeros_like, "does not depend on the time"),
        (f"{READS}.weight", lambda values: (values * 100).to(torch.int8), r"weight is quantised \(I8\)"),
        (f"{READS}.bias", lambda values: (values * 100).to(torch.int8), r"bias is quantised \(I8\)"),
        (f"{READS}.weight", lambda values: values * float("inf"), "holds NaN or infinity"),
        (f"{READS}.bias", lambda values: values * float("nan"), "or its bias holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(
    name: str, change: Callable[[Tensor], Tensor] | None, said: str, whole: Path
) -> None:
    edit_tensors(
        whole / WEIGHTS,
        lambda found: found.pop(name) if change is None else found.update({name: change(found[name])}),
    )
    with pytest.raises(CheckpointError, match=said):
        compact(whole, whole.parent / "out", steps=3)
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


@pytest.mark.parametrize("layer", ["to_kv", "to_out", "to_q"])
def test_layers_that_pool_tokens_and_do_not_fit_each_other_are_refused(layer: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    TINY["mochi"].save(whole)
    name = f"time_embed.pooler.{layer}.weight"
    edit_tensors(whole / WEIGHTS, lambda found: found.update({name: found[name][:, 1:].clone()}))
    with pytest.raises(CheckpointError, match=r"time_embed\.pooler\.to_kv, .* do not fit each other"):
        anatomy(whole)


def test_adaln_of_zeros_has_no_error_and_is_refused(whole: Path) -> None:
    edit_tensors(whole / WEIGHTS, lambda found: [found[name].zero_() for name in found if ".linear.weight" in name])
    with pytest.raises(CheckpointError, match="modulations are zero"):
        compact(whole, whole.parent / "out", steps=3)
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


def test_weights_that_their_type_does_not_hold_once_folded_are_refused(tmp_path: Path) -> None:
    TINY["minimax-h3"].build().half().save_pretrained(tmp_path / "whole")
    edit_tensors(tmp_path / "whole" / WEIGHTS, lambda found: found[f"{READS}.weight"].fill_(60_000))
    with pytest.raises(CheckpointError, match="too large for F16 once it is folded"):
        compact(tmp_path / "whole", tmp_path / "small", steps=3)


def test_a_source_that_changes_before_it_is_written_of_is_refused(
    made: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered_by = rewriting.covered_by

    def replaced(*given: Any) -> Any:
        found = covered_by(*given)
        os.utime(whole / WEIGHTS, ns=(0, 10**9))
        return found

    monkeypatch.setattr(rewriting, "covered_by", replaced)
    with pytest.raises(CheckpointError, match="changed while they were read: start again"):
        compact(whole, whole.parent / "out", rank=4)
    assert [path.name for path in whole.parent.iterdir()] == ["whole"], "what is wrong is not gone on with"


def test_what_reads_alone_refuses_a_source_that_changes_too(
    made: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sorted(small.glob("*-of-*"))[0]

    def touch(done: int, total: int) -> None:
        os.utime(first, ns=(0, done))

    with pytest.raises(CheckpointError, match="changed while they were read"):
        verify(small, made / "whole", on_bytes=touch)
    out = small.parent / "merged"
    with pytest.raises(CheckpointError, match="changed while they were read"):
        project_lora(made / "lora.safetensors", small, out, merge=True, on_bytes=touch)
    write = lora.write_tensors
    monkeypatch.setattr(lora, "write_tensors", lambda *given: [write(*given), touch(1, 1)])
    with pytest.raises(CheckpointError, match="changed while they were read"):
        project_lora(made / "lora.safetensors", small, small.parent / "l.safetensors")
    assert [path.name for path in small.parent.iterdir()] == ["small"]


def full_after(files: int) -> Callable[..., None]:
    """`write_file` on a disk that is full in the middle of a file, after so many."""
    write, numbers = writing.write_file, itertools.count()

    def limited(path: Path, header: bytes, values: Iterable[bytes | memoryview]) -> None:
        def some() -> Iterator[bytes | memoryview]:
            for each in values:
                yield each
                if number >= files:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        number = next(numbers)
        write(path, header, some())

    return limited


@pytest.mark.parametrize("files", [0, 2])
def test_a_disk_that_is_full_meanwhile_is_said_and_the_next_call_goes_on(
    files: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_file", full_after(files))
        with pytest.raises(InputError, match=r"has no room left: 0\.\d\d GB were needed at the start \([\d,]+ bytes\)"):
            compact(made / "many", tmp_path / "small", rank=8)
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert not [name for name in left if name.startswith(".diffusion")], "no part of a file takes the room"
    assert (len(left) == 0) if files == 0 else (len([name for name in left if name.endswith(".safetensors")]) == 2)
    resumed = compact(made / "many", tmp_path / "small", rank=8)
    assert resumed.files == json.loads((made / "small" / "compaction.json").read_text())["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_lora_on_a_full_disk_leaves_nothing(
    merge: bool, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / ("merged" if merge else "l.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full) if merge else patched.setattr(lora, "write_tensors", full)
        with pytest.raises(InputError, match="has no room left"):
            project_lora(made / "lora.safetensors", made / "small", out, merge=merge)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="GB of room"):
        project_lora(made / "lora.safetensors", made / "small", out, merge=merge)
    assert not list(tmp_path.iterdir())


def test_a_finished_file_that_was_lost_is_written_again(made: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(made / "many", tmp_path / "small", rank=8, on_bytes=stop)
    first, second = sorted((tmp_path / ".small.partial").glob("*.safetensors"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    resumed = compact(made / "many", tmp_path / "small", rank=8)
    for name, digest in resumed.files.items():
        assert hashlib.sha256((tmp_path / "small" / name).read_bytes()).hexdigest() == digest


def test_files_that_were_made_with_other_directions_are_written_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    def otherwise(*given: Any) -> Directions:
        found = best_directions(*given)
        return Directions(found.mean, -found.encode, -found.decode)

    with pytest.raises(KeyboardInterrupt):
        compact(made / "many", tmp_path / "small", rank=8, on_bytes=stop)
    assert list((tmp_path / ".small.partial").glob("*.safetensors"))
    monkeypatch.setattr(rewriting, "best_directions", otherwise)  # as another number of threads may round them
    resumed = compact(made / "many", tmp_path / "small", rank=8)
    assert resumed.files == compact(made / "many", tmp_path / "anew", rank=8).files
    verify(tmp_path / "small", made / "many")


def test_a_name_in_the_source_one_that_exists_and_a_link_to_nowhere_are_refused(made: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(made / "small", repository / "transformer")
    shutil.copytree(made / "whole", tmp_path / "whole")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "alias").symlink_to(tmp_path / "whole")
    for out, said in [
        (tmp_path / "whole", "exists: give another name"),
        (tmp_path / "whole" / "small", "which is read: give a name outside"),
        (tmp_path / "alias" / "deep" / "small", "which is read: give a name outside"),
        (tmp_path / "link", "exists: give another name"),
    ]:
        with pytest.raises(InputError, match=said):
            compact(tmp_path / "whole", out, rank=4)
    for out in (repository / "h3", repository / "transformer" / "h3"):
        with pytest.raises(InputError, match="which is read: give a name outside"):
            convert(repository, out, layout="sglang")
    for out, said in [
        (repository / "transformer" / "h3", "which is read"),
        (tmp_path / "link", "exists: give another"),
    ]:
        with pytest.raises(InputError, match=said):
            project_lora(made / "lora.safetensors", repository / "transformer", out, merge=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alias", "link", "repository", "whole"]
    assert not list(tmp_path.rglob("*.partial"))


def test_what_others_make_under_the_name_meanwhile_stays(made: Path, tmp_path: Path) -> None:
    def make(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "h3.safetensors").write_text("mine")

    with pytest.raises(FileExistsError, match="was made by another meanwhile"):
        convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui", on_bytes=make)
    assert (tmp_path / "h3.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    "account",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"files": [], "plan": {}}',
        '{"files": {}, "plan": []}',
        '{"files": {}, "plan": null}',
    ],
)
def test_an_account_that_is_none_is_refused(account: str, made: Path, small: Path) -> None:
    (small / "compaction.json").write_text(account)
    with pytest.raises(CheckpointError, match=r"compaction\.json: (is not|does not say)"):
        verify(small, made / "whole")


@pytest.mark.parametrize(
    "plan",
    [
        {"times": "all"},
        {"times": [["a"]]},
        {"times": [[[0.5]]]},
        {"times": [[float("nan")]]},
        {"times": [[]]},
        {"times": [[0.5] * 5000]},
        {"times": [[10**400]]},
        {"guidance": "x"},
        {"pooled": "zero"},
        {"pooled": "other"},
        {"population": 5},
        {"rank": None, "times": [[0.5]]},
    ],
)
def test_a_plan_that_compact_does_not_make_is_refused(plan: dict[str, Any], made: Path, small: Path) -> None:
    edit_json(small / "compaction.json", lambda said: said["plan"].update(plan))
    with pytest.raises(CheckpointError, match=r"does not say what was done|is not stated as"):
        verify(small, made / "whole")


@pytest.mark.parametrize("stated", [float("nan"), float("inf"), 10**400, "0.1", None, [], True])
def test_an_error_that_is_no_number_is_refused(stated: Any, made: Path, small: Path) -> None:
    edit_json(small / "compaction.json", lambda said: said.update(worst_error=stated))
    with pytest.raises(CheckpointError, match=r"worst_error is .*, and compaction\.json says"):
        verify(small, made / "whole")


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        (f"{READS}.weight", lambda values: values.fill_(float("nan")), "error is nan"),
        (f"{READS}.weight", lambda values: values[:, :7].clone(), "has the shape .1152, 7., not .1152, 8."),
        (f"{READS}.bias", lambda values: values[:1].clone(), "has the shape .1., not .1152."),
        ("adaln_basis.mean", lambda values: values[:1].clone(), "has the shape .1., not .24."),
        ("adaln_basis.weight", lambda values: values[0].clone(), "adaln_basis.weight has the shape"),
    ],
)
def test_weights_of_another_shape_or_none_are_found_by_verify(
    name: str, edit: Callable[[Tensor], Tensor], said: str, made: Path, small: Path
) -> None:
    file = small / json.loads((small / INDEX).read_text())["weight_map"][name]
    edit_tensors(file, lambda found: found.update({name: edit(found[name])}))
    edit_json(small / "compaction.json", lambda account: account.update(files={}))
    with pytest.raises(CheckpointError, match=said):
        verify(small, made / "whole")
    if name.startswith("adaln_basis"):
        with pytest.raises(CheckpointError, match="adaln_basis has the shapes"):
            project_lora(made / "lora.safetensors", small, small.parent / "l.safetensors")


@pytest.mark.parametrize("name", ["adaln_t_table", "blocks.0.attn.q_norm.weight", "rope.inv_freq"])
def test_single_numbers_where_a_layout_has_rows_are_refused(name: str, made: Path, tmp_path: Path) -> None:
    convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui")
    edit_tensors(tmp_path / "h3.safetensors", lambda found: found.update({name: torch.tensor(1.0)}))
    with pytest.raises(CheckpointError, match=f"{name} is a single number"):
        convert(tmp_path / "h3.safetensors", tmp_path / "back", layout="diffusers")


@pytest.mark.parametrize(("layout", "other"), [("fastvideo", "sglang"), ("sglang", "fastvideo")])
def test_a_conversion_that_was_stopped_goes_on_with_the_files_that_are_there(
    layout: str, other: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "SHARD", 60_000)
    at_once = convert(made / "small", tmp_path / "at-once", layout=layout)
    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_file", full_after(2))
        with pytest.raises(InputError, match="has no room left"):
            convert(made / "small", tmp_path / "h3", layout=layout)
    assert not (tmp_path / "h3").exists()
    with pytest.raises(InputError, match="unfinished run of another kind"):
        convert(made / "small", tmp_path / "h3", layout=other)
    written, write = [], writing.write_file
    monkeypatch.setattr(writing, "write_file", lambda path, *rest: [written.append(path.name), write(path, *rest)])
    resumed = convert(made / "small", tmp_path / "h3", layout=layout)
    assert written == sorted(resumed.files)[2:]
    assert dataclasses.replace(resumed, path=at_once.path) == at_once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at-once", "h3"]
