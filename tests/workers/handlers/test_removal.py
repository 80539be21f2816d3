"""What prunes remove, against the same of samples under these prunes."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.results import PruneSampleResult, RemovalResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune import ModulationMetric, Prune, load, modulation_error
from tests.tiny_model import CONDITION_ONLY, NAME, TINY_DIT
from tests.workers.conftest import Submit
from workers.worker import Worker


@pytest.fixture
def done(settings: Settings, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request; its result."""
    worker = Worker(settings, "worker")

    def done(kind: str, **body: Any) -> Any:
        job = submit(kind, **body)
        worker.run(job.id)
        found = store.get(job.id)
        assert found.status == "succeeded", found.problem
        return found.result

    return done


def removal(done: Any, **body: Any) -> RemovalResult:
    return RemovalResult.model_validate(done("removal", **body))


@pytest.mark.parametrize(
    "body",
    [
        {"threshold": [0.5, 1.0]},
        {"threshold": [0.5], "side": "head", "fill": "mean"},
        {"keep": [3, 8], "schedule": {"when": "last", "count": 2}},
        {"threshold": [0.5], "sampler": "heun", "steps": 7, "schedule": {"when": "first", "count": 3}},
        {"threshold": [0.5], "sampler": "dopri5"},
        {"threshold": [0.1, 0.2], "of": "read"},
        {"remove_fraction": [0.3, 0.66], "schedule": {"when": "last", "count": 2}},
        {"remove_fraction": [0.3], "side": "head", "of": "read", "sampler": "dopri5"},
        {"keep_fraction": [0.34], "by": "deviation"},
        {"keep": [5], "by": "magnitude", "of": "read", "fill": "zero"},
        {"threshold": [0.5], "schedule": {"when": "at", "steps": [3, 1]}},
        {"threshold_by_step": [0.1, None, 0.5, 1.0]},
        {"threshold_by_step": [None, 0.5, 1.0], "side": "head", "of": "read", "fill": "mean", "steps": 3},
        {"keep": [5], "schedule": {"when": "at", "steps": [0, 2]}, "blocks": [0]},
        {"remove_fraction": [0.5], "schedule": {"when": "at", "steps": [2]}, "blocks": ["final"]},
        {"threshold": [0.5], "model": TINY_DIT, "sampler": "ddim", "steps": 5},
    ],
)
def test_it_is_what_is_removed_where_the_model_is_sampled(done: Any, body: dict[str, Any]) -> None:
    labels = [0, 2, 3]
    found = removal(done, **body, labels=labels)
    sampled = PruneSampleResult.model_validate(done("prune-sample", **{"threshold": None} | body, labels=labels))
    variants = [variant for variant in sampled.variants if variant.prune is not None]
    assert [(each.name, each.prune) for each in found.prunes] == [(each.name, each.prune) for each in variants]
    for each, variant in zip(found.prunes, variants, strict=True):
        assert each.removed == variant.removed
        assert each.embedding == variant.embedding
    assert found.labels == labels
    assert found.steps == len(found.timesteps) == len(found.fraction) == len(found.prunes[0].removed.by_step)


def test_it_is_of_all_classes_and_the_models_sampler_by_default(done: Any) -> None:
    found = removal(done, threshold=[0.5])
    assert (found.labels, found.conditions, found.sampler, found.steps) == ([0, 1, 2, 3], None, "euler", 4)
    assert found.timesteps == found.fraction == [0.0, 0.25, 0.5, 0.75]


def test_the_fraction_of_sampling_done_grows_whichever_way_time_runs(done: Any) -> None:
    found = removal(done, model=TINY_DIT, threshold=[0.5])
    assert found.timesteps == sorted(found.timesteps, reverse=True)
    assert found.fraction == sorted(found.fraction)
    assert found.fraction[0] < 0.01


def test_what_goes_needs_no_tensors_but_the_conditions(done: Any) -> None:
    whole, alone = removal(done, threshold=[0.5]), removal(done, model=CONDITION_ONLY, threshold=[0.5])
    assert [each.model_copy(update={"modulation": None}) for each in whole.prunes] == alone.prunes


@pytest.mark.parametrize(
    ("model", "body", "prune"),
    [
        (NAME, {"threshold": [0.5, 1.0]}, Prune("tail", 1.0)),
        (NAME, {"keep": [3, 8], "schedule": {"when": "last", "count": 2}}, Prune.keep(8, schedule="last", count=2)),
        (NAME, {"remove_fraction": [0.2, 0.3], "of": "read", "sampler": "heun"}, Prune.remove_fraction(0.3, of="read")),
        (TINY_DIT, {"keep_fraction": [0.5, 0.34], "by": "deviation"}, Prune.keep_fraction(0.34, by="deviation")),
    ],
)
def test_it_has_the_change_of_the_modulations(
    done: Any, settings: Settings, model: str, body: dict[str, Any], prune: Prune
) -> None:
    labels = [0, 2, 3]
    found = removal(done, **body, labels=labels, model=model).prunes[1].modulation
    assert found is not None
    path = settings.registry.parent / ("tiny.safetensors" if model == NAME else "tiny-dit.pt")
    system = load(path, family="sit" if model == NAME else "dit", num_heads=2)
    sampler = body.get("sampler", "euler" if model == NAME else "ddim")
    expected = modulation_error(system, prune, {"labels": labels}, sampler=sampler, steps=4)
    assert found.error == pytest.approx(expected, rel=1e-5)
    assert [step > 0 for step in found.by_step] == [prune.active(step, 4) for step in range(4)]
    assert found.error <= found.largest * (1 + 1e-5)
    assert (found.bound is None) == ("keep" in next(iter(body)))


def test_adaln_is_read_once_for_all_jobs_of_a_model(
    settings: Settings, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    load_metric = ModulationMetric.load

    def counted(source: Any, **arguments: Any) -> ModulationMetric:
        loaded.append(source)
        return load_metric(source, **arguments)

    monkeypatch.setattr(ModulationMetric, "load", counted)
    worker = Worker(settings, "worker")
    for threshold in ([0.5], [0.6]):
        job = submit("removal", threshold=threshold)
        worker.run(job.id)
        assert store.get(job.id).status == "succeeded"
    assert len(loaded) == 1
    assert worker.context.models.metrics.bytes > 0


def test_no_block_is_loaded(settings: Settings, submit: Submit, store: JobStore) -> None:
    worker = Worker(settings, "worker")
    worker.run(submit("removal", threshold=[0.5]).id)
    assert len(worker.context.models.systems) == 0


def test_a_share_is_that_of_all_labels_however_they_are_cut_into_chunks(
    settings: Settings, submit: Submit, store: JobStore
) -> None:
    one_by_one = Worker(settings.model_copy(update={"batch_size": 2}), "worker")
    job = submit("prune-sample", threshold=None, remove_fraction=[0.3], labels=[0, 1, 2, 3])
    one_by_one.run(job.id)
    found = store.get(job.id)
    assert found.status == "succeeded", found.problem
    result = PruneSampleResult.model_validate(found.result)
    assert result.timing.batch_jobs == 1
    (pruned,) = [variant for variant in result.variants if variant.prune is not None]
    assert pruned.removed is not None
    assert pruned.removed.fraction == pytest.approx(0.3, abs=0.01)
    again = submit("prune-sample", threshold=pruned.removed.threshold, labels=[0, 1, 2, 3])
    Worker(settings, "worker").run(again.id)
    same = PruneSampleResult.model_validate(store.get(again.id).result)
    assert same.variants[1].removed == pruned.removed
    assert pruned.drift is not None
    assert same.variants[1].drift is not None
    assert same.variants[1].drift.latent == pytest.approx(pruned.drift.latent, rel=1e-4)
