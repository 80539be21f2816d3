"""Studies with every network and every kind of reference, on stand-ins that are called as the published networks."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch
from PIL import Image

from jobs.problems import InvalidRequest
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.study_results import StudyResult
from tailprune.quality.extractors import InceptionFeatures
from tests.stand_ins import Inception, Vgg, scripted, write_clip
from tests.workers.conftest import Submit
from workers.lease import Preempted
from workers.worker import Worker

Studied = Callable[..., StudyResult]


FEATURES = 64
"""Of Inception, which has 2,048: a distance of so many takes ten seconds."""


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception has few features."""
    monkeypatch.setattr("tailprune.quality.extractors.INCEPTION_FEATURES", FEATURES)
    monkeypatch.setattr(InceptionFeatures, "dim", FEATURES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of networks and references."""
    folder = tmp_path_factory.mktemp("files")
    scripted(Inception(FEATURES), folder / "inception.pt")
    scripted(Vgg(), folder / "vgg16.pt")
    write_clip(folder / "clip")
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    for place in range(8):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{place}.png")
    np.savez(folder / "moments.npz", mu=np.zeros(FEATURES), sigma=np.eye(FEATURES))
    return folder


@pytest.fixture
def settings(settings: Settings, files: Path) -> Settings:
    """With all the registered files there."""
    shutil.copytree(files, settings.registry.parent, dirs_exist_ok=True)
    return settings


@pytest.fixture
def studied(worker: Worker, submit: Submit, store: JobStore) -> Studied:
    def studied(**body: Any) -> StudyResult:
        job = submit("study", **({"grid": {"thresholds": [1.0]}, "samples_per_label": 2} | body))
        worker.run(job.id)
        done = store.get(job.id)
        assert done.status == "succeeded", done.problem
        return StudyResult.model_validate(done.result)

    return studied


def test_all_measures_at_once(studied: Studied) -> None:
    result = studied(extractor="inception", reference="folder")
    used = {measure.measure: measure for measure in result.measures}
    assert set(used) == {
        "fid", "kid", "inception-score", "precision", "recall", "accuracy", "clip-score", "drift", "psnr", "lpips",
    }  # fmt: skip
    assert used["fid"].title.startswith("Fréchet distance (inception:")  # it is not the published file
    assert used["clip-score"].title.startswith("CLIP score (clip:")
    assert used["lpips"].title.startswith("LPIPS (lpips-vgg16:")
    assert (used["fid"].reference, used["lpips"].reference) == ("folder", "baseline")
    pruned = result.variants[1].scores
    assert all(score.value is not None for score in pruned.values())
    assert pruned["lpips"].value > 0  # type: ignore[operator]
    assert pruned["clip-score"].low is not None
    assert (pruned["kid"].std is not None, pruned["fid"].low) == (True, None)


def test_features_may_be_clips(studied: Studied) -> None:
    result = studied(extractor="clip", reference="folder", measures=["fid", "precision"])
    assert {measure.extractor.partition(":")[0] for measure in result.measures if measure.extractor} == {"clip"}


def test_a_reference_of_moments_alone(studied: Studied) -> None:
    result = studied(extractor="inception", reference="published", measures=["fid"])
    value = result.variants[0].scores["fid"].value
    assert value is not None
    assert FEATURES - 3 < value < 2 * FEATURES  # features of three dimensions, against those of the identity


def test_pairs_are_compared_with_given_targets(studied: Studied) -> None:
    given = studied(targets="folder", measures=["psnr", "lpips"])
    own = studied(measures=["psnr", "lpips"])
    assert [measure.reference for measure in given.measures] == ["folder", "folder"]
    assert "psnr" in given.variants[0].scores  # the baseline too is compared with the targets
    assert "psnr" not in own.variants[0].scores
    assert given.variants[1].scores["psnr"].value != own.variants[1].scores["psnr"].value


def test_a_reference_is_measured_once_for_all_workers(
    studied: Studied, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    studied(reference="folder", measures=["fid", "recall"])
    monkeypatch.setattr("workers.evaluators.load_reference", lambda *_: pytest.fail("it is measured"))
    assert studied(reference="folder", measures=["fid", "recall"], samples_per_label=3).complete
    another = Worker(settings, "another").context.evaluators
    of_other_content = {"reference folder": "", "extractor shapes-classifier": ""}
    with pytest.raises(pytest.fail.Exception):
        another.reference("folder", "shapes-classifier", of_other_content, lambda: None)


def test_measuring_a_reference_can_be_stopped(worker: Worker) -> None:
    digests = {"reference folder": "", "extractor shapes-classifier": ""}

    def stop() -> None:
        raise Preempted

    with pytest.raises(Preempted):
        worker.context.evaluators.reference("folder", "shapes-classifier", digests, stop)
    assert (
        worker.context.evaluators.reference("folder", "shapes-classifier", digests, lambda: None).features is not None
    )


def test_clips_features_of_a_reference_whose_moments_are_inceptions(studied: Studied, settings: Settings) -> None:
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(settings.registry.parent / "both.npz", mu=np.zeros(FEATURES), sigma=np.eye(FEATURES), arr_0=images)
    result = studied(extractor="clip", reference="both", measures=["fid", "precision"])
    assert result.variants[0].scores["fid"].value is not None


def test_targets_of_another_size_fail_the_study_before_it_samples(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailprune.sample_each", lambda *_, **__: pytest.fail("it samples"), raising=False)
    np.savez(settings.registry.parent / "both.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    job = submit("study", grid={"thresholds": [1.0]}, targets="both", measures=["psnr"])
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert "images of 16 x 16, and tiny makes 8 x 8" in failed.problem.detail


def test_a_worker_that_starts_finds_the_reference_that_another_measured(
    submit: Submit, store: JobStore, settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, samples: int) -> StudyResult:
        body = {"grid": {"thresholds": [1.0]}, "reference": "folder", "measures": ["fid", "recall"]}
        job = submit("study", samples_per_label=samples, **body)
        Worker(settings, name).run(job.id)
        return StudyResult.model_validate(store.get(job.id).result)

    run("first", 2)
    monkeypatch.setattr("workers.evaluators.load_reference", lambda *_: pytest.fail("it was measured before"))
    assert run("second", 3).complete


def test_networks_are_loaded_once(studied: Studied, monkeypatch: pytest.MonkeyPatch) -> None:
    measures = ["inception-score", "lpips", "clip-score"]
    studied(extractor="inception", measures=measures)
    for loader in ("load_extractor", "load_lpips"):
        monkeypatch.setattr(f"workers.evaluators.{loader}", lambda *_: pytest.fail("it is warm"))
    assert studied(extractor="inception", measures=measures, samples_per_label=3).complete


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "cannot be read as an image"),
        (Image.new("RGBA", (8, 8)), "has transparent pixels"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "has whole numbers of 32 bits from 70000 to 70000"),
        (Image.new("L", (9, 8)), "is 9 x 8 pixels, but 0.png is 8 x 8"),
    ],
)
@pytest.mark.parametrize("role", ["reference", "targets"])
def test_a_study_against_images_that_cannot_be_used_fails_before_it_samples_with_the_file_and_the_reason(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    spoilt: bytes | Any,
    why: str,
) -> None:
    monkeypatch.setattr("tailprune.sample_each", lambda *_, **__: pytest.fail("it samples"), raising=False)
    file = settings.registry.parent / "images" / "1.tif"
    file.write_bytes(spoilt) if isinstance(spoilt, bytes) else spoilt.save(file)
    measure = {"reference": "fid", "targets": "psnr"}[role]
    job = submit("study", **{"grid": {"thresholds": [1.0]}, "measures": [measure], role: "folder"})
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert f"1.tif: {why}" in failed.problem.detail


def test_a_damaged_image_whose_name_is_not_unicode_fails_the_study_with_its_name(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings
) -> None:
    (settings.registry.parent / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    job = submit("study", grid={"thresholds": [1.0]}, reference="folder", measures=["fid"])
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert r"images/caf\udce9.png: cannot be read as an image" in failed.problem.detail


@pytest.mark.parametrize("damage", ["stream", "member", "moments"])
def test_a_study_against_a_damaged_npz_fails_with_the_file_and_the_reason(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings, damage: str
) -> None:
    path = settings.registry.parent / "both.npz"
    np.savez_compressed(path, np.random.default_rng(1).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8))
    if damage == "stream":
        content = bytearray(path.read_bytes())
        content[600:700] = b"\xff" * 100
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ["arr_0"] if damage == "member" else ["mu", "sigma"]:
                archive.writestr(f"{name}.npy", b"hello, I am no array")
    job = submit("study", grid={"thresholds": [1.0]}, reference="both", measures=["fid"])
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert "both.npz: " in failed.problem.detail
    assert "download it again" in failed.problem.detail


def test_a_study_says_what_its_references_have_and_what_was_passed_over(studied: Studied, settings: Settings) -> None:
    for name in ("a.jp2", "b.jp2", "notes.txt"):
        (settings.registry.parent / "images" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"8 images are read; passed over: 2 \.jp2"):
        result = studied(reference="folder", measures=["fid"])
    assert {name: used.model_dump() for name, used in result.references.items()} == {
        "folder": {"images": 8, "passed_over": {".jp2": 2}}
    }
    assert studied(measures=["drift"]).references == {}


def test_what_is_not_there_is_refused_at_the_request(submit: Submit, settings: Settings) -> None:
    (settings.registry.parent / "inception.pt").unlink()
    with pytest.raises(InvalidRequest, match=r"body\.extractor: the extractor 'inception' is missing; inception\.pt"):
        submit("study", grid={"thresholds": [1.0]}, extractor="inception", measures=["fid"])


def test_a_network_that_is_another_fails_the_study_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings
) -> None:
    torch.save({}, settings.registry.parent / "inception.pt")
    job = submit("study", grid={"thresholds": [1.0]}, extractor="inception", reference="folder", measures=["fid"])
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert "inception.pt: is not a TorchScript file" in failed.problem.detail
    assert str(settings.registry.parent) not in failed.problem.detail


def test_what_another_worker_stored_between_the_look_and_the_lease_is_not_made_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, evaluators = worker.context.shards, worker.context.evaluators
    lease = shards.lease

    def late(key: str) -> Any:
        shards.put(key, b"made elsewhere")
        return lease(key)

    monkeypatch.setattr(shards, "lease", late)
    found = evaluators._make_once("key", lambda: pytest.fail("it is made again"), lambda: None)
    assert found == b"made elsewhere"
