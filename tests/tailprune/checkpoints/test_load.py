"""Loading: formats, inference of the configuration, refusal of what does not fit, and how little is read."""

from __future__ import annotations

import argparse
import os
import pickle
import pickletools
import re
import sys
import types
import zipfile
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tailprune
from tailprune import checkpoints
from tailprune.checkpoints import Checkpoint, CheckpointError
from tailprune.systems import DiT, SiT, System
from tailprune.systems.dit import DiTConfig
from tests.registry import write_document
from tests.tailprune.conftest import random_system

DIT_ENTRY = {"family": "dit", "checkpoint": "dit.safetensors", "num_heads": 4}


class Options(dict):
    """A dict of a training script."""


class Losses(list):
    """A list of a training script."""


def with_name(of: Options | Losses) -> Options | Losses:
    of.name = "last"
    return of


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_wrappers_of_training_put_before_names_is_taken_off(
    dit: System, tmp_path: Path, prefix: str, suffix: str
) -> None:
    wrapped = {prefix + name: tensor for name, tensor in dit.state_dict().items()}
    path = tmp_path / f"dit{suffix}"
    save_file(wrapped, path) if suffix == ".safetensors" else torch.save(wrapped, path)
    assert tailprune.load(path, family="dit", num_heads=4).family == "dit"


def test_an_empty_average_is_passed_over(dit: System, tmp_path: Path) -> None:
    torch.save({"ema": {}, "model": dit.state_dict()}, tmp_path / "dit.pt")
    assert tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4).family == "dit"


@pytest.mark.parametrize("nesting", [(), ("ema",), ("model",), ("model", "module")])
def test_weights_are_found_at_the_top_under_ema_and_under_model(
    dit: System, tmp_path: Path, nesting: tuple[str, ...]
) -> None:
    content: dict[str, object] = dict(dit.state_dict())
    if "module" in nesting:
        content = {f"module.{name}": tensor for name, tensor in content.items()}
    if nesting:
        content = {nesting[0]: content, "args": argparse.Namespace(lr=1e-4), "step": 3}
    torch.save(content, tmp_path / "dit.pt")
    loaded = tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in dit.state_dict().items())


def test_ema_weights_are_preferred_to_the_raw_ones(dit: System, tmp_path: Path) -> None:
    raw = {name: torch.zeros_like(tensor) for name, tensor in dit.state_dict().items()}
    torch.save({"model": raw, "ema": dit.state_dict()}, tmp_path / "dit.pt")
    loaded = tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4)
    assert torch.equal(loaded.state_dict()["pos_embed"], dit.state_dict()["pos_embed"])


def test_a_checkpoint_saved_before_torch_1_6_is_read(dit: System, tmp_path: Path) -> None:
    torch.save(dit.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert tailprune.load(tmp_path / "old.pt", family="dit", num_heads=4).family == "dit"


@pytest.mark.parametrize(
    "beside",
    [
        defaultdict(list, {"loss": [1.0]}),
        deque([1, 2]),
        deque([1, 2], maxlen=3),
        Options(lr=1e-4, nested=Options(lr=Losses([1, 2]))),
        with_name(Options(lr=1e-4)),
        Losses([1, 2]),
        Losses([1]),
        UserDict(lr=1e-4),
        {Options: [Losses(), with_name(Options())]},
    ],
    ids=repr,
)
def test_containers_beside_the_weights_are_passed_over(dit: System, tmp_path: Path, beside: object) -> None:
    torch.save({"ema": dit.state_dict(), "args": beside}, tmp_path / "dit.pt")
    assert tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4).family == "dit"


def test_weights_in_a_container_of_a_training_script_are_read(dit: System, tmp_path: Path) -> None:
    torch.save({"ema": Options(dit.state_dict())}, tmp_path / "dit.pt")
    assert tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4).family == "dit"


def test_a_file_without_checksums_is_read(dit: System, tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"ema": dit.state_dict(), "args": Options(lr=1)}, tmp_path / "dit.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4).family == "dit"


def test_torch_stores_and_names_what_it_pickles_as_it_is_looked_for(tmp_path: Path) -> None:
    """Should a release of torch store it otherwise, or list names otherwise, `tailprune.checkpoints.files` has to."""
    torch.save({"args": UserDict(lr=Options(lr=1)), "w": torch.zeros(3)}, tmp_path / "last.pt")
    with zipfile.ZipFile(tmp_path / "last.pt") as archive:
        assert archive.namelist()[0] == "last/data.pkl"
        content = archive.read("last/data.pkl")
    named = {argument for opcode, argument, _ in pickletools.genops(content) if opcode.name == "GLOBAL"}
    assert {"UserDict IterableUserDict", f"{Options.__module__} Options"} <= named  # names of Python 2, by protocol 2
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "last.pt")
    options = f"{Options.__module__}.Options"
    assert sorted(foreign) == ["collections.UserDict", options]  # names of Python 3
    with torch.serialization.safe_globals([(OrderedDict, "collections.UserDict"), (OrderedDict, options)]):
        torch.load(tmp_path / "last.pt", weights_only=True, mmap=True)


def test_a_pickle_that_asks_for_more_memory_than_it_has_content_is_refused(tmp_path: Path) -> None:
    place = 2**31 - 1  # at which it keeps an empty list: an unpickler would make room for all before it
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02]r" + place.to_bytes(4, "little") + b".")
        archive.writestr("a/version", "3")
    with pytest.raises(CheckpointError, match="cannot be read without running code"):
        Checkpoint(tmp_path / "a.pt")


def test_a_container_that_cannot_be_passed_over_is_named(dit: System, tmp_path: Path) -> None:
    beside = [with_name(Losses([1])), Options(lr=1), argparse.Namespace(lr=1)]
    torch.save({"ema": dit.state_dict(), "args": beside}, tmp_path / "dit.pt")
    with pytest.raises(CheckpointError, match=rf"\(it has {re.escape(__name__)}\.Losses, a container"):
        Checkpoint(tmp_path / "dit.pt")


def test_nothing_beside_the_weights_is_imported_or_run(
    dit: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "exploded"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(trace)!r}, 'w').close()",)

    pickle.loads(pickle.dumps(Bomb()))
    assert trace.exists()  # the trap works
    trace.unlink()
    gone = types.ModuleType("gone")
    gone.Options = type("Options", (dict,), {"__module__": "gone"})
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "gone", gone)
        beside = defaultdict(list, {"bomb": Bomb(), "options": gone.Options(lr=Bomb()), "queue": deque([Bomb()])})
        torch.save({"ema": dit.state_dict(), "args": beside}, tmp_path / "dit.pt")
    assert tailprune.load(tmp_path / "dit.pt", family="dit", num_heads=4).family == "dit"
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("family", ["dit", "x-mdpt", None])
def test_patches_without_pixels_are_refused(dit: System, tmp_path: Path, suffix: str, family: str | None) -> None:
    state = dict(dit.state_dict()) | {"x_embedder.proj.weight": torch.zeros(32, 4, 0, 0)}
    path = tmp_path / f"dit{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    for read in (tailprune.load, tailprune.load_condition):
        with pytest.raises(
            CheckpointError, match=r"x_embedder\.proj\.weight has shape \(32, 4, 0, 0\), which has no elements"
        ):
            read(path, family=family, num_heads=4)


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_configuration_is_read_off_names_and_shapes(tmp_path: Path, learn_sigma: bool) -> None:
    shape = {"input_size": 6, "patch_size": 3, "depth": 5, "mlp_ratio": 2.0, "num_classes": 7}
    system = random_system(SiT, **shape, learn_sigma=learn_sigma)
    save_file(system.state_dict(), tmp_path / "sit.safetensors")
    shapes = Checkpoint(tmp_path / "sit.safetensors").shapes
    found = SiT.infer_configuration(shapes, num_heads=4)
    rest = {"in_channels": 4, "hidden_size": 32, "num_heads": 4, "learn_sigma": learn_sigma, "qk_norm": False}
    rest |= {"null_condition": True}
    assert found.described(given=()) == rest | shape


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1152, 16)])
def test_the_published_sizes_tell_their_number_of_heads(width: int, heads: int) -> None:
    with torch.device("meta"):
        system = DiT(
            DiTConfig(
                input_size=32,
                patch_size=2,
                in_channels=4,
                hidden_size=width,
                depth=1,
                num_heads=heads,
                num_classes=1000,
            )
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in system.state_dict().items()}
    assert DiT.infer_configuration(shapes).num_heads == heads


def test_an_unpublished_width_asks_for_the_number_of_heads(dit_file: Path) -> None:
    with pytest.raises(ValueError, match="width 32: give num_heads"):
        tailprune.load(dit_file, family="dit")


def test_a_number_of_heads_that_does_not_divide_the_width_is_refused(dit_file: Path) -> None:
    with pytest.raises(ValueError, match="num_heads = 5 does not divide the width 32"):
        tailprune.load(dit_file, family="dit", num_heads=5)


def test_a_file_that_dit_and_sit_share_asks_for_the_family(dit_file: Path) -> None:
    anonymous = dit_file.rename(dit_file.with_name("last.safetensors"))
    with pytest.raises(ValueError, match=r"files of several families .* give family, one of dit, sit"):
        tailprune.load(anonymous, num_heads=4)


@pytest.mark.parametrize(("name", "family"), [("DiT-XL-2-256x256.safetensors", "dit"), ("SiT-XL-2.safetensors", "sit")])
def test_the_name_of_a_file_tells_dit_and_sit_apart(dit_file: Path, name: str, family: str) -> None:
    assert tailprune.load(dit_file.rename(dit_file.with_name(name)), num_heads=4).family == family


def test_an_unknown_family_is_named_beside_the_known_ones(dit_file: Path) -> None:
    with pytest.raises(ValueError, match="there is no family 'unet': give one of dit, sit, mdt"):
        tailprune.load(dit_file, family="unet")


def test_metadata_of_the_file_says_family_and_heads(dit: System, tmp_path: Path) -> None:
    save_file(dit.state_dict(), tmp_path / "model.safetensors", metadata={"family": "sit", "num_heads": "4"})
    assert tailprune.load(tmp_path).family == "sit"


def test_a_registry_name_is_looked_up(dit_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_document(tmp_path, {"models": {"mine": DIT_ENTRY}})
    monkeypatch.setenv("TAILPRUNE_REGISTRY", str(registry))
    assert tailprune.load("mine").family == "dit"
    with pytest.raises(FileNotFoundError, match=r"'yours' is neither a file nor a model .* has mine"):
        tailprune.load("yours")


def test_a_registry_name_may_have_a_dot(dit_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_document(tmp_path, {"models": {"dit-1.5": DIT_ENTRY}})
    monkeypatch.setenv("TAILPRUNE_REGISTRY", str(registry))
    assert tailprune.load("dit-1.5").family == "dit"


def test_heads_that_are_no_number_are_refused_with_the_file(dit: System, tmp_path: Path) -> None:
    save_file(dit.state_dict(), tmp_path / "a.safetensors", metadata={"family": "dit", "num_heads": "four"})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: its num_heads is 'four', not a number"):
        tailprune.load(tmp_path / "a.safetensors")


def test_a_tensor_of_other_dimensions_is_named(dit: System, tmp_path: Path) -> None:
    state = dict(dit.state_dict()) | {"x_embedder.proj.weight": torch.zeros(32, 16)}
    save_file(state, tmp_path / "flat.safetensors")
    with pytest.raises(CheckpointError, match=r"x_embedder.proj.weight has shape \(32, 16\), not 4 dimensions"):
        tailprune.load(tmp_path / "flat.safetensors", family="dit", num_heads=4)


def test_missing_and_foreign_tensors_and_wrong_shapes_are_named(dit: System, tmp_path: Path) -> None:
    state = dict(dit.state_dict())
    del state["blocks.1.attn.proj.bias"]
    state["blocks.0.mlp.fc1.bias"] = torch.zeros(3)
    state["extra.weight"] = torch.zeros(2)
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError) as error:
        tailprune.load(tmp_path / "broken.safetensors", family="dit", num_heads=4)
    message = str(error.value)
    assert "blocks.1.attn.proj.bias is missing" in message
    assert "extra.weight is not part of dit" in message
    assert "blocks.0.mlp.fc1.bias is (3,), not (128,)" in message


def test_a_file_of_something_else_is_refused_with_the_tensor_it_lacks(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit dit: there is no tensor named 'blocks.0.mlp.fc1.weight'"):
        tailprune.load(tmp_path / "other.safetensors", family="dit", num_heads=4)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"model": Bomb()}))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="cannot be read without running code") as error:
            Checkpoint(tmp_path / name)
        assert "weights_only" not in str(error.value)  # torch's own advice is to run it
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.safetensors", b"\x00" * 40, "begins with zeros"),
        ("broken.pt", b"PK\x03\x04 cut short", "a zip archive that was cut short"),
        ("text.pt", b"hello", "is a text, 'hello'"),
        ("empty.pt", b"", "is empty: download it again"),
        ("weights.onnx", b"", "ends in .safetensors, .pt, .pth, .bin or .ckpt"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        Checkpoint(tmp_path / name)
    assert name in str(error.value)


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.pt"):
        tailprune.load(tmp_path / "nothing.pt", family="dit")


def test_half_precision_weights_are_raised_to_float32(dit: System, tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in dit.state_dict().items()}, tmp_path / "half.safetensors")
    loaded = tailprune.load(tmp_path / "half.safetensors", family="dit", num_heads=4)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


def test_the_condition_alone_equals_that_of_the_whole_system(dit: System, dit_file: Path) -> None:
    condition = tailprune.load_condition(dit_file, family="dit")
    t, inputs = torch.tensor([999.0, 3.0]), {"labels": torch.tensor([2, 10])}
    assert torch.equal(condition.condition(t, inputs), dit.condition(t, inputs))
    assert not any("block" in name for name in condition.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_for_the_condition_no_tensor_of_a_block_is_read(
    dit: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"dit{suffix}"
    save_file(dit.state_dict(), path) if suffix == ".safetensors" else torch.save(dit.state_dict(), path)
    read: list[str] = []
    opened = Checkpoint.__init__

    def watched(checkpoint: Checkpoint, path: Path, key: str | None) -> None:
        opened(checkpoint, path, key)
        value_of = checkpoint._read
        checkpoint._read = lambda name: (read.append(name), value_of(name))[1]

    monkeypatch.setattr(Checkpoint, "__init__", watched)
    condition = tailprune.load_condition(path, family="dit")
    assert sorted(read) == sorted(condition.state_dict())
    assert all(name.startswith(("t_embedder.", "y_embedder.")) for name in read)


def test_importing_the_package_does_not_import_torch(run_python: Callable[[str], str]) -> None:
    code = "import sys, tailprune; assert 'torch' not in sys.modules"
    run_python(code)


def test_what_fetches_files_does_not_import_torch(run_python: Callable[[str], str]) -> None:
    code = "import sys; from tailprune.checkpoints import HubError, fetch; assert 'torch' not in sys.modules"
    run_python(code)


def test_the_names_of_the_folder_are_there() -> None:
    for name in checkpoints.__all__:
        assert getattr(checkpoints, name).__name__ == name
    assert set(checkpoints.__all__) <= set(dir(checkpoints))
    with pytest.raises(AttributeError, match=r"'tailprune\.checkpoints' has no attribute 'nothing'"):
        _ = checkpoints.nothing
