"""Scores of a study's variants: computed by whichever worker is free, kept, and found again."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.digests import Identity
from jobs.requests.study import StudyRequest
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.study_results import StudyResult, StudyVariant
from tests.workers.conftest import Silent, Submit
from workers.study.blocks import Addresses, blocks_of
from workers.study.scoring import Scorer
from workers.worker import Worker

MEASURES = ["fid", "kid", "recall", "drift", "accuracy"]
BODY: dict[str, Any] = {"grid": {"thresholds": [0.5, 1.0]}, "measures": MEASURES, "samples_per_label": 2}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The measures of which a score was computed, as they come."""
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
    worker: Worker, submit: Submit, store: JobStore, queue: Silent
) -> None:
    worker.store = store
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
    worker: Worker, submit: Submit, store: JobStore, queue: Silent, settings: Settings, computed: list[str]
) -> None:
    worker.store = store
    alone = done(worker, store, submit("study", **BODY).id)
    assert sorted(computed) == sorted([*["fid", "kid", "recall", "accuracy"] * 3, *["drift"] * 2])
    worker.shards._redis.flushall()
    computed.clear()
    helper = Worker(settings, "helper")
    again = submit("study", **BODY)
    asked = (
        [offer for offer in queue.offers if offer["do"] == "make"],
        [offer for offer in queue.offers if offer["do"] == "score"],
    )
    claim = store.claim(again.id, "somebody who is slow")
    assert claim is not None
    for offers in asked:
        for offer in offers:
            helper.help(again.id, offer)
    scored = len(computed)
    assert scored == 13, "all but the one score that was not offered"
    assert store.release(claim)
    together = done(worker, store, again.id)
    assert computed[scored:] == ["kid"]
    assert together == alone


def test_a_helper_makes_samples_again_that_were_lost_before_they_were_scored(
    worker: Worker, submit: Submit, store: JobStore, computed: list[str]
) -> None:
    job = submit("study", **BODY)
    claim = store.claim(job.id, "somebody who is slow")
    assert claim is not None
    worker.help(job.id, {"do": "score", "size": 2, "prune": None, "measures": ["fid"]})
    assert computed == ["fid"], "no sample was there"
    assert store.release(claim)
    done(worker, store, job.id)
    assert computed.count("fid") == 3


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
    get = worker.shards.get

    def losing(key: str) -> bytes | None:
        kept = get(key)
        return None if kept is not None and kept.startswith(b'{"high"') else kept

    monkeypatch.setattr(worker.shards, "get", losing)
    job = submit("study", **BODY, search={"measure": "drift", "budget": 100.0, "trials": 1})
    result = done(worker, store, job.id)
    assert set(MEASURES) <= set(computed)
    assert result[:3] == expected


def test_a_score_is_of_its_samples_its_measure_and_its_reference() -> None:
    said = {"model": "tiny", "prunes": [{"threshold": 0.5}], "measures": ["fid", "accuracy"], "labels": [0, 1]}
    request = StudyRequest.model_validate(
        {**said, "reference": "shapes", "extractor": "shapes-classifier", "samples_per_label": 2, "steps": 4}
    )
    blocks = blocks_of(request, 2)
    (prune,) = request.prunes or []

    def keys(reference: str, of: Any = blocks, under: Any = prune) -> list[str]:
        made_of = {"extractor shapes-classifier": "network", "reference shapes": reference}
        addresses = Addresses(request, Identity("weights", {"instruments": made_of}))
        return addresses.scores(of, under, ["fid", "accuracy"])

    fid, accuracy = keys("images")
    assert fid != accuracy
    assert keys("other images")[0] != fid
    assert keys("other images")[1] == accuracy
    assert keys("images", under=None)[1] != accuracy
    assert keys("images", of=blocks[:1])[1] != accuracy
