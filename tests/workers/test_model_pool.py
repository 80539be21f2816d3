from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tailprune
from jobs.registry.digests import Identity, identify
from jobs.registry.models import Registry, UnknownModel
from jobs.settings import Settings
from tailprune.checkpoints import opening
from tests.tiny_model import CONDITION_ONLY, NAME, TINY_DIT
from workers.model_pool import ModelPool, Source, WarmModules, choose_device

KIB = 2**10


@pytest.fixture
def source(settings: Settings, tmp_path: Path) -> Source:
    """A model whose checkpoint has 4 KiB."""
    file = tmp_path / "checkpoint"
    file.write_bytes(bytes(4 * KIB))
    entry = Registry.read(settings.registry).get(NAME)
    return Source(entry.model_copy(update={"checkpoint": str(file)}), Identity("a", {}), "model")


def of_digest(source: Source, digest: str) -> Source:
    return replace(source, identity=Identity(digest, {}))


class Loads:
    """Loads modules of 4 KiB, and remembers which."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def __call__(self, source: Source) -> nn.Module:
        self.digests.append(source.identity.weights)
        return nn.Linear(KIB, 1, bias=False)


def pool_of(limit: int, loads: Loads) -> WarmModules[nn.Module]:
    """A pool of modules by digest and family, each made from 4 KiB."""
    return WarmModules(limit, lambda source: (source.identity.weights, source.entry.family), lambda _: 4 * KIB, loads)


def test_a_model_is_loaded_once(source: Source) -> None:
    loads = Loads()
    pool = pool_of(8 * KIB, loads)
    assert pool.get(source) is pool.get(of_digest(source, "a"))
    assert loads.digests == ["a"]


def test_the_longest_unused_is_dropped_when_there_is_no_room(source: Source) -> None:
    loads = Loads()
    pool = pool_of(8 * KIB, loads)
    for digest in ("a", "b", "a", "c", "a", "b"):
        pool.get(of_digest(source, digest))
    assert loads.digests == ["a", "b", "c", "b"]
    assert len(pool) == 2
    assert pool.bytes == 8 * KIB


def test_a_model_larger_than_the_limit_is_used_alone(source: Source) -> None:
    pool = pool_of(KIB, Loads())
    for digest in ("a", "b"):
        pool.get(of_digest(source, digest))
    assert len(pool) == 1


def test_what_a_job_uses_stays_until_it_ends_and_is_then_within_the_limit_again(source: Source) -> None:
    loads = Loads()
    pool = pool_of(8 * KIB, loads)
    pool.get(of_digest(source, "before"))
    with pool.in_use():
        used = [pool.get(of_digest(source, digest)) for digest in ("a", "b", "c")]
        assert [pool.get(of_digest(source, digest)) for digest in ("a", "b", "c")] == used
    assert loads.digests == ["before", "a", "b", "c"]
    assert pool.bytes <= 8 * KIB


def test_what_a_job_found_loaded_is_not_dropped_for_what_it_loads_next(source: Source) -> None:
    loads = Loads()
    pool = pool_of(8 * KIB, loads)
    for digest in ("a", "b"):
        pool.get(of_digest(source, digest))
    with pool.in_use():
        for digest in ("a", "c", "a"):
            pool.get(of_digest(source, digest))
    assert loads.digests == ["a", "b", "c"], "b is dropped"


def test_the_compiled_network_of_a_job_is_not_lost_to_the_float32_twin_that_it_is_compared_with(
    settings: Settings,
) -> None:
    tight = settings.model_copy(update={"compile": True, "model_memory_bytes": KIB})
    models = ModelPool(Registry.read(settings.registry), tight, torch.device("cpu"))
    with models.in_use():
        system = models.system(models.source(NAME, "model"), "bfloat16")
        twin = models.system(models.source(NAME, "model"), "float32")
        assert system.compiled is not None
        assert models.system(models.source(NAME, "model"), "bfloat16") is system is not twin
    assert len(models.systems) == 1


@pytest.mark.parametrize("name", [NAME, TINY_DIT])
def test_a_checkpoint_is_opened_once_to_load_it(models: ModelPool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    open_tensors = opening.open_tensors

    def counted(paths: list[Path], *given: Any) -> Any:
        opened.extend(paths)
        return open_tensors(paths, *given)

    monkeypatch.setattr(opening, "open_tensors", counted)
    models.systems.get(models.source(name, "model"))
    assert len(opened) == 1


def test_statistics_load_the_condition_and_not_the_system(models: ModelPool) -> None:
    condition = models.conditions.get(models.source(CONDITION_ONLY, "condition"))
    assert not any("block" in name for name, _ in condition.named_parameters())
    assert len(models.systems) == 0


def test_the_systems_weights_are_those_of_the_file(models: ModelPool) -> None:
    system = models.systems.get(models.source(NAME, "model"))
    assert system.family == "sit"
    condition = models.conditions.get(models.source(CONDITION_ONLY, "condition"))
    t, inputs = torch.tensor([0.5]), {"labels": torch.tensor([2])}
    torch.testing.assert_close(system.condition(t, inputs), condition.condition(t, inputs))


def test_an_unknown_model_is_named_with_the_known(models: ModelPool) -> None:
    with pytest.raises(UnknownModel, match="known models: tiny"):
        models.source("giant", "condition")


def test_workers_are_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device("auto", index)) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(choose_device("cpu", 1)) == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xla:3", "meta", "hpu"])
def test_a_device_that_is_not_there_is_refused_by_name_in_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=f"TAILPRUNE_DEVICE={name} is not a device of this machine") as refused:
        choose_device(name, 0)
    assert "which has cpu" in str(refused.value)
    assert len(str(refused.value)) < 400  # torch's own message lists all of its kernels, line by line
    assert "\n" not in str(refused.value)


def test_one_file_read_as_two_families_is_two_modules(source: Source) -> None:
    pool = pool_of(10**9, Loads())
    other = replace(source, entry=source.entry.model_copy(update={"family": "dit"}))
    assert pool.get(source) is not pool.get(other)


def test_without_a_gpu_the_cpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(choose_device("auto", 3)) == "cpu"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition_dim": 64}, "the registry gives 'tiny' condition_dim = 64, and its checkpoint has 32: correct its"),
        ({"null_condition": False}, "the registry gives 'tiny' null_condition = False, and its checkpoint has True"),
        ({"classes": 2000}, "classes = 2000 was given, but the label table has 5 rows: for 4 classes and the null"),
    ],
)
def test_an_entry_that_contradicts_its_checkpoint_is_refused(
    models: ModelPool, changes: dict[str, int], said: str
) -> None:
    for reads, pool in (("model", models.systems), ("condition", models.conditions)):
        source = models.source(NAME, reads)  # type: ignore[arg-type]
        wrong = replace(source, entry=source.entry.model_copy(update=changes))
        with pytest.raises(ValueError, match=said):
            pool.get(wrong)


def test_as_many_classes_as_rows_of_the_table_leave_no_null_condition(models: ModelPool) -> None:
    for reads, pool in (("model", models.systems), ("condition", models.conditions)):
        source = models.source(NAME, reads)  # type: ignore[arg-type]
        whole = pool.get(source)
        loaded = pool.get(replace(source, entry=source.entry.model_copy(update={"classes": 5})))
        assert (whole.null_condition, loaded.null_condition) == (True, False)


def test_an_entry_of_another_depth_is_refused(models: ModelPool) -> None:
    source = models.source(NAME, "model")
    wrong = replace(source, entry=source.entry.model_copy(update={"depth": 3}))
    with pytest.raises(ValueError, match="the registry gives 'tiny' depth = 3, and its checkpoint has 1: correct its"):
        models.systems.get(wrong)


def test_an_entry_of_another_shape_of_latents_is_refused(models: ModelPool) -> None:
    source = models.source(NAME, "model")
    wrong = replace(source, entry=source.entry.model_copy(update={"latent_shape": (3, 16, 16)}))
    with pytest.raises(ValueError, match=r"latent_shape = \(3, 16, 16\), and its checkpoint has \(3, 8, 8\)"):
        models.systems.get(wrong)


def test_a_decoder_that_comes_while_a_job_runs_is_the_next_ones(models: ModelPool, tmp_path: Path) -> None:
    source = models.source(TINY_DIT, "model")
    changes = {"decoder": "sd-vae", "decoder_source": str(tmp_path / "vae")}
    entry = source.entry.model_copy(update=changes)
    before = Source(entry, identify("model", entry, tmp_path), "model")
    (tmp_path / "vae").mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / "vae" / name).write_bytes(b"{}")
    after = Source(entry, identify("model", entry, tmp_path), "model")
    assert (before.decoding.in_use, after.decoding.in_use) == ("latents", "sd-vae")
    assert models.decoders.get(before)(torch.zeros(1, 4, 8, 8)).shows == "latents"
    assert before.identity.reading != after.identity.reading


def overwrite(path: Path) -> None:
    """Turns over the second half of a file, where it lies: values of tensors, and not what they are called."""
    content = path.read_bytes()
    half = len(content) // 2
    changed = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(half)
        file.write(bytes(255 - byte for byte in content[half:]))
    os.utime(path, ns=(changed, changed + 1))  # later, however coarse the clock of the file system


def then_overwriting(path: Path, load: Callable[..., Any]) -> Callable[..., Any]:
    def loaded(*given: Any, **known: Any) -> Any:
        found = load(*given, **known)
        overwrite(path)
        return found

    return loaded


@pytest.mark.parametrize("name", [NAME, TINY_DIT])
def test_a_checkpoint_written_to_while_it_is_loaded_is_refused(
    models: ModelPool, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = models.source(name, "model")
    monkeypatch.setattr(tailprune, "load", then_overwriting(source.checkpoint, tailprune.load))
    with pytest.raises(ValueError, match=f"{source.checkpoint.name} was written to while it was loaded"):
        models.systems.get(source)
    assert len(models.systems) == 0


def test_condition_tensors_written_to_while_they_are_loaded_are_refused(
    models: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = models.source(CONDITION_ONLY, "condition")
    monkeypatch.setattr(tailprune, "load_condition", then_overwriting(source.checkpoint, tailprune.load_condition))
    with pytest.raises(ValueError, match="was written to while it was loaded"):
        models.conditions.get(source)
    assert len(models.conditions) == 0


def test_a_decoder_written_to_while_it_is_loaded_is_refused(
    models: ModelPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "vae"
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (folder / name).write_bytes(b"{}")
    changes = {"decoder": "sd-vae", "decoder_source": str(folder)}
    entry = models.source(TINY_DIT, "model").entry.model_copy(update=changes)
    source = Source(entry, identify("model", entry, tmp_path), "model")
    file = folder / "diffusion_pytorch_model.safetensors"
    monkeypatch.setattr("workers.model_pool.load_decoder", then_overwriting(file, lambda *_, **__: nn.Identity()))
    with pytest.raises(ValueError, match="vae was written to while it was loaded"):
        models.decoders.get(source)
    assert len(models.decoders) == 0


@pytest.mark.parametrize("name", [NAME, TINY_DIT])
def test_what_is_written_to_a_checkpoint_later_does_not_reach_the_warm_model(models: ModelPool, name: str) -> None:
    source = models.source(name, "model")
    system = models.systems.get(source)
    before = {key: tensor.clone() for key, tensor in system.state_dict().items()}
    overwrite(source.checkpoint)
    assert all(torch.equal(tensor, before[key]) for key, tensor in system.state_dict().items())


@pytest.mark.parametrize("compiles", [False, True])
def test_networks_are_compiled_where_the_setting_says_so(settings: Settings, compiles: bool) -> None:
    changed = settings.model_copy(update={"compile": compiles})
    models = ModelPool(Registry.read(settings.registry), changed, torch.device("cpu"))
    system = models.system(models.source(NAME, "model"), "float32")
    assert (system.compiled is not None) == compiles
