from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from jobs.digests import Identity
from jobs.registry import Registry, UnknownModel
from jobs.settings import Settings
from tests.tiny_model import CONDITION_ONLY, NAME
from workers.models import Models, Pool, Source, choose_device

KIB = 2**10


@pytest.fixture
def source(settings: Settings, tmp_path: Path) -> Source:
    """A model whose checkpoint has 4 KiB."""
    file = tmp_path / "checkpoint"
    file.write_bytes(bytes(4 * KIB))
    entry = Registry.read(settings.registry).get(NAME)
    return Source(entry.model_copy(update={"checkpoint": str(file)}), Identity("a", {}))


def of_digest(source: Source, digest: str) -> Source:
    return Source(source.entry, Identity(digest, {}))


class Loads:
    """Loads modules of 4 KiB, and remembers which."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def __call__(self, source: Source) -> nn.Module:
        self.digests.append(source.identity.weights)
        return nn.Linear(KIB, 1, bias=False)


def pool_of(limit: int, loads: Loads) -> Pool[nn.Module]:
    """A pool of modules by digest and family, each made from 4 KiB."""
    return Pool(limit, lambda source: (source.identity.weights, source.entry.family), lambda _: 4 * KIB, loads)


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


def test_statistics_load_the_condition_and_not_the_system(models: Models) -> None:
    condition = models.conditions.get(models.source(CONDITION_ONLY, "metrics"))
    assert not any("block" in name for name, _ in condition.named_parameters())
    assert len(models.systems) == 0


def test_the_systems_weights_are_those_of_the_file(models: Models) -> None:
    system = models.systems.get(models.source(NAME, "prune-sample"))
    assert system.family == "sit"
    condition = models.conditions.get(models.source(CONDITION_ONLY, "metrics"))
    t, inputs = torch.tensor([0.5]), {"labels": torch.tensor([2])}
    torch.testing.assert_close(system.condition(t, inputs), condition.condition(t, inputs))


def test_an_unknown_model_is_named_with_the_known(models: Models) -> None:
    with pytest.raises(UnknownModel, match="known models: tiny"):
        models.source("giant", "metrics")


def test_workers_are_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device("auto", index)) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(choose_device("cpu", 1)) == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xla:3"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"TAILPRUNE_DEVICE={name}"):
        choose_device(name, 0)


def test_one_file_read_as_two_families_is_two_modules(source: Source) -> None:
    pool = pool_of(10**9, Loads())
    other = Source(source.entry.model_copy(update={"family": "dit"}), source.identity)
    assert pool.get(source) is not pool.get(other)


def test_without_a_gpu_the_cpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(choose_device("auto", 3)) == "cpu"
