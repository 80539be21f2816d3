from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from jobs.digests import Identity, identify
from jobs.registry import Registry, UnknownModel
from jobs.settings import Settings
from tests.tiny_model import CONDITION_ONLY, NAME, TINY_DIT
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
    condition = models.conditions.get(models.source(CONDITION_ONLY, "condition"))
    assert not any("block" in name for name, _ in condition.named_parameters())
    assert len(models.systems) == 0


def test_the_systems_weights_are_those_of_the_file(models: Models) -> None:
    system = models.systems.get(models.source(NAME, "model"))
    assert system.family == "sit"
    condition = models.conditions.get(models.source(CONDITION_ONLY, "condition"))
    t, inputs = torch.tensor([0.5]), {"labels": torch.tensor([2])}
    torch.testing.assert_close(system.condition(t, inputs), condition.condition(t, inputs))


def test_an_unknown_model_is_named_with_the_known(models: Models) -> None:
    with pytest.raises(UnknownModel, match="known models: tiny"):
        models.source("giant", "condition")


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition_dim": 64}, "condition_dim = 64, and its checkpoint has 32"),
        ({"classes": 2000}, "classes = 2000, and its checkpoint has 4"),
    ],
)
def test_an_entry_that_contradicts_its_checkpoint_is_refused(
    models: Models, changes: dict[str, int], said: str
) -> None:
    for reads, pool in (("model", models.systems), ("condition", models.conditions)):
        source = models.source(NAME, reads)  # type: ignore[arg-type]
        wrong = Source(source.entry.model_copy(update=changes), source.identity)
        with pytest.raises(ValueError, match=f"the registry says of 'tiny' {said}: mend its entry"):
            pool.get(wrong)


def test_an_entry_of_another_shape_of_latents_is_refused(models: Models) -> None:
    source = models.source(NAME, "model")
    wrong = Source(source.entry.model_copy(update={"latent_shape": (3, 16, 16)}), source.identity)
    with pytest.raises(ValueError, match=r"latent_shape = \(3, 16, 16\), and its checkpoint has \(3, 8, 8\)"):
        models.systems.get(wrong)


def test_a_decoder_that_comes_while_a_job_runs_is_the_next_ones(models: Models, tmp_path: Path) -> None:
    source = models.source(TINY_DIT, "model")
    changes = {"decoder": "sd-vae", "decoder_source": str(tmp_path / "vae")}
    entry = source.entry.model_copy(update=changes)
    before = Source(entry, identify("model", entry, tmp_path))
    (tmp_path / "vae").mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / "vae" / name).write_bytes(b"{}")
    after = Source(entry, identify("model", entry, tmp_path))
    assert (before.decoding.in_use, after.decoding.in_use) == ("latents", "sd-vae")
    assert models.decoders.get(before)(torch.zeros(1, 4, 8, 8)).shows == "latents"
    assert before.identity.reading != after.identity.reading
