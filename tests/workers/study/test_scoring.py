"""Scores of a study's variants: computed by whichever worker is free, kept, and found again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch

from jobs.registry.digests import Identity
from jobs.registry.evaluation import Measure
from jobs.requests.study import StudyRequest
from jobs.settings import Settings
from jobs.storage.shards import ShardStore
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from jobs.study_results import StudyResult, StudyVariant
from tailprune.quality import wilson
from tests.workers.conftest import Silent, Submit
from workers.lease import Run
from workers.study.coordination import complete_tasks
from workers.study.scoring import Scorer
from workers.study.shards import Addresses, blocks_of
from workers.worker import Worker

MEASURES = ["fid", "kid", "recall", "drift", "accuracy"]
BODY: dict[str, Any] = {"grid": {"thresholds": [0.5, 1.0]}, "measures": MEASURES, "samples_per_label": 2}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The measures of which a score was computed, in order, without those of partial results."""
    monkeypatch.setattr("workers.study.results.PUBLISH_SECONDS", 3600.0)
    seen: list[str] = []
    compute = Scorer._score

    def watched(scorer: Scorer, measure: Any, *rest: Any) -> Any:
        seen.append(measure)
        return compute(scorer, measure, *rest)

    monkeypatch.setattr(Scorer, "_score", watched)
    return seen


def done(worker: Worker, store: JobStore, job_id: str) -> list[StudyVariant]:
    worker.run(job_id)
    job = store.get(job_id)
    assert job.status == "succeeded", job.problem
    return StudyResult.model_validate(job.result).variants


def test_scores_are_offered_once_all_samples_are_there(
    worker: Worker, submit: Submit, store: JobStore, leases: LeaseStore, queue: Silent
) -> None:
    worker.leases = leases
    done(worker, store, submit("study", **BODY).id)
    kinds = [offer["do"] for offer in queue.offers]
    assert kinds == ["make"] * 3 + ["score"] * 8
    scoring = [offer for offer in queue.offers if offer["do"] == "score"]
    prunes = [None if offer["prune"] is None else offer["prune"]["threshold"] for offer in scoring]
    assert prunes == [0.5, 1.0, None, 0.5, 1.0, None, 0.5, 1.0], "the first task is the holder's"
    assert [offer["measures"] for offer in scoring] == (
        [["kid"]] * 2 + [["recall"]] * 3 + [["fid", "accuracy", "drift"]] * 3
    )


def test_what_helpers_have_scored_the_holder_takes_over(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    leases: LeaseStore,
    queue: Silent,
    settings: Settings,
    computed: list[str],
) -> None:
    worker.leases = leases
    alone = done(worker, store, submit("study", **BODY).id)
    assert sorted(computed) == sorted([*["fid", "kid", "recall", "accuracy"] * 3, *["drift"] * 2])
    worker.context.shards._redis.flushall()
    computed.clear()
    helper = Worker(settings, "helper")
    again = submit("study", **BODY)
    asked = (
        [offer for offer in queue.offers if offer["do"] == "make"],
        [offer for offer in queue.offers if offer["do"] == "score"],
    )
    claim = leases.claim(again.id, "somebody who is slow")
    assert claim is not None
    for offers in asked:
        for offer in offers:
            helper.help(again.id, offer)
    scored = len(computed)
    assert scored == 13, "all but the one score that was not offered"
    assert leases.release(claim)
    together = done(worker, store, again.id)
    assert computed[scored:] == ["kid"]
    assert together == alone


def test_a_helper_makes_samples_again_that_were_lost_before_they_were_scored(
    worker: Worker, submit: Submit, store: JobStore, leases: LeaseStore, computed: list[str]
) -> None:
    job = submit("study", **BODY)
    claim = leases.claim(job.id, "somebody who is slow")
    assert claim is not None
    worker.help(job.id, {"do": "score", "size": 2, "prune": None, "measures": ["fid"]})
    assert computed == ["fid"], "no sample was there"
    assert leases.release(claim)
    done(worker, store, job.id)
    assert computed.count("fid") == 3


def test_scores_of_few_samples_say_so_and_shares_and_drift_have_intervals(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    body = {**BODY, "measures": [*MEASURES, "precision", "inception-score"]}
    search = {"measure": "fid", "budget": 1000.0, "trials": 1}
    job = submit("study", **body, search=search)
    baseline, pruned, *_ = done(worker, store, job.id)
    few = "8 samples are fewer than the 469 that 96 features need"
    small = "100 reference images are fewer than the 469 that 96 features need"
    notes: dict[Measure, str] = {"fid": f"{few}; {small}", "kid": f"{few}; {small}", "recall": few, "precision": small}
    for variant in (baseline, pruned):
        scores = variant.scores
        for measure, note in notes.items():
            assert (scores[measure].reliable, scores[measure].note) == (False, note)
        assert scores["fid"].low is None
        assert scores["inception-score"].note == "8 samples are fewer than the 500 that 100 classes need"
        assert (scores["accuracy"].reliable, scores["accuracy"].note) == (True, None)
        for score in (scores["accuracy"], scores["precision"]):
            assert score.value is not None
            expected = wilson(torch.tensor([1.0] * round(8 * score.value) + [0.0] * (8 - round(8 * score.value))))
            assert (score.low, score.high) == (expected.low, expected.high)
    drift = pruned.scores["drift"]
    assert drift.value is not None
    assert drift.low is not None
    assert drift.high is not None
    assert drift.low < drift.value < drift.high
    result = StudyResult.model_validate(store.get(job.id).result)
    assert result.search is not None
    assert not result.search.reliable


def test_a_study_computes_the_scores_alone_that_no_study_had(
    worker: Worker, submit: Submit, store: JobStore, computed: list[str]
) -> None:
    before = done(worker, store, submit("study", **BODY).id)
    computed.clear()
    wider = {**BODY, "grid": {"thresholds": [0.5, 0.7, 1.0]}, "measures": [*MEASURES, "precision"]}
    after = done(worker, store, submit("study", **wider).id)
    assert sorted(computed) == sorted([*MEASURES, *["precision"] * 4])
    kept = {measure: score for measure, score in after[1].scores.items() if measure in MEASURES}
    assert kept == before[1].scores


def test_scores_that_are_lost_before_they_are_read_are_computed_again(
    worker: Worker, submit: Submit, store: JobStore, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(worker, store, submit("study", **BODY).id)
    computed.clear()
    get = worker.context.shards.get

    def losing(key: str) -> bytes | None:
        kept = get(key)
        return None if kept is not None and kept.startswith(b'{"high"') else kept

    monkeypatch.setattr(worker.context.shards, "get", losing)
    job = submit("study", **BODY, search={"measure": "drift", "budget": 100.0, "trials": 1})
    result = done(worker, store, job.id)
    assert set(MEASURES) <= set(computed)
    assert result[:3] == expected


def test_what_a_search_has_scored_is_not_scored_again(
    worker: Worker, submit: Submit, store: JobStore, computed: list[str]
) -> None:
    body = {**BODY, "grid": None, "search": {"measure": "fid", "budget": 1000.0, "trials": 2}}
    variants = done(worker, store, submit("study", **body).id)
    assert len(variants) > 1
    once = [*["fid", "kid", "recall", "accuracy"] * len(variants), *["drift"] * (len(variants) - 1)]
    assert sorted(computed) == sorted(once)


def test_a_score_is_of_all_that_it_depends_on() -> None:
    measures: list[Measure] = ["fid", "clip-score", "psnr"]
    body = {
        "model": "tiny", "prunes": [{"threshold": 0.5}], "labels": [0, 1], "samples_per_label": 2, "steps": 4,
        "measures": measures, "reference": "shapes", "extractor": "inception", "targets": "targets",
    }  # fmt: skip
    made_of = {
        "extractor inception": "network", "extractor clip": "network", "extractor clip, prompt": "a {}",
        "reference shapes": "images", "reference targets": "images",
    }  # fmt: skip
    reading = {"instruments": made_of, "class_names": ["a", "b"], "decoder": "pixels", "num_heads": 2}

    def keys(
        weights: str = "weights", blocks: int = 2, pruned: bool = True, precision: str = "float32", **other: Any
    ) -> list[str]:
        of = body | other.pop("body", {})
        request = StudyRequest.model_validate(of)
        read = {**reading, **other, "instruments": made_of | other.get("instruments", {})}
        addresses = Addresses(request, Identity(weights, read), precision)
        (prune,) = request.prunes or []
        return addresses.scores(blocks_of(request, 2)[:blocks], prune if pruned else None, measures)

    first = keys()
    assert keys() == first
    assert len(set(first)) == 3
    ways: list[dict[str, Any]] = [
        {"weights": "others"}, {"num_heads": 4}, {"decoder": "sd-vae"}, {"class_names": ["a", "c"]},
        {"blocks": 1}, {"pruned": False}, {"precision": "bfloat16"},
        {"body": {"seed": 1}}, {"body": {"steps": 5}}, {"body": {"labels": [0, 2]}},
        *({"instruments": {name: "another"}} for name in made_of if name != "reference shapes"),
    ]  # fmt: skip
    for way in ways:
        assert not set(keys(**way)) & set(first), way
    other = keys(instruments={"reference shapes": "other images"})
    assert (other[0] != first[0], other[1:]) == (True, first[1:]), "what is not compared with it stays"


@dataclass
class Counted:
    """A task that another worker may do meanwhile."""

    number: int
    done: set[str]
    samples: int = 3
    message: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [f"task {self.number}"]

    @property
    def lease(self) -> str:
        return f"task {self.number}"

    def do(self, on_fraction: Callable[[float], None]) -> int:
        for fraction in (0.0, 0.5, 1.0):
            on_fraction(fraction)
        self.done |= {f"task {self.number}", f"task {self.number + 1}"}  # the next one by another worker
        return self.samples


class CountingStore:
    """A shard store that counts how often it is asked."""

    def __init__(self, done: set[str]) -> None:
        self.done, self.asked = done, 0

    def present(self, keys: Sequence[str]) -> set[str]:
        self.asked += 1
        return self.done & set(keys)

    def lease(self, key: str) -> AbstractContextManager[None]:
        return nullcontext()


def test_progress_never_falls_and_ends_at_all_samples(run: Run) -> None:
    done: set[str] = set()
    reported: list[float] = []
    made: list[int] = []
    tasks = [Counted(number, done) for number in range(6)]
    complete_tasks(tasks, cast(ShardStore, CountingStore(done)), run, reported.append, made.append)
    assert reported == sorted(reported)
    assert (reported[0], reported[-1]) == (0, 18)
    assert {3.0, 4.5, 6.0} <= set(reported), "a task counts by its fraction"


def test_the_holder_does_not_ask_after_each_task_what_others_have_done(run: Run) -> None:
    done: set[str] = set()
    counting = CountingStore(done)
    complete_tasks(
        [Counted(number, done) for number in range(500)], cast(ShardStore, counting), run, lambda _: None, id
    )
    assert len(done) == 501
    assert counting.asked < 50
