from __future__ import annotations

import io
import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import redis
import torch
from PIL import Image
from sklearn.manifold import TSNE

import tailprune
from jobs.figure_results import CosineNumbers, ErrorNumbers, FigureNumbers
from jobs.records import Job
from jobs.results import FigureResult, PruneSampleResult, RemovalResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune.figures.error import RULES
from tailprune.figures.tsne import embed
from tailprune.statistics import cosine_matrix
from tests.tiny_model import CLASSES, CONDITION_ONLY, CURVE, NAME, TINY_DIT
from tests.workers.conftest import Submit
from workers.handlers.figure_numbers import training_numbers
from workers.model_pool import ModelPool
from workers.worker import Worker

OF_VECTORS = ("cosine", "histogram", "vectors", "variance", "sparsity", "tsne")

Drawn = tuple[FigureResult, bytes, bytes]


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


@pytest.fixture
def drawn(worker: Worker, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request: its result, its PNG and its SVG."""

    def drawn(figure: str, **body: Any) -> Drawn:
        done = did(worker, store, submit("figure", figure=figure, **body))
        result = FigureResult.model_validate(done.result)
        png, svg = (store.artifacts.read(done.artifacts[name]) for name in (result.png, result.svg))
        assert [done.artifacts[name].media_type for name in (result.png, result.svg)] == ["image/png", "image/svg+xml"]
        return result, png, svg

    return drawn


def did(worker: Worker, store: JobStore, job: Job) -> Job:
    """A job, once it is done."""
    worker.run(job.id)
    done = store.get(job.id)
    assert done.status == "succeeded", done.problem
    return done


@pytest.fixture
def numbers(worker: Worker, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request: the numbers behind its figure."""

    def numbers(figure: str, **body: Any) -> Any:
        done = did(worker, store, submit("figure", figure=figure, **body))
        result = FigureResult.model_validate(done.result)
        assert result.data is not None
        assert done.artifacts[result.data].media_type == "application/json"
        document = FigureNumbers.model_validate_json(store.artifacts.read(done.artifacts[result.data]))
        assert (document.figure, document.caption, document.model) == (figure, result.caption, result.model)
        return document.data

    return numbers


@pytest.fixture
def vectors(models: ModelPool) -> torch.Tensor:
    """The condition c of all classes where sampling starts."""
    condition = models.conditions.get(models.source(NAME, "condition"))
    with torch.no_grad():
        return condition.embed_time(torch.zeros(1)) + condition.embed_inputs(condition.all_inputs())


def test_the_numbers_of_figures_of_vectors_are_those_of_the_library(numbers: Any, vectors: torch.Tensor) -> None:
    described = tailprune.describe(vectors)
    cosine = numbers("cosine")
    assert isinstance(cosine, CosineNumbers)
    assert cosine.names == CLASSES
    torch.testing.assert_close(torch.tensor(cosine.values), cosine_matrix(vectors).float())
    histogram = numbers("histogram")
    assert (histogram.edges, histogram.counts) == (described.histogram.edges, described.histogram.counts)
    variance = numbers("variance")
    expected = described.variance[variance.components] / described.variance.sum()
    assert variance.shares == pytest.approx(expected.tolist())
    assert variance.shares == sorted(variance.shares, reverse=True)
    assert sum(variance.shares) == pytest.approx(1)
    sparsity = numbers("sparsity", thresholds=[0.5, 1.0])
    assert [(each.threshold, each.fraction) for each in sparsity.marked] == [
        (tau, described.sparsity(tau)) for tau in (0.5, 1.0)
    ]
    for tau, share in list(zip(sparsity.thresholds, sparsity.fractions, strict=True))[::50]:
        assert share == pytest.approx(described.sparsity(tau), abs=1 / vectors.numel())  # float64 against float32
    shown = numbers("vectors", classes=2)
    rows = [CLASSES.index(name) for name in shown.names]
    assert shown.magnitudes == vectors[rows].abs().tolist()


def test_the_numbers_of_t_sne_are_the_positions_of_all_components(numbers: Any, vectors: torch.Tensor) -> None:
    found = numbers("tsne", seed=3)
    expected = embed(vectors.double().numpy(), 3)
    assert (found.names, found.labels) == (CLASSES, [0, 1, 2, 3])
    np.testing.assert_array_equal(np.array([found.x, found.y], np.float32), expected.T)


def test_the_numbers_of_removal_are_what_was_removed_and_the_drift_of_the_samples(
    numbers: Any, worker: Worker, submit: Submit, store: JobStore
) -> None:
    found = numbers("removal", thresholds=[0.5, 1.0])
    sampled = did(worker, store, submit("prune-sample", threshold=[0.5, 1.0], samples_per_label=1))
    variants = PruneSampleResult.model_validate(sampled.result).variants[1:]
    assert found.thresholds == [0.5, 1.0]
    assert found.names == [variant.name for variant in variants]
    assert found.drift == pytest.approx([variant.drift.latent for variant in variants if variant.drift])
    over_time = did(worker, store, submit("removal", threshold=[0.5, 1.0]))
    shares = [prune.removed.fraction for prune in RemovalResult.model_validate(over_time.result).prunes]
    assert found.removed == pytest.approx(shares)  # of as many steps as are looked at


def test_the_numbers_of_training_are_the_curves_of_the_record(numbers: Any) -> None:
    found = numbers("training")
    assert found.steps == [point["step"] for point in CURVE]
    assert found.curves == {name: [point[name] for point in CURVE] for name in ("loss", "npr", "cosine")}


def test_what_not_every_point_of_a_record_has_as_a_number_is_no_curve() -> None:
    curve = [{"step": 1, "loss": 0.5, "fid": 3.0, "gap": 1.0}, {"step": 2, "loss": 0.4, "fid": None, "gap": math.nan}]
    assert training_numbers(curve).curves == {"loss": [0.5, 0.4]}  # type: ignore[arg-type]


def test_the_cosines_of_many_vectors_are_drawn_and_not_written_as_numbers(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    done = did(worker, store, submit("figure", figure="cosine", part="t"))
    assert FigureResult.model_validate(done.result).data is None
    assert set(done.artifacts) == {"cosine.png", "cosine.svg"}


@pytest.mark.parametrize("figure", OF_VECTORS)
def test_figures_of_vectors_need_the_condition_alone_and_are_the_same_every_time(drawn: Any, figure: str) -> None:
    result, png, svg = drawn(figure, model=CONDITION_ONLY)
    assert result.figure == figure
    assert "condition-only, c at t = 0" in result.caption
    assert Image.open(io.BytesIO(png)).width > 1000
    assert svg.startswith(b"<?xml")


@pytest.mark.parametrize("part", ["y", "t"])
@pytest.mark.parametrize("figure", OF_VECTORS)
def test_figures_are_of_the_part_that_is_asked_for(
    drawn: Any, figure: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sklearn.manifold.TSNE", partial(TSNE, max_iter=250))  # the least: there are 1000 times
    asked = {"model": TINY_DIT, "part": part}  # whose times are whole, and 1000
    caption = drawn(figure, **asked)[0].caption
    assert f"tiny-dit, {part}, " in caption
    assert ("1000 times" if part == "t" else "4 classes") in caption


def test_a_figure_is_of_the_time_and_the_classes_that_are_asked_for(drawn: Any) -> None:
    early, late = drawn("cosine", timestep=0.0, classes=2), drawn("cosine", timestep=1.0, classes=2)
    assert ("at t = 0, 2 of 4 classes" in early[0].caption, "at t = 1," in late[0].caption) == (True, True)
    assert early[1] != late[1]
    assert any(drawn("cosine", classes=2, seed=seed)[1] != early[1] for seed in range(1, 5))


def test_the_figure_of_removal_shows_a_row_a_threshold(
    drawn: Any, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    sampled = tailprune.sample_each

    def watched(system: Any, inputs: Any, **options: Any) -> Any:
        made = sampled(system, inputs, **options)
        seen.update(options, labels=inputs["labels"].tolist(), made=made)
        return made

    monkeypatch.setattr("tailprune.sample_each", watched, raising=False)
    result, png, _ = drawn("removal", thresholds=[0.5, 1.0], side="head", classes=3, seed=2)
    assert [None if prune is None else (prune.side, prune.threshold) for prune in seen["prunes"][0]] == [
        None,
        ("head", 0.5),
        ("head", 1.0),
    ]
    assert (len(seen["labels"]), seen["seeds"][0][0]) == (3, 2)
    assert result.samples == store.telemetry.read()[("tailprune_samples", NAME)] == 3 * 3
    assert "with the head of c removed" in result.caption
    assert "euler, 4 steps, guidance 2" in result.caption
    assert "quantiles" not in result.caption
    assert np.asarray(Image.open(io.BytesIO(png))).std() > 0


def test_default_thresholds_remove_some_shares_of_the_models_own_vectors(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = []
    monkeypatch.setattr("workers.handlers.removal_figure.ImageRow", lambda *row: rows.append(row) or _image_row(*row))
    caption = drawn("removal")[0].caption
    assert rows[0][0] == "baseline"
    shares = [float(row[1].partition("%")[0]) for row in rows[1:]]
    assert shares == pytest.approx([40, 66, 80], abs=2)  # thresholds have two digits
    assert "quantiles of the model's own |c|" in caption


def _image_row(*row: Any) -> Any:
    from tailprune.figures.removal import ImageRow

    return ImageRow(*row)


def test_a_figure_of_removal_taken_up_again_goes_on_from_its_last_shard(
    settings: Settings, submit: Submit, store: JobStore, stopped_at_the_second: list[int]
) -> None:

    worker = Worker(settings.model_copy(update={"batch_size": 4}), "worker")  # one sample: three prunes, and none
    job = submit("figure", figure="removal")
    worker.run(job.id)
    assert store.get(job.id).status == "queued"
    worker.run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert stopped_at_the_second == [0, -1, 1]


def test_the_figure_of_training_is_drawn_from_the_record_beside_the_card(drawn: Any, settings: Settings) -> None:
    result, _, _ = drawn("training")
    assert "cosine of c 0.9800, nPR 0.100" in result.caption
    record = settings.registry.parent / "training.json"
    found = json.loads(record.read_text())
    record.write_text(json.dumps({"curve": found["curve"][:2]}))
    again, _, _ = drawn("training")
    different = again.model.training_digest != result.model.training_digest
    assert (different, "nPR 0.250" in again.caption) == (True, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not JSON", "is no record of a training"),
        ("{}", "has no 'curve'"),
        ('{"curve": []}', "no points"),
        ('{"curve": [{"step": 1}]}', "lacks cosine, npr"),
        ('{"curve": 3}', "is no record of a training"),
    ],
)
def test_a_record_that_is_none_fails_the_job_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings, text: str, reason: str
) -> None:
    (settings.registry.parent / "training.json").write_text(text)
    job = submit("figure", figure="training")
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert reason in failed.problem.detail


def test_a_record_that_is_missing_here_fails_the_job_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings
) -> None:
    job = submit("figure", figure="training")
    (settings.registry.parent / "training.json").unlink()
    worker.run(job.id)
    problem = store.get(job.id).problem
    assert problem is not None
    assert problem.type.endswith(":failed")
    assert "training.json is missing" in problem.detail


def test_a_limit_of_the_worker_fails_a_figure_with_the_reason(
    settings: Settings, submit: Submit, store: JobStore
) -> None:
    job = submit("figure", figure="removal", thresholds=[0.5])
    Worker(settings.model_copy(update={"max_samples": 1}), "worker").run(job.id)
    problem = store.get(job.id).problem
    assert problem is not None
    assert problem.type.endswith(":failed")
    assert "a job makes at most 1" in problem.detail


def test_vectors_that_are_damaged_fail_the_job(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.handlers.figure.Vectors.compute", lambda *_: torch.full((4, 3), torch.nan))
    job = submit("figure", figure="histogram")
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert "NaN or infinity" in failed.problem.detail


def test_the_errors_drawn_are_those_of_the_library_at_the_models_own_run(numbers: Any, settings: Settings) -> None:
    found = numbers("error")
    assert isinstance(found, ErrorNumbers)
    system = tailprune.load(settings.registry.parent / f"{NAME}.safetensors", family="sit", num_heads=2)
    prunes = [rule(found.removed[9]) for rule in RULES.values()]
    expected = tailprune.modulation_error(system, prunes, system.all_inputs(), sampler="euler", steps=4)
    assert [line.rule for line in found.lines] == list(RULES)
    assert [line.errors[9] for line in found.lines] == pytest.approx(expected, rel=1e-5)
    for line in found.lines[:2]:
        assert line.errors == sorted(line.errors)
    assert found.measured == []


def test_the_figure_of_errors_marks_measured_drifts_and_samples_nothing(drawn: Any, numbers: Any) -> None:
    measured = [{"rule": "variance, mean", "removed": 0.5, "drift": 0.125}]
    result, png, _ = drawn("error", measured=measured)
    assert result.samples == 0
    assert result.model.modulation_digest is not None
    assert "drift of samples in a study" in result.caption
    assert png != drawn("error")[1]
    assert [point.model_dump() for point in numbers("error", measured=measured).measured] == measured


def test_a_checkpoint_of_the_condition_alone_has_no_errors_to_draw(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    job = submit("figure", figure="error", model=CONDITION_ONLY)
    worker.run(job.id)
    done = store.get(job.id)
    assert done.problem is not None
    assert "has no weights of AdaLN" in done.problem.detail
