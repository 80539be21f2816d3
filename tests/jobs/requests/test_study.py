"""The request of `study`: what is filled in, what is the same job, and what is refused where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from jobs.keys import job_key
from jobs.problems import InvalidRequest
from jobs.registry.digests import identify
from jobs.registry.evaluation import MEASURES, EvaluationAssets
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.study import Grid, StudyRequest
from jobs.settings import Settings
from jobs.storage.condition_info import ConditionInfo
from tailprune.spec.prune import PruneSpec
from tests.registry import extend, write_evaluated_registry

VIDEO_MODEL = {"family": "mdsgen", "checkpoint": "shapes-sit/model.safetensors", "condition_dim": 32}
ONE_VIDEO = ConditionInfo(id="0" * 64, count=1, inputs={"video": [32, 512]}, family="mdsgen", bytes=1)
TWO_VIDEOS = ONE_VIDEO.model_copy(update={"count": 2})
CLIP = {"extractors": {"clip": "shapes-classifier", "lpips": "shapes-classifier/model.safetensors"}}
GRID = {"thresholds": [0.1]}
LAST_60 = {"when": "last", "count": 60}
LIMITS = Settings(max_study_samples=200, max_study_variants=3, max_steps=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write_evaluated_registry(tmp_path / "models")
    extend(path, {"models": {"video": VIDEO_MODEL}})
    return path


def read(path: Path, model: str = "scored") -> tuple[ModelEntry, EvaluationAssets]:
    return Registry.read(path).get(model), EvaluationAssets.from_registry(Registry.read(path))


def resolved(
    path: Path, model: str = "scored", settings: Settings = LIMITS, known: ConditionInfo | None = None, **said: Any
) -> StudyRequest:
    entry, instruments = read(path, model)
    request = StudyRequest.model_validate({"model": model} | said)
    return request.resolve(entry, settings, known, instruments)


def refused(path: Path, model: str = "scored", known: ConditionInfo | None = None, **said: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        resolved(path, model, known=known, **said)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def key(path: Path, data_dir: Path, model: str = "scored", **said: Any) -> str:
    """The key of the job, as the service makes it."""
    entry, instruments = read(path, model)
    request = resolved(path, model, **said)
    identity = identify("model", entry, data_dir, request.evaluated_with(entry, instruments))
    return job_key("study", request.model_dump(), identity.weights, identity.reading)


@pytest.mark.parametrize(
    "said",
    [
        {"prunes": []},
        {"prunes": [{}]},
        {"grid": []},
        {"grid": {"thresholds": []}},
        {"search": {"measure": "drift"}},
        {"search": {"measure": "drift", "budget": 0}},
        {"search": {"measure": "psnr", "budget": 1}},
        {"search": {"measure": "drift", "budget": 1, "trials": 17}},
        {"grid": GRID, "measures": []},
        {"grid": GRID, "measures": ["drift", "drift"]},
        {"grid": GRID, "measures": ["beauty"]},
        {"grid": GRID, "extractor": "vgg"},
        {"grid": GRID, "reference": ""},
        {"grid": GRID, "threshold": 0.1},
    ],
    ids=str,
)
def test_a_request_of_a_wrong_shape_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StudyRequest.model_validate({"model": "scored"} | said)


def test_a_grid_is_spread_after_the_prunes_and_nothing_comes_twice(path: Path) -> None:
    grids = [{"thresholds": [0.1, 0.2]}, {"thresholds": [0.2]}]
    settings = LIMITS.model_copy(update={"max_study_variants": 9})
    found = resolved(path, settings=settings, prunes=[{"keep": 8}, {"threshold": 0.2}], grid=grids)
    assert [prune.name for prune in found.prunes or []] == ["keep 8", "tail 0.2", "tail 0.1"]
    assert found.grid is None


def test_all_classes_are_sampled_as_the_model_samples_by_default(path: Path) -> None:
    found = resolved(path, grid=GRID)
    assert (found.labels, found.samples_per_label, found.sample_count) == (list(range(100)), 1, 100)
    assert (found.sampler, found.steps, found.guidance_scale) == ("sde", 50, 2.5)
    assert resolved(path, grid=GRID, labels=[3, 4], samples_per_label=5).sample_count == 10


def test_all_rows_of_conditions_are_sampled_by_default(path: Path) -> None:
    found = resolved(path, "video", known=TWO_VIDEOS, conditions=TWO_VIDEOS.id, grid=GRID)
    assert (found.rows, found.labels, found.measures) == ([0, 1], None, ["drift"])


def test_samples_are_measured_by_all_that_are_available_by_default(path: Path) -> None:
    found = resolved(path, grid=GRID)
    every = ["fid", "kid", "inception-score", "precision", "recall", "accuracy", "drift", "psnr", "ssim"]
    assert found.measures == every
    assert (found.extractor, found.reference) == ("shapes-classifier", "shapes")
    extend(path, CLIP)
    assert resolved(path, grid=GRID).measures == list(MEASURES)


def test_a_model_that_shows_no_images_is_measured_by_its_drift(path: Path) -> None:
    found = resolved(path, "absent-dit", grid=GRID)
    assert (found.measures, found.extractor, found.reference) == (["drift"], None, None)


def test_a_search_by_modulation_error_samples_nothing_of_its_own(path: Path) -> None:
    search = {"measure": "modulation-error", "budget": 0.1}
    alone = resolved(path, search=search)
    assert alone.samples_nothing
    assert (alone.measures, alone.extractor, alone.reference) == (None, None, None)
    beside = resolved(path, search=search, grid=GRID, measures=["drift"])
    assert not beside.samples_nothing
    assert beside.measures == ["drift"]
    for asked in ({"measures": ["drift"]}, {"extractor": "shapes-classifier"}, {"reference": "shapes"}):
        with pytest.raises(InvalidRequest, match=f"body.{next(iter(asked))}: a search by modulation-error alone"):
            resolved(path, search=search, **asked)


def test_measures_come_in_one_order_with_what_is_searched_by(path: Path) -> None:
    search = {"measure": "fid", "budget": 1.0}
    found = resolved(path, search=search, measures=["drift", "accuracy"])
    assert found.measures == ["fid", "accuracy", "drift"]
    assert found.prunes is None


def test_what_no_measure_uses_is_left_out(path: Path) -> None:
    found = resolved(
        path, grid=GRID, measures=["drift"], extractor="shapes-classifier", reference="shapes", targets="shapes"
    )
    assert (found.extractor, found.reference, found.targets) == (None, None, None)


@pytest.mark.parametrize(
    "said",
    [
        {"grid": GRID},
        {"prunes": [{"keep": 8}], "grid": GRID, "measures": ["drift"]},
        {"search": {"measure": "accuracy", "budget": 0.1}},
        {"grid": GRID, "sampler": "sde", "targets": "shapes"},
    ],
    ids=str,
)
def test_a_resolved_request_is_one_that_resolves_to_itself(path: Path, said: dict[str, Any]) -> None:
    once = resolved(path, **said)
    assert resolved(path, **once.model_dump()) == once
    assert StudyRequest.model_validate_json(once.model_dump_json()) == once


def test_spelling_out_a_default_is_the_same_job(path: Path, tmp_path: Path) -> None:
    spelt = {"prunes": [{"threshold": 0.1, "side": "tail", "fill": "zero"}], "labels": list(range(100)), "steps": 50}
    assert key(path, tmp_path, grid=GRID) == key(path, tmp_path, **spelt, reference="shapes")


def test_another_extractor_or_reference_is_another_job(path: Path, tmp_path: Path) -> None:
    before, drift = key(path, tmp_path, grid=GRID), key(path, tmp_path, grid=GRID, measures=["drift"])
    (path.parent / "shapes-classifier" / "model.safetensors").write_bytes(b"another classifier")
    after = key(path, tmp_path, grid=GRID)
    assert before != after
    extend(path, {"references": {"shapes": {"count": 101}}})
    assert key(path, tmp_path, grid=GRID) not in (before, after)
    assert key(path, tmp_path, grid=GRID, measures=["drift"]) == drift


def test_other_images_of_a_reference_are_another_job(path: Path, tmp_path: Path) -> None:
    photos = path.parent / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"one")
    before = key(path, tmp_path, grid=GRID, reference="photos")
    (photos / "b.png").write_bytes(b"two")
    assert key(path, tmp_path, grid=GRID, reference="photos") != before


def test_another_prompt_is_another_job_where_clip_is_told_it(path: Path, tmp_path: Path) -> None:
    extend(path, CLIP)
    by_clip, by_drift = (key(path, tmp_path, grid=GRID, measures=[measure]) for measure in ("clip-score", "drift"))
    extend(path, {"models": {"scored": {"prompt": "a {}"}}})
    assert key(path, tmp_path, grid=GRID, measures=["clip-score"]) != by_clip
    assert key(path, tmp_path, grid=GRID, measures=["drift"]) == by_drift


def test_only_what_is_measured_with_is_needed(path: Path) -> None:
    entry, instruments = read(path)
    found = resolved(path, grid=GRID, measures=["accuracy", "psnr"], targets="shapes")
    assert (found.extractors(entry), found.references) == (["shapes-classifier"], ["shapes"])
    weights = path.parent / "shapes-classifier" / "model.safetensors"
    assert found.evaluated_with(entry, instruments) == {
        "extractor shapes-classifier": weights,
        "reference shapes": "shapes, 100",
    }


def test_an_instrument_that_went_away_since_is_named(path: Path) -> None:
    entry, instruments = read(path)
    found = resolved(path, grid=GRID)
    (path.parent / "shapes-classifier" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="the extractor 'shapes-classifier' is missing; "):
        found.evaluated_with(entry, instruments)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"prunes": [{"threshold": 1}, {"keep": 129}]}, "body.prunes.1.keep: keep 129 is more than the 128"),
        (
            {"prunes": [{"keep": 1}, {"keep": 1}, {"threshold": 1, "schedule": LAST_60}], "steps": 50},
            "body.prunes.2.schedule.count: count 60 is more than the 50 steps",
        ),
        (
            {"grid": GRID | {"schedules": [{"when": "every"}, LAST_60]}, "steps": 50},
            "body.grid.schedules.1.count: count 60 is more than the 50 steps",
        ),
        (
            {"grid": [GRID, GRID | {"schedules": [{"when": "first"}]}], "sampler": "dopri5"},
            "body.grid.1.schedules.0.when: dopri5 chooses its own steps",
        ),
        (
            {"search": {"measure": "drift", "budget": 1, "schedule": LAST_60}, "steps": 50},
            "body.search.schedule.count: count 60 is more than the 50 steps",
        ),
        ({"grid": {"thresholds": [1, 2, 3, 4]}}, "body.grid: 4 prunes is more than the 3 of one study; use several"),
        ({"prunes": [{"keep": n} for n in range(1, 5)]}, "body.prunes: 4 prunes is more than the 3 of one study"),
        ({"grid": GRID, "labels": [100]}, "body.labels.0: label 100 is outside 0 to 99"),
        (
            {"grid": GRID, "samples_per_label": 3},
            "body.samples_per_label: 100 labels x 3 samples is 300 samples; a job makes at most 200",
        ),
        ({"grid": GRID, "steps": 101}, "body.steps: 101 steps is more than the 100 allowed"),
        (
            {"grid": GRID, "measures": ["drift", "lpips"]},
            "body.measures.1: measure 'lpips': the extractor 'lpips' is missing; it is not registered: under "
            "[extractors]",
        ),
        (
            {"grid": GRID, "measures": ["fid"], "labels": [0]},
            "body.measures.0: measure 'fid': it needs at least 2 samples, and the request makes 1",
        ),
        (
            {"grid": GRID, "extractor": "inception"},
            "body.extractor: the extractor 'inception' is missing; published/inception.pt does not exist: put",
        ),
        (
            {"grid": GRID, "measures": ["fid", "kid"], "extractor": "inception"},
            "body.extractor: the extractor 'inception' is missing; ",
        ),
        ({"grid": GRID, "extractor": "lpips"}, "body.extractor: 'lpips' gives no features; use one of shapes-"),
        ({"grid": GRID, "reference": "moon"}, "body.reference: no reference 'moon' is registered; known"),
        (
            {"grid": GRID, "measures": ["fid"], "reference": "photos"},
            "body.reference: the images of reference",
        ),
        ({"grid": GRID, "targets": "moon"}, "body.targets: no reference 'moon' is registered; known"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_where_it_was_asked_for(path: Path, said: dict[str, Any], fault: str) -> None:
    (found,) = refused(path, **said)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"grid": GRID, "measures": ["fid"]}, "body.measures.0: measure 'fid': the extractor 'inception' is missing"),
        ({"grid": GRID, "measures": ["accuracy"]}, "body.measures.0: measure 'accuracy': no classifier is registered"),
        (
            {"grid": GRID, "measures": ["kid"], "extractor": "shapes-classifier"},
            "body.measures.0: measure 'kid': it needs a reference, and the entry of shapes-sit has none; name a",
        ),
        (
            {"search": {"measure": "accuracy", "budget": 0.1}},
            "body.search.measure: measure 'accuracy': no classifier is registered for shapes-sit",
        ),
    ],
    ids=str,
)
def test_a_model_lacks_what_its_entry_does_not_say(path: Path, said: dict[str, Any], fault: str) -> None:
    (found,) = refused(path, "shapes-sit", **said)
    assert found.startswith(fault)


def test_images_are_not_measured_where_there_are_none(path: Path) -> None:
    (found,) = refused(path, "absent-dit", grid=GRID, measures=["ssim"])
    assert found.endswith("it needs images, but absent-dit shows latents; use the measure 'drift'")


def test_ssim_needs_images_as_large_as_its_window(path: Path) -> None:
    extend(path, {"models": {"scored": {"latent_shape": [3, 8, 8]}}})
    assert "ssim" not in (resolved(path, grid=GRID).measures or [])
    (found,) = refused(path, grid=GRID, measures=["ssim"])
    assert found.endswith("it needs images of at least 11 x 11 pixels, and those of scored are 8 x 8")


def test_clip_needs_the_name_of_every_sampled_class(path: Path) -> None:
    extend(path, CLIP)
    assert "clip-score" in (resolved(path, grid=GRID, labels=[0, 1]).measures or [])
    (path.parent / "shapes-sit" / "classes.txt").unlink()
    (found,) = refused(path, grid=GRID, labels=[0, 2], measures=["clip-score"])
    assert "with the names of their classes, and scored has 0 names" in found


def test_clip_gives_features_and_no_classes(path: Path) -> None:
    extend(path, CLIP)
    measures = resolved(path, grid=GRID, extractor="clip").measures or []
    assert ("fid" in measures, "inception-score" in measures) == (True, False)
    (found,) = refused(path, grid=GRID, extractor="clip", measures=["inception-score"])
    assert found.startswith("body.measures.0: measure 'inception-score': it needs class probabilities")


@pytest.mark.parametrize(
    ("said", "location"),
    [
        ({"prunes": [{"keep": 1}]}, "body.prunes.0.keep"),
        ({"prunes": [{"threshold": 1, "fill": "mean"}]}, "body.prunes.0.fill"),
        ({"grid": GRID | {"fills": ["zero", "mean"]}}, "body.grid.fills.1"),
        ({"search": {"measure": "drift", "budget": 1, "fill": "mean"}}, "body.search.fill"),
    ],
    ids=str,
)
def test_one_condition_is_not_pruned_by_what_several_have_in_common(
    path: Path, said: dict[str, Any], location: str
) -> None:
    (found,) = refused(path, "video", known=ONE_VIDEO, conditions=ONE_VIDEO.id, **said)
    assert found.startswith(f"{location}: ")
    assert "upload a file with several" in found


def test_a_grid_of_very_many_prunes_is_counted_and_not_spread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.requests.study.PruneSpec", None)  # with which any that is spread breaks
    grids = [{"thresholds": [float(n) for n in range(64)], "sides": ["tail", "head"]}] * 16
    (found,) = refused(path, grid=grids)
    assert found.startswith("body.grid: 2048 prunes is more than the 3")


def test_everything_wrong_is_named_at_once(path: Path) -> None:
    said = {"prunes": [{"keep": 129}], "measures": ["lpips"], "targets": "moon", "labels": [100], "steps": 101}
    assert len(refused(path, **said)) == 5


def test_a_reference_of_moments_alone_does_for_the_frechet_distance_alone(path: Path) -> None:
    np.savez(path.parent / "moments.npz", mu=np.zeros(96), sigma=np.eye(96))
    extend(path, {"references": {"moments": {"source": "moments.npz"}}})
    measures = resolved(path, reference="moments", grid={"thresholds": [0.1]}).measures
    assert measures is not None
    assert "fid" in measures
    assert {"kid", "precision", "recall"}.isdisjoint(measures)
    (fault,) = refused(path, reference="moments", grid={"thresholds": [0.1]}, measures=["fid", "recall"])
    assert fault.startswith("body.measures.1: ")
    assert "moments" in fault


def test_there_is_a_target_for_every_label_that_is_sampled(path: Path) -> None:
    np.savez(path.parent / "three.npz", arr_0=np.zeros((3, 16, 16, 3), np.uint8))
    extend(path, {"references": {"three": {"source": "three.npz"}}})
    said: dict[str, Any] = {"targets": "three", "grid": {"thresholds": [0.1]}, "measures": ["psnr"]}
    assert resolved(path, labels=[0, 2], **said).targets == "three"
    (fault,) = refused(path, labels=[0, 3], **said)
    assert "has 3 images" in fault


def test_a_precision_that_each_worker_chooses_is_none_for_a_study(path: Path) -> None:
    with pytest.raises(ValidationError, match="'float32' or 'bfloat16'"):
        resolved(path, grid=GRID, precision="auto")
    assert resolved(path, grid=GRID, precision="bfloat16").precision == "bfloat16"
    assert resolved(path, grid=GRID).precision == "float32"


def grid(**said: Any) -> Grid:
    return Grid.model_validate(said)


def test_a_grid_is_every_combination_with_nothing_left_to_default() -> None:
    several = grid(
        thresholds=[0.1, 0.2],
        sides=["tail", "head"],
        fills=["zero", "mean"],
        schedules=[{"when": "every"}, {"when": "last", "count": 10}],
    )
    prunes = several.prunes
    assert len(prunes) == len({spec.name for spec in prunes}) == several.count == 16
    assert all(spec == spec.resolved() for spec in prunes)
    assert [spec.threshold for spec in prunes[:4]] == [0.1, 0.2, 0.1, 0.2]


def test_a_grid_of_thresholds_alone_cuts_tails_to_zero_at_every_step() -> None:
    assert grid(thresholds=[0.1, 0.2]).prunes == [
        PruneSpec(threshold=0.1).resolved(),
        PruneSpec(threshold=0.2).resolved(),
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "give thresholds, remove_fractions, or both"),
        ({"thresholds": []}, "at least 1 item"),
        ({"thresholds": [0.1, 0.1]}, "0.1 is given more than once"),
        ({"thresholds": [0.1], "sides": ["tail", "tail"]}, "tail is given more than once|at most"),
        ({"thresholds": [0.1], "fills": []}, "at least 1 item"),
        ({"thresholds": [0.1], "schedules": []}, "at least 1 item"),
        ({"thresholds": [float("inf")]}, "finite"),
    ],
)
def test_a_grid_of_nothing_or_of_the_same_twice_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        grid(**said)
