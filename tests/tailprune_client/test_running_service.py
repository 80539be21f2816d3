"""The client against a real service, with a worker and Redis: jobs, files and events, while processes come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.records import JobView
from jobs.results import ExtractResult, PruneSampleResult
from tailprune_client import (
    AsyncClient,
    Client,
    InvalidRequest,
    JobCancelled,
    JobFinished,
    ModelRegistered,
    TooManyJobs,
    Unavailable,
    UnknownJob,
    WaitTimeout,
)
from tailprune_client.following import Update
from tailprune_client.progress import Show
from tests.condition_files import VIDEO, arrays
from tests.end_to_end.stack import Stack, eventually, running
from tests.tiny_model import NAME

LONG: dict[str, Any] = {"steps": 1000, "labels": [0, 1, 2, 3], "samples_per_label": 4}
"""A job of some seconds."""


@pytest.fixture(scope="module")
def stack(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker, which follows few jobs at a time."""
    with running(tmp_path_factory.mktemp("client"), TAILPRUNE_MAX_FOLLOWERS="40") as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, progress=False) as client:
        yield client


def test_a_job_is_started_waited_for_and_its_files_are_read(client: Client, tmp_path: Path) -> None:
    job = client.prune_sample(NAME, threshold=[0.1, 0.5], labels=["circle", 1], seed=1).wait()
    assert isinstance(job.result, PruneSampleResult)
    assert [variant.name for variant in job.result.variants] == ["baseline", "tail 0.1", "tail 0.5"]
    assert job.request.labels == [0, 1]
    assert job.artifacts["grid.png"].save(tmp_path / "grid.png").read_bytes()[:4] == b"\x89PNG"
    assert job.artifacts["grid.png"].image().width > 8
    assert job.artifacts[job.result.variants[0].latents].tensors()["latents"].shape == (2, 3, 8, 8)
    html = job._repr_html_()
    assert "data:image/png;base64," in html
    assert "tail 0.5" in html
    assert client.job(job.url).status == "succeeded"


def test_a_study_and_an_extraction_are_started_by_their_names(client: Client) -> None:
    study = client.study(NAME, grid={"thresholds": [0.1]}, measures=["drift"], labels=[0, 1], steps=2).wait()
    assert study.result is not None
    assert study.result.complete
    vectors = client.extract(NAME, parts=["c"]).wait()
    assert isinstance(vectors.result, ExtractResult)
    assert vectors.artifacts[vectors.result.artifact].tensors()["c"].shape == (1, 4, 32)


def test_what_is_known_of_a_model_is_read(client: Client) -> None:
    assert client.metrics(NAME, threshold=[0.5]).count == 4
    picture = client.figure(NAME, "cosine")
    assert picture.image().width > 100
    assert client.figure(NAME, "cosine", format="svg").lstrip().startswith(b"<?xml")
    assert NAME in [model.name for model in client.models()]
    assert client.model(NAME).condition_dim == 32
    with pytest.raises(ModelRegistered):
        client.delete_model(NAME)


def test_vectors_and_the_numbers_of_a_model_are_read(client: Client) -> None:
    vectors = client.vectors(NAME, part=["c", "y"], label=["circle", 1])
    assert (vectors["c"].shape, vectors["y"].shape) == ((1, 2, 32), (2, 32))
    assert len(client.over_time(NAME, points=5, threshold=0.5).timesteps) == 5
    (prune,) = client.removal(NAME, threshold=0.5, steps=3).prunes
    assert len(prune.removed.by_step) == 3
    assert client.cosine(NAME, order="likeness").values[0][0] == pytest.approx(1)
    assert client.figure_data(NAME, "cosine").figure == "cosine"
    assert client.training(NAME)["curve"]


def test_what_happens_to_all_jobs_is_heard_over_one_connection(client: Client) -> None:
    heard = client.events()
    assert next(heard).name == "open"
    job = client.prune_sample(NAME, threshold=0.5, labels=[0], seed=77)
    states = []
    for event in heard:
        if event.name == "job" and event.data["id"] == job.id:
            states.append(event.data["status"])
            if states[-1] == "succeeded":
                break
    assert states == ["queued", "running", "succeeded"]
    job.delete()
    assert next(event.data for event in heard if event.name == "deleted") == {"id": job.id}


def test_the_service_says_how_it_is(client: Client) -> None:
    assert client.health().status == "live"
    assert len(client.ready().workers) == 1
    assert "tailprune" in client.telemetry()
    assert "<html" in client.start_page()


def test_conditions_are_uploaded_listed_and_deleted(client: Client) -> None:
    info = client.upload({name: np.asarray(array) for name, array in arrays(VIDEO).items()})
    assert client.get_conditions(info.id).family == "mdsgen"
    assert info.id in [each.id for each in client.conditions()]
    client.delete_conditions(info.id)
    assert info.id not in [each.id for each in client.conditions()]


def test_an_invalid_request_names_its_fields(client: Client) -> None:
    with pytest.raises(InvalidRequest) as raised:
        client.prune_sample(NAME, threshold=-1, labels=[99])
    assert [each.location for each in raised.value.errors] == ["body.threshold"]


def test_a_job_is_cancelled_and_deleted(client: Client, stack: Stack) -> None:
    job = client.prune_sample(NAME, threshold=0.5, seed=2, **LONG)
    stack.await_progress(job.id)
    job.cancel()
    with pytest.raises(JobCancelled, match=f"job {job.id} cancelled"):
        job.wait()
    assert job.status == "cancelled"
    with pytest.raises(JobFinished):
        job.cancel()
    job.delete()
    with pytest.raises(UnknownJob):
        job.refresh()


def test_a_wait_that_is_over_leaves_the_job_running(client: Client, stack: Stack) -> None:
    job = client.prune_sample(NAME, threshold=0.5, seed=3, **LONG)
    with pytest.raises(WaitTimeout):
        job.wait(timeout=0.2)
    assert job.refresh().status in ("queued", "running")
    job.cancel()


def test_jobs_are_listed_over_all_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    started = [client.prune_sample(NAME, threshold=0.5, labels=[0], seed=seed).wait().id for seed in range(10, 15)]
    monkeypatch.setattr("tailprune_client.methods.PAGE", 2)
    listed = [job.id for job in client.jobs(kind="prune-sample", model=NAME, status="succeeded", limit=5)]
    assert listed == started[::-1]
    assert len(list(client.jobs())) > 5


def test_a_job_is_waited_for_while_the_service_is_killed_and_started_again(stack: Stack) -> None:
    seen: list[Update] = []

    @contextmanager
    def shown(_: JobView) -> Iterator[Show]:
        yield seen.append

    with Client(stack.url, progress=shown) as client:
        job = client.prune_sample(NAME, threshold=0.5, seed=4, **LONG)
        waiting = threading.Thread(target=job.wait)
        waiting.start()
        eventually(lambda: any(update.at is not None and update.job.progress for update in seen), "events arrive")
        assert stack.service is not None
        stack.service.kill()
        before = len(seen)
        stack.start_service()
        waiting.join(120)
        assert not waiting.is_alive()
        assert job.status == "succeeded"
        assert len(seen) > before
        numbers = [event.id for event in job.events()]
        assert len(set(numbers)) == len(numbers)


def test_events_are_resumed_after_the_service_was_killed_and_none_comes_twice(stack: Stack, client: Client) -> None:
    job = client.prune_sample(NAME, threshold=0.5, seed=5, **LONG)
    ids: list[str] = []
    killed = False
    for event in job.events():
        ids.append(event.id)
        if event.name == "progress" and not killed:
            killed = True
            assert stack.service is not None
            stack.service.kill()
            stack.start_service()
    assert killed
    assert ids == sorted(ids, key=lambda each: tuple(map(int, each.split("-"))))
    assert len(set(ids)) == len(ids)
    assert job.refresh().status == "succeeded"


def test_a_hundred_jobs_at_once_are_started_followed_and_read(stack: Stack) -> None:
    async def one(client: AsyncClient, seed: int) -> tuple[str, bytes]:
        job = await client.prune_sample(NAME, threshold=0.5, labels=[0], steps=2, seed=1000 + seed, compare=False)
        await job.wait()
        return job.id, await job.artifacts["grid.png"].bytes()

    async def all_of_them() -> list[tuple[str, bytes]]:
        async with AsyncClient(stack.url) as client:
            return await asyncio.gather(*(one(client, seed) for seed in range(100)))

    done = asyncio.run(all_of_them())
    assert len({job_id for job_id, _ in done}) == 100
    assert all(content[:4] == b"\x89PNG" for _, content in done)


def test_a_service_without_redis_is_waited_for(stack: Stack, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(stack.url, patience=0, progress=False) as hasty:
        hasty.health()
        stack.redis.stop()
        try:
            with pytest.raises(Unavailable) as raised:
                hasty.prune_sample(NAME, threshold=0.5, labels=[0], seed=6)
            assert raised.value.retry_after
            pauses: list[float] = []

            def pause(seconds: float) -> None:
                pauses.append(seconds)
                if len(pauses) == 1:
                    stack.redis.start()
                eventually(stack.is_ready, "the service is ready again")

            with monkeypatch.context() as patched:
                patched.setattr("tailprune_client.drivers.time.sleep", pause)
                job = client.prune_sample(NAME, threshold=0.5, labels=[0], seed=6)
        finally:
            if not stack.is_ready():
                stack.redis.start()
    assert pauses
    assert job.wait().status == "succeeded"


def test_a_queue_that_is_full_is_waited_for(processes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "full", workers=0, TAILPRUNE_MAX_QUEUED_JOBS="1") as stack:
        with Client(stack.url, patience=0) as hasty:
            first = hasty.prune_sample(NAME, threshold=0.5)
            with pytest.raises(TooManyJobs):
                hasty.prune_sample(NAME, threshold=0.6)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            first.cancel()

        with Client(stack.url) as client:
            first = client.job(first.id)
            with monkeypatch.context() as patched:
                patched.setattr("tailprune_client.drivers.time.sleep", pause)
                assert client.prune_sample(NAME, threshold=0.6).status == "queued"
        assert len(pauses) == 1
        assert pauses[0] >= 30, "the service says when"
