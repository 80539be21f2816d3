"""The job `compact`: the model that it makes, and what it says of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch
from PIL import Image
from safetensors.torch import load

import tailprune
from jobs.registry.compacted import CompactedStore
from jobs.results import CompactResult, PruneSampleResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune.systems.sit import MG, ScaleAwareMG
from tests.registry import extend
from tests.tailprune.conftest import random_system
from tests.tiny_model import HEADS, NAME, TINY_DIT, WIDTH
from tests.workers.conftest import Submit
from workers.lease import Cancelled, Run
from workers.model_pool import ModelPool
from workers.worker import Worker

WAYS: list[dict[str, Any]] = [
    {"threshold": 2.2},
    {"threshold": 2.2, "fill": "mean"},
    {"keep": 8, "fill": "zero"},
    {"keep": 8},
    {"keep": 8, "fill": "refit"},
    {"threshold": 0.5, "of": "read", "fill": "refit"},
    {"keep": 6, "by": "directions"},
]

MG_ENTRIES: dict[str, Any] = {
    name: {
        "family": "mg",
        "checkpoint": f"{name}.safetensors",
        "classes": 4,
        "condition_dim": 32,
        "latent_shape": [3, 8, 8],
        "defaults": {"sampler": "euler", "steps": 4, "guidance_scale": 1.5},
    }
    for name in ("plain-mg", "scale-mg")
}


class Made:
    """A finished compaction."""

    def __init__(self, store: JobStore, job_id: str) -> None:
        self.job = store.get(job_id)
        assert self.job.status == "succeeded", self.job.problem
        self.result = CompactResult.model_validate(self.job.result)
        self._store = store

    @property
    def name(self) -> str:
        return self.result.compacted.name

    def artifact(self, name: str) -> bytes:
        return self._store.artifacts.read(self.job.artifacts[name])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a model that has its guidance trained into it, and one that takes the scale as an input too."""
    shape: dict[str, Any] = {"input_size": 8, "patch_size": 4, "hidden_size": WIDTH, "depth": 1, "num_heads": HEADS}
    for name, cls in (("plain-mg", MG), ("scale-mg", ScaleAwareMG)):
        system = random_system(cls, **shape, in_channels=3, num_classes=4, learn_sigma=False)
        tailprune.save_system(system, settings.registry.parent / f"{name}.safetensors")
    extend(settings.registry, {"models": MG_ENTRIES})
    return settings


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


@pytest.fixture
def failure(worker: Worker, submit: Submit, store: JobStore) -> Any:
    """Does a job that fails: what it says."""

    def failure(kind: Any = "compact", **body: Any) -> str:
        job = submit(kind, **body)
        worker.run(job.id)
        failed = store.get(job.id)
        assert failed.status == "failed"
        assert failed.problem is not None
        return failed.problem.detail

    return failure


@pytest.fixture
def compacted(worker: Worker, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request."""

    def compacted(**body: Any) -> Made:
        job = submit("compact", **body)
        worker.run(job.id)
        return Made(store, job.id)

    return compacted


@pytest.fixture
def sampled(worker: Worker, submit: Submit, store: JobStore) -> Any:
    """Samples a model: the result, and the latents of each variant by name."""

    def sampled(**body: Any) -> tuple[PruneSampleResult, dict[str, torch.Tensor]]:
        job = submit("prune-sample", **body)
        worker.run(job.id)
        done = store.get(job.id)
        assert done.status == "succeeded", done.problem
        result = PruneSampleResult.model_validate(done.result)
        files = {variant.name: done.artifacts[variant.latents] for variant in result.variants}
        return result, {name: load(store.artifacts.read(file))["latents"] for name, file in files.items()}

    return sampled


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_checkpoint_is_the_system_that_the_science_makes(
    compacted: Any, models: ModelPool, tmp_path: Path, way: dict[str, Any]
) -> None:
    made = compacted(**way)
    (tmp_path / "model.safetensors").write_bytes(made.artifact("model.safetensors"))
    loaded = tailprune.load(tmp_path / "model.safetensors")
    whole = models.systems.get(models.source(NAME, "model"))
    times = tailprune.sampling_times(whole, "euler", 4)
    expected = tailprune.compact(
        whole,
        times=times,
        inputs={"labels": torch.arange(4)},
        threshold=way.get("threshold"),
        of=way.get("of"),
        keep=way.get("keep"),
        by=way.get("by"),
        fill=way.get("fill", "zero" if "threshold" in way else "mean"),
    )
    torch.testing.assert_close(dict(loaded.state_dict()), dict(expected.system.state_dict()), rtol=0, atol=0)
    result = made.result
    assert (result.width, result.time_columns) == (expected.width, expected.time_columns)
    assert result.kept_components == (None if expected.kept is None else list(expected.kept))
    assert (result.parameters.before, result.parameters.after) == expected.parameters
    assert (result.adaln_parameters.before, result.adaln_parameters.after) == expected.adaln_parameters


def test_the_result_says_what_was_made_of_what(compacted: Any, settings: Settings) -> None:
    made = compacted(keep=8, labels=[0, 2], steps=10)
    result = made.result
    assert (result.model.name, made.name) == (NAME, f"{NAME}-compact-{made.job.key[:16]}")
    assert result.compacted.digest == made.job.artifacts["model.safetensors"].digest
    assert result.kept == len(result.kept_components or []) == result.width - result.time_columns
    assert result.covered.timesteps == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert (result.covered.labels, result.covered.conditions, result.covered.guided) == ([0, 2], None, True)
    assert result.bytes.before == (settings.registry.parent / f"{NAME}.safetensors").stat().st_size
    assert result.bytes.after == len(made.artifact("model.safetensors")) < result.bytes.before
    assert result.parameters.after < result.parameters.before
    assert made.job.progress is not None
    assert (made.job.progress.done, made.job.progress.unit) == (20, "steps")


def test_it_is_served_under_its_name_and_samples_what_was_measured(compacted: Any, sampled: Any) -> None:
    made = compacted(keep=8)
    _, whole = sampled(labels=[0, 1])
    result, latents = sampled(model=made.name, labels=[0, 1], threshold=None)
    assert result.model.digest == made.result.compacted.digest
    (smaller,) = latents.values()
    drift = (smaller - whole["baseline"]).norm() / whole["baseline"].norm()
    # the same samples, in a batch with other neighbours
    assert made.result.compared.drift.latent == pytest.approx(drift.item(), rel=1e-4)
    assert drift > 0


def test_what_counts_as_zero_gives_what_the_whole_model_gives_with_zeros(
    compacted: Any, sampled: Any, models: ModelPool
) -> None:
    made = compacted(threshold=2.2)
    _, whole = sampled(threshold=2.2, labels=[0, 1])
    _, smaller = sampled(model=made.name, threshold=2.2, labels=[0, 1])
    assert 0 < made.result.kept < 32
    # sums over fewer columns, in another order, through four steps
    torch.testing.assert_close(smaller["tail 2.2"], whole["tail 2.2"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole["baseline"], whole["tail 2.2"], rtol=1e-3, atol=1e-3)


def test_a_refit_may_be_pruned_and_has_less_drift_than_the_mean_with_fewer_columns(
    compacted: Any, sampled: Any
) -> None:
    refit, mean = compacted(keep=8, fill="refit"), compacted(keep=8, fill="mean")
    assert (refit.result.width, refit.result.by, refit.result.fill) == (8, "prediction", "refit")
    assert refit.result.width < mean.result.width
    assert refit.result.compared.drift.latent < mean.result.compared.drift.latent
    _, latents = sampled(model=refit.name, threshold=0.5, labels=[0, 1])
    assert latents.keys() == {"baseline", "tail 0.5"}


def test_the_picture_has_the_whole_model_above_the_compacted_one(compacted: Any, sampled: Any) -> None:
    made = compacted(keep=8, labels=[0, 1, 2, 3])
    picture = np.asarray(Image.open(io.BytesIO(made.artifact("samples.png"))))
    one = compacted(keep=8, labels=[3])
    narrower = np.asarray(Image.open(io.BytesIO(one.artifact("samples.png"))))
    assert picture.shape[0] == narrower.shape[0]
    assert picture.shape[1] > narrower.shape[1]  # the model's own two labels, against one
    assert (made.result.compared.samples, one.result.compared.samples) == (2, 1)


def test_what_is_compared_is_sampled_as_what_is_covered(compacted: Any) -> None:
    guided = compacted(keep=8, sampler="heun", steps=6).result.compared
    assert (guided.sampler, guided.steps, guided.guidance_scale) == ("heun", 6, 2.0)
    unguided = compacted(keep=8, guided=False).result.compared
    assert (unguided.sampler, unguided.steps, unguided.guidance_scale) == ("euler", 4, 1.0)
    assert compacted(keep=8, timesteps=[0.0, 1.0]).result.compared.sampler == "euler"


@pytest.mark.parametrize(
    ("way", "texts"),
    [
        (
            {"threshold": 2.2},
            ["below 2.2 in every covered vector", "set to zero", "Pruned vector by vector (tail 2.2)"],
        ),
        (
            {"threshold": 0.2, "side": "head"},
            ["above 0.2 in every covered vector", "Pruned vector by vector (head 0.2)"],
        ),
        ({"keep": 8}, ["among the 8 whose SiLU(c) varies most", "mean over the classes", "Between these times"]),
        (
            {"keep": 8, "fill": "refit"},
            [
                "predicted from the other 8 with the least change",
                "folded into AdaLN's weights",
                "is a fit to the covered",
            ],
        ),
        ({"threshold": 0.5, "of": "read", "fill": "refit"}, ["whose magnitude of SiLU(c) is below 0.5 in every"]),
        ({"keep": 6, "by": "directions"}, ["6 principal directions", "exact for nothing"]),
        ({"keep": 6, "labels": [0, 1, 3]}, ["labels 0–1, 3;", "and the null condition"]),
        ({"keep": 6, "guided": False}, ["without the null condition"]),
        ({"keep": 6, "timesteps": [0.0, 0.5]}, ["Covered are 2 times from 0 to 0.5;", "that are not covered"]),
        ({"keep": 6, "sampler": "euler", "timestep_shift": 0.5}, ["`euler` with 4 steps and a shift of 0.5"]),
    ],
    ids=str,
)
def test_the_card_says_what_was_removed_and_what_it_is_exact_for(
    compacted: Any, way: dict[str, Any], texts: list[str]
) -> None:
    made = compacted(**way)
    card = made.artifact("card.md").decode()
    result = made.result
    for text in (*texts, made.name, result.model.digest, result.compacted.digest, f"{result.parameters.after:,}"):
        assert text in card
    assert f"the relative difference of the latents is {result.compared.drift.latent:.4f}" in card


def test_the_same_compaction_has_the_same_bytes(compacted: Any, store: JobStore, redis_client: redis.Redis) -> None:
    first = compacted(keep=8)
    redis_client.flushall()
    again = compacted(keep=8)
    assert again.job.id != first.job.id
    assert again.result.compacted == first.result.compacted


def test_a_checkpoint_of_another_format_and_its_decoder_are_compacted_too(compacted: Any, sampled: Any) -> None:
    made = compacted(model=TINY_DIT, keep=8, by="directions")
    result, latents = sampled(model=made.name, threshold=None)
    assert result.pictures.decoder == "latents"
    assert latents["baseline"].shape == (2, 4, 8, 8)


def test_a_compacted_model_is_scored_extracted_and_drawn(
    compacted: Any, worker: Worker, submit: Submit, store: JobStore
) -> None:
    name = compacted(keep=8).name
    asked: list[tuple[Any, dict[str, Any]]] = [
        ("metrics", {}),
        ("extract", {}),
        ("figure", {"figure": "cosine"}),
        ("study", {"measures": ["accuracy"], "samples_per_label": 1}),
    ]
    for kind, body in asked:
        job = submit(kind, model=name, **body)
        worker.run(job.id)
        assert store.get(job.id).status == "succeeded", store.get(job.id).problem


def test_a_threshold_that_removes_everything_is_reported(failure: Any) -> None:
    assert "removes all 32 components" in failure(threshold=1000.0)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"threshold": 1e-9}, "with 32 components, it would have"),
        ({"threshold": 1e-9}, "cut at a higher threshold"),
        ({"threshold": 1e9, "side": "head"}, "cut at a lower threshold"),
        ({"keep": 31, "fill": "mean", "timesteps": [0.1 * n for n in range(10)]}, "keep fewer than 31"),
        ({"keep": 31, "by": "directions"}, "with 31 directions and their basis, it would have"),
    ],
    ids=str,
)
def test_what_would_be_no_smaller_is_not_made(
    failure: Any, redis_client: redis.Redis, way: dict[str, Any], said: str
) -> None:
    detail = failure(**way)
    assert "this would make tiny no smaller" in detail
    assert said in detail
    assert CompactedStore(redis_client).all() == {}


def test_a_model_with_its_guidance_trained_in_is_covered_for_guided_sampling_too(compacted: Any) -> None:
    made = compacted(model="plain-mg", keep=8)
    assert (made.result.covered.guided, made.result.covered.guidance_scale) == (True, None)
    assert made.result.compared.guidance_scale == 1.5
    assert "and the null condition of guided sampling" in made.artifact("card.md").decode()
    unguided = compacted(model="plain-mg", keep=8, guided=False)
    assert unguided.result.covered.guided is False
    assert unguided.result.compared.guidance_scale == 1.0


def test_a_model_that_is_told_its_guidance_says_which_was_covered(compacted: Any) -> None:
    made = compacted(model="scale-mg", keep=8)
    assert (made.result.covered.guided, made.result.covered.guidance_scale) == (False, 1.5)
    assert made.result.compared.guidance_scale == 1.5
    card = made.artifact("card.md").decode()
    assert "at guidance scale 1.5, which the model takes as an input, and no other" in card
    assert "null condition" not in card


def test_the_null_condition_of_a_model_that_is_told_its_guidance_is_refused(failure: Any) -> None:
    assert "scale-mg takes the guidance scale as an input" in failure(model="scale-mg", keep=8, guided=True)


def test_all_classes_are_covered_where_none_are_given(compacted: Any, submit: Submit) -> None:
    assert submit("compact", keep=8).request["labels"] is None
    assert compacted(keep=8).result.covered.labels == [0, 1, 2, 3]


def test_neither_model_is_sampled_by_a_compiled_network(
    settings: Settings, redis_client: redis.Redis, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(*_: Any) -> torch.Tensor:
        raise AssertionError("the compiled network was run")

    monkeypatch.setattr("workers.model_pool.compile_network", lambda system: setattr(system, "compiled", compiled))
    worker = Worker(settings.model_copy(update={"compile": True}), "worker")
    job = submit("compact", keep=8)
    worker.run(job.id)
    Made(store, job.id)
    warm = worker.context.models.system(worker.context.models.source(NAME, "model"), "float32")
    assert warm.compiled is compiled  # for other jobs, as before


def test_a_damaged_copy_is_replaced_before_it_is_used(compacted: Any, sampled: Any, settings: Settings) -> None:
    made = compacted(keep=8)
    body = {"model": made.name, "labels": [0, 1], "threshold": None}
    whole = made.artifact("model.safetensors")
    path = settings.data_dir / "compacted" / made.result.compacted.digest / "model.safetensors"
    path.parent.mkdir(parents=True)
    for seed, damaged in enumerate((whole[:-4] + bytes(4), whole[:-4])):
        path.unlink(missing_ok=True)  # no second name of the stored file, which stays whole
        path.write_bytes(damaged)
        sampled(**body, seed=seed)
        assert path.read_bytes() == whole


ASKED: list[tuple[Any, dict[str, Any]]] = [
    ("metrics", {}),
    ("extract", {}),
    ("figure", {"figure": "cosine"}),
    ("prune-sample", {"threshold": None, "labels": [0]}),
    ("prune-sample", {"threshold": None, "labels": [1]}),  # shares a batch with the one before
    ("study", {"measures": ["accuracy"], "samples_per_label": 1}),
]


def test_jobs_that_wait_for_a_deleted_model_fail_by_its_name_and_its_worker_serves_it_once_it_is_made_again(
    compacted: Any, sampled: Any, worker: Worker, submit: Submit, store: JobStore, redis_client: redis.Redis
) -> None:
    made = compacted(keep=8)
    _, before = sampled(model=made.name, threshold=None)  # and it is warm
    jobs = [submit(kind, model=made.name, **body) for kind, body in ASKED]
    assert CompactedStore(redis_client).remove(made.name)
    for job in jobs:
        worker.run(job.id)
        failed = store.get(job.id)
        assert failed.status == "failed"
        assert failed.problem is not None
        assert f"no model is named '{made.name}'; known models: {NAME}" in failed.problem.detail
    again = compacted(keep=8)
    assert (again.job.id != made.job.id, again.result.compacted) == (True, made.result.compacted)
    _, after = sampled(model=made.name, threshold=None, seed=1)
    assert not after["baseline"].equal(before["baseline"])


@pytest.mark.parametrize(("kind", "body"), ASKED[:4] + ASKED[5:], ids=str)
def test_a_job_under_way_is_done_though_its_model_is_deleted(
    compacted: Any,
    worker: Worker,
    submit: Submit,
    store: JobStore,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    body: dict[str, Any],
) -> None:
    made, source = compacted(keep=8), ModelPool.source

    def found_and_deleted(*said: Any) -> Any:
        found = source(*said)
        CompactedStore(redis_client).remove(made.name)
        return found

    job = submit(kind, model=made.name, **body)
    monkeypatch.setattr(ModelPool, "source", found_and_deleted)
    worker.run(job.id)
    assert CompactedStore(redis_client).all() == {}
    assert store.get(job.id).status == "succeeded", store.get(job.id).problem


def test_a_compacted_model_is_read_as_it_was_made_whatever_the_entry_of_the_whole_one_has_since(
    compacted: Any, sampled: Any, settings: Settings
) -> None:
    made = compacted(keep=8)
    _, before = sampled(model=made.name, threshold=None)
    text = settings.registry.read_text()
    settings.registry.write_text(text.replace("num_heads = 2", "num_heads = 1", 1))
    worker = Worker(settings, "another")
    system = worker.context.models.system(worker.context.models.source(made.name, "model"), "float32")
    latents = tailprune.sample(
        system, {"labels": torch.tensor([0, 1])}, sampler="euler", steps=4, guidance=2.0, seeds=[(0, 0), (0, 1 << 32)]
    )
    torch.testing.assert_close(latents, before["baseline"], rtol=1e-4, atol=1e-4)


def test_a_cancelled_compaction_makes_no_model(
    worker: Worker, submit: Submit, store: JobStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Cancelled

    monkeypatch.setattr(Run, "check", stop)
    job = submit("compact", keep=8)
    worker.run(job.id)
    assert store.get(job.id).status == "cancelled"
    assert CompactedStore(redis_client).all() == {}


def test_a_compaction_is_cancelled_while_its_times_are_looked_at(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []

    def step(_: Run, done: int, total: int, unit: str) -> None:
        told.append((done, total, unit))
        if done == 2:
            raise Cancelled

    monkeypatch.setattr(Run, "step", step)
    job = submit("compact", keep=8)
    worker.run(job.id)
    assert store.get(job.id).status == "cancelled"
    assert told == [(1, 4, "times"), (2, 4, "times")]
    assert not list(settings.data_dir.rglob("artifacts/*/??/*"))


def test_nothing_is_left_in_the_data_folder_but_artifacts_and_caches(compacted: Any, settings: Settings) -> None:
    compacted(keep=8)
    assert {path.name for path in settings.data_dir.iterdir()} <= {"artifacts", "digests", "incoming", "kernels"}
    assert list((settings.data_dir / "incoming").iterdir()) == []
