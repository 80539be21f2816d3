"""Studies as one worker makes them, several at once, and one after another was lost."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

import tailprune
from jobs.records import Job
from jobs.results import RemovalResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from jobs.study_results import ScoresSoFar, StudyResult
from tailprune.quality import Manifold
from tests.workers.conftest import Silent, Submit
from workers.lease import Preempted
from workers.worker import Worker

GRID = {"thresholds": [0.5, 1.0], "schedules": [{"when": "every"}, {"when": "last", "count": 2}]}
MEASURES = ["fid", "kid", "inception-score", "precision", "recall", "accuracy", "drift", "psnr"]
Made = list[tuple[int, int]]


@pytest.fixture
def studied(worker: Worker, submit: Submit, store: JobStore) -> Callable[..., StudyResult]:
    """Does a study on the one worker."""

    def studied(**body: Any) -> StudyResult:
        job = submit("study", **({"grid": GRID, "measures": MEASURES, "samples_per_label": 2} | body))
        worker.run(job.id)
        done = store.get(job.id)
        assert done.status == "succeeded", done.problem
        return StudyResult.model_validate(done.result)

    return studied


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Made:
    """How many prunes and samples each call of the network's sampling had, as they come."""
    calls: Made = []
    sample = tailprune.sample_each

    def watched(system: Any, inputs: Any, **options: Any) -> Any:
        calls.append((len(options["prunes"][0]), len(inputs["labels"])))
        return sample(system, inputs, **options)

    monkeypatch.setattr("tailprune.sample_each", watched, raising=False)
    return calls


def numbers(result: StudyResult) -> Any:
    """What of a result may depend on nothing but the request."""
    return result.model_dump(include={"variants", "measures", "search"})


def test_every_variant_is_scored_beside_the_baseline(studied: Any) -> None:
    result = studied()
    assert result.complete
    names = [variant.name for variant in result.variants]
    assert names == ["baseline", "tail 0.5", "tail 1", "tail 0.5, last 2 steps", "tail 1, last 2 steps"]
    assert {variant.samples for variant in result.variants} == {8}
    assert set(result.variants[0].scores) == {"fid", "kid", "inception-score", "precision", "recall", "accuracy"}
    assert all(set(variant.scores) == set(MEASURES) for variant in result.variants[1:])
    every, last = result.variants[2], result.variants[4]
    assert every.removed is not None
    assert last.removed is not None
    assert (min(every.removed.by_step) > 0, last.removed.by_step[:2]) == (True, [0, 0])
    drifts = [variant.scores["drift"].value for variant in (last, every)]
    assert 0 < drifts[0] < drifts[1]
    accuracy = every.scores["accuracy"]
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert (result.shards.total, result.shards.done, result.shards.found) == (20, 20, 0)


def test_each_measure_says_what_it_is_of(studied: Any) -> None:
    by_name = {used.measure: used for used in studied().measures}
    fid = by_name["fid"]
    assert (fid.title, fid.extractor, fid.reference) == (
        "Fréchet distance (shapes-classifier)",
        "shapes-classifier",
        "shapes",
    )
    assert (by_name["drift"].extractor, by_name["drift"].reference) == (None, "baseline")
    assert (by_name["psnr"].reference, by_name["accuracy"].reference) == ("baseline", None)


def test_scores_are_those_of_the_samples_that_prune_sample_makes(
    studied: Any, worker: Worker, submit: Submit, store: JobStore
) -> None:
    result = studied(grid={"thresholds": [1.0]}, measures=["drift", "accuracy"])
    job = submit(threshold=1.0, labels=[0, 1, 2, 3], samples_per_label=2)
    worker.run(job.id)
    sampled = store.get(job.id).result
    assert sampled is not None
    pruned = sampled["variants"][1]
    assert result.variants[1].scores["drift"].value == pytest.approx(pruned["drift"]["latent"], rel=1e-5)
    assert result.variants[1].removed is not None
    assert result.variants[1].removed.model_dump() == pruned["removed"]


def test_the_fid_is_that_of_all_features_together(studied: Any, worker: Worker) -> None:
    from tailprune.quality import FeatureMoments, frechet_distance, load_extractor, make_reference
    from tailprune.quality.sources import ShapesImages
    from workers.sampling.plan import Sample

    result = studied(grid={"thresholds": [0.5]}, measures=["fid"])
    system = tailprune.load(worker.context.models.entry("tiny").checkpoint, family="sit", num_heads=2)
    samples = [Sample(label, number) for number in range(2) for label in range(4)]
    latents = tailprune.sample(
        system,
        {"labels": torch.tensor([sample.subject for sample in samples])},
        sampler="euler",
        steps=4,
        guidance=2.0,
        seeds=[sample.seed(0) for sample in samples],
    )
    path = worker.context.evaluators.registered.extractor("shapes-classifier")
    extractor = load_extractor("shapes-classifier", path)
    moments = FeatureMoments(extractor.dim)
    moments.add(extractor(latents.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)).features)
    reference = make_reference(ShapesImages(count=100), extractor)
    expected = frechet_distance(moments.gaussian(), reference.gaussian)
    assert result.variants[0].scores["fid"].value == pytest.approx(expected, rel=1e-4)


def test_more_samples_extend_what_there_is(studied: Any, sampled: Made) -> None:
    fewer = studied()
    before = len(sampled)
    more = studied(samples_per_label=3)
    assert sum(labels for _, labels in sampled[before:]) == 4  # the third sample of each label alone
    assert (more.shards.found, more.shards.made) == (fewer.shards.total, 10)
    assert {variant.samples for variant in more.variants} == {12}


def test_extended_and_made_at_once_are_the_same(studied: Any, settings: Settings, redis_client: redis.Redis) -> None:
    studied(samples_per_label=1)
    extended = studied(samples_per_label=3)
    redis_client.flushall()
    assert numbers(studied(samples_per_label=3)) == numbers(extended)


def test_a_further_prune_is_made_beside_the_kept_ones(studied: Any, sampled: Made) -> None:
    studied(grid={"thresholds": [0.5]})
    before = len(sampled)
    result = studied(grid={"thresholds": [0.5, 1.0]})
    assert {variants for variants, _ in sampled[before:]} == {1}  # not the baseline, nor the first
    assert (result.shards.found, result.shards.made) == (8, 4)


def test_another_measure_samples_nothing_anew(studied: Any, sampled: Made) -> None:
    studied(measures=["drift"])
    before = len(sampled)
    result = studied(measures=["drift", "accuracy"])
    assert sampled[before:] == []
    assert result.variants[1].scores["accuracy"].value is not None


def test_a_study_that_lost_its_worker_goes_on_where_it_was(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[int]] = []
    sample = tailprune.sample_each

    def stopped_at_the_third(system: Any, inputs: Any, **options: Any) -> Any:
        if len(made) == 2:
            made.append([])
            raise Preempted
        made.append(inputs["labels"].tolist())
        return sample(system, inputs, **options)

    monkeypatch.setattr("tailprune.sample_each", stopped_at_the_third, raising=False)
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"], samples_per_label=2)
    worker.run(job.id)
    assert store.get(job.id).status == "queued"
    worker.run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert [labels for labels in made if labels] == [[0, 1], [2, 3], [0, 1], [2, 3]]


def test_the_holder_offers_all_blocks_but_its_first(
    worker: Worker, submit: Submit, leases: LeaseStore, queue: Silent
) -> None:
    worker.leases = leases
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"], samples_per_label=2)
    worker.run(job.id)
    making = [offer for offer in queue.offers if offer["do"] == "make"]
    assert [(offer["block"], offer["size"]) for offer in making] == [(1, 2), (2, 2), (3, 2)]
    assert [prune["threshold"] for prune in making[0]["prunes"]] == [0.5]


def offers(blocks: range) -> list[dict[str, Any]]:
    prune = {"threshold": 0.5, "side": "tail", "fill": "zero", "schedule": {"when": "every"}}
    return [{"do": "make", "block": block, "size": 2, "prunes": [prune]} for block in blocks]


def wait_until_running(leases: LeaseStore, job: Job) -> None:
    claim = leases.claim(job.id, "somebody who is slow")
    assert claim is not None


def test_who_helps_makes_the_offered_block(worker: Worker, submit: Submit, leases: LeaseStore, sampled: Made) -> None:
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"], samples_per_label=2)
    wait_until_running(leases, job)
    for offer in offers(range(4)):
        worker.help(job.id, offer)
    assert sampled == [(2, 2)] * 4
    worker.help(job.id, offers(range(1))[0])
    assert len(sampled) == 4  # it is there


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
def test_nobody_helps_with_a_study_that_is_over(
    worker: Worker, submit: Submit, store: JobStore, leases: LeaseStore, sampled: Made, ending: str
) -> None:
    from jobs.problems import problem

    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"])
    claim = leases.claim(job.id, "somebody")
    assert claim is not None
    store.cancel(job.id) if ending == "cancelled" else leases.fail(claim, problem("failed", "so it goes"))
    worker.help(job.id, offers(range(1))[0])
    assert sampled == []


def test_an_offer_that_is_none_does_no_harm(worker: Worker, submit: Submit, leases: LeaseStore, sampled: Made) -> None:
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"])
    wait_until_running(leases, job)
    worker.help(job.id, {"do": "make", "block": 99, "size": 2, "prunes": []})
    worker.help(job.id, {"do": "something else", "size": 2})
    worker.help(job.id, {"size": "two"})
    worker.help("0" * 26, offers(range(1))[0])
    assert sampled == []


def test_a_block_that_another_makes_is_left_to_it(
    worker: Worker, submit: Submit, leases: LeaseStore, sampled: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"])
    wait_until_running(leases, job)
    monkeypatch.setattr(worker.context.shards, "lease", lambda key: None)
    worker.help(job.id, offers(range(1))[0])
    assert sampled == []


def test_damaged_shards_are_made_again_and_not_computed_with(
    studied: Any, worker: Worker, settings: Settings, redis_client: redis.Redis, sampled: Made
) -> None:
    body = {"prunes": [{"threshold": 0.5}], "measures": ["accuracy", "drift"]}
    first = studied(**body)
    sampled.clear()
    assert numbers(studied(**body | {"measures": ["drift", "accuracy"]}))["variants"]
    assert sampled == []  # built on what is stored
    damaged = [path for path in Path(settings.artifacts, "shards").rglob("*") if path.is_file()]
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[-1] ^= 0x80  # the sign of its last number
        path.write_bytes(content)
    for key in redis_client.scan_iter("tailprune:hot:*"):
        redis_client.delete(key)
    redis_client.delete(*redis_client.scan_iter("tailprune:key:*"))  # so that the same request is a new job
    again = studied(**body)
    assert numbers(again) == numbers(first)
    assert sampled
    assert {hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in damaged if path.exists()} == {True}


def test_numbers_do_not_depend_on_how_many_workers_there_are(
    studied: Any,
    settings: Settings,
    submit: Submit,
    store: JobStore,
    leases: LeaseStore,
    redis_client: redis.Redis,
    queue: Silent,
) -> None:
    alone = studied(samples_per_label=4)
    redis_client.flushall()
    holder, *others = (Worker(settings, f"worker {number}") for number in range(3))
    holder.leases = leases
    job = submit("study", grid=GRID, measures=MEASURES, samples_per_label=4)
    shares: dict[str, int] = {}
    over = threading.Event()

    def help_out(other: Worker) -> None:
        while not over.is_set():
            try:
                offer = queue.offers.pop(0)
            except IndexError:
                over.wait(0.01)
                continue
            other.help(job.id, offer)
            shares[other.info.name] = shares.get(other.info.name, 0) + 1

    threads = [threading.Thread(target=help_out, args=[other]) for other in others]
    for thread in threads:
        thread.start()
    holder.run(job.id)
    over.set()
    for thread in threads:
        thread.join()
    together = StudyResult.model_validate(store.get(job.id).result)
    assert len(shares) == 2
    assert numbers(together) == numbers(alone)


def test_a_lease_is_one_workers_at_a_time(worker: Worker) -> None:
    first = worker.context.shards.lease("a block")
    assert first is not None
    with first:
        assert worker.context.shards.lease("a block") is None
    again = worker.context.shards.lease("a block")
    assert again is not None


def test_a_lease_is_kept_while_the_work_takes_and_lapses_after_its_worker(
    worker: Worker, settings: Settings, redis_client: redis.Redis
) -> None:
    lease = worker.context.shards.lease("a block")
    assert lease is not None
    name = next(key for key in redis_client.scan_iter() if b"shard-lease" in key)
    with lease:
        redis_client.pexpire(name, 400)  # as if most of it were over
        threading.Event().wait(settings.lease_seconds / 2)
        assert redis_client.pttl(name) > 400
    left = worker.context.shards.lease("a block")
    assert left is not None  # and its worker is killed: nobody renews it
    assert 0 < redis_client.pttl(name) <= 1000 * settings.lease_seconds


def test_what_is_known_so_far_is_shown_while_it_runs(
    worker: Worker, submit: Submit, store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.study.results.PUBLISH_SECONDS", 0.0)
    monkeypatch.setattr("workers.study.results.PUBLISH_FACTOR", 0.0)
    seen: list[StudyResult] = []
    told: list[ScoresSoFar] = []
    publish = leases.publish

    def watched(claim: Any, result: dict[str, Any], scores: dict[str, Any]) -> None:
        publish(claim, result, scores)
        shown = store.get(claim.job.id)
        assert shown.status == "running"
        seen.append(StudyResult.model_validate(shown.result))
        told.append(ScoresSoFar.model_validate(scores))

    worker.leases = leases
    monkeypatch.setattr(leases, "publish", watched)
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift", "accuracy"], samples_per_label=2)
    worker.run(job.id)
    assert {result.complete for result in seen} == {False}
    counts = [result.variants[1].samples for result in seen]
    assert counts == sorted(counts)
    assert {0, 2, 4, 6} <= set(counts)
    halfway = next(result for result in seen if result.variants[1].samples == 4)
    assert halfway.variants[1].scores["drift"].value is not None
    progress = store.get(job.id).progress
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (16, 16, "samples")
    for result, scores in zip(seen, told, strict=True):
        assert (scores.samples.done, scores.samples.total) == (2 * result.variants[1].samples, 16)
        assert [(each.name, each.samples, each.scores) for each in scores.variants] == [
            (each.name, each.samples, each.scores) for each in result.variants
        ]


def test_a_search_ends_at_the_largest_threshold_within_its_budget(studied: Any, sampled: Made) -> None:
    budget = 0.1
    result = studied(grid=None, search={"measure": "drift", "budget": budget, "trials": 6}, measures=["drift"])
    found = result.search
    assert 2 <= len(found.trials) <= 6
    assert found.limit == budget
    within = {trial.threshold for trial in found.trials if trial.within}
    without = {trial.threshold for trial in found.trials if not trial.within}
    assert found.threshold == max(within) < min(without)
    assert all((trial.value <= budget) == trial.within for trial in found.trials)
    assert [variant.name for variant in result.variants[1:]] == [trial.variant for trial in found.trials]
    before = len(sampled)
    again = studied(
        grid=None, search={"measure": "drift", "budget": 1.000001 * budget, "trials": 6}, measures=["drift"]
    )
    assert again.search.trials == found.trials
    assert len(sampled) == before  # the shards of the other search


def test_the_thresholds_of_a_search_do_not_depend_on_how_many_vectors_are_computed_at_once(
    studied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"grid": None, "measures": ["drift"], "seed": 3}
    whole = studied(**body, search={"measure": "drift", "budget": 0.1, "trials": 3})
    monkeypatch.setattr("tailprune.condition_table.PIECE_BYTES", 1)  # one vector at a time
    pieces = studied(**body, search={"measure": "drift", "budget": 0.1000001, "trials": 3})
    assert [each.threshold for each in pieces.search.trials] == [each.threshold for each in whole.search.trials]


def test_a_search_by_accuracy_stays_near_the_baseline(studied: Any) -> None:
    result = studied(grid=None, search={"measure": "accuracy", "budget": 1.0, "trials": 2}, measures=["accuracy"])
    baseline = result.variants[0].scores["accuracy"].value
    assert (result.search.baseline, result.search.limit) == (baseline, baseline - 1.0)
    assert {trial.within for trial in result.search.trials} == {True}


def test_a_search_by_modulation_error_samples_nothing(
    studied: Any, sampled: Made, worker: Worker, submit: Submit, store: JobStore
) -> None:
    way: dict[str, Any] = {"of": "read", "fill": "mean"}
    result = studied(
        grid=None, search={"measure": "modulation-error", "budget": 0.1, "trials": 6, **way}, measures=None
    )
    assert sampled == []
    assert (result.complete, result.shards.total, result.measures) == (True, 0, [])
    assert [(each.name, each.samples, each.scores) for each in result.variants] == [("baseline", 0, {})]
    trials = sorted(result.search.trials, key=lambda trial: trial.threshold)
    assert len(trials) == 6
    assert {trial.within for trial in trials} == {True, False}
    assert result.search.threshold == max(trial.threshold for trial in trials if trial.value <= 0.1)
    job = submit("removal", threshold=[trial.threshold for trial in trials], labels=list(range(4)), **way)
    worker.run(job.id)
    removal = RemovalResult.model_validate(store.get(job.id).result)
    for prune, trial in zip(removal.prunes, trials, strict=True):
        assert prune.modulation is not None
        assert (trial.variant, trial.fraction) == (prune.name, pytest.approx(prune.removed.fraction))
        assert trial.value == pytest.approx(prune.modulation.error, rel=1e-5)


def test_beside_a_search_by_modulation_error_other_prunes_are_sampled(studied: Any) -> None:
    result = studied(search={"measure": "modulation-error", "budget": 0.1, "trials": 3}, measures=["drift"])
    assert len(result.variants) == 5
    assert {variant.samples for variant in result.variants} == {8}
    assert len(result.search.trials) == 3


def test_a_search_that_finds_nothing_says_so(studied: Any) -> None:
    result = studied(grid=None, search={"measure": "drift", "budget": 1e-12, "trials": 2}, measures=["drift"])
    assert result.search.threshold is None
    assert {trial.within for trial in result.search.trials} == {False}


def test_the_exports_are_artifacts(studied: Any, store: JobStore) -> None:
    result = studied()
    job = store.get(store.page(kind="study").jobs[0].id)
    assert set(job.artifacts) == {"study.json", "study.csv", "study.md", "study.png", "study.svg"}
    document = StudyResult.model_validate_json(store.artifacts.read(job.artifacts["study.json"]))
    assert numbers(document) == numbers(result)


def test_instruments_that_changed_since_the_request_fail_the_study(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings
) -> None:
    job = submit("study", grid={"thresholds": [0.5]}, measures=["accuracy"])
    (settings.registry.parent / "classifier.safetensors").write_bytes(b"something else")
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.problem is not None
    assert "post the request again" in failed.problem.detail


def test_a_redis_that_goes_away_for_a_while_is_waited_for(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"get": 3, "present": 3, "lease": 1}

    def unreachable(name: str) -> None:
        real = getattr(worker.context.shards, name)

        def ask(*args: Any) -> Any:
            if away[name]:
                away[name] -= 1
                raise redis.ConnectionError("away")
            return real(*args)

        monkeypatch.setattr(worker.context.shards, name, ask)

    for name in away:
        unreachable(name)
    monkeypatch.setattr("workers.lease.RETRY_SECONDS", 0.01)
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"])
    worker.run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert set(away.values()) == {0}


def test_shards_that_do_not_stay_fail_the_study(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.context.shards, "put", lambda *_: None)
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"])
    worker.run(job.id)
    assert store.get(job.id).status == "failed"


def test_shards_are_kept_from_when_they_were_last_of_use(
    studied: Any, worker: Worker, settings: Settings, redis_client: redis.Redis
) -> None:
    studied(grid={"thresholds": [0.5]}, measures=["drift"])
    keys = [key.decode().removeprefix("tailprune:shard:") for key in redis_client.scan_iter("tailprune:shard:*")]
    for key in keys:
        redis_client.expire(f"tailprune:shard:{key}", 5)
    assert worker.context.shards.present([*keys, "another"]) == set(keys)
    assert min(redis_client.ttl(f"tailprune:shard:{key}") for key in keys) > 5


def test_what_is_missing_is_offered_again_when_nobody_took_it(
    worker: Worker, submit: Submit, leases: LeaseStore, queue: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.study.coordination.OFFER_SECONDS", 0.0)
    worker.leases = leases
    waiting = [True, False, True, True]
    monkeypatch.setattr(leases, "offers_waiting", lambda: waiting.pop(0) if waiting else True)
    job = submit("study", grid={"thresholds": [0.5]}, measures=["drift"], samples_per_label=2)
    worker.run(job.id)
    assert [offer["block"] for offer in queue.offers if offer["do"] == "make"] == [1, 2, 3, 3]


def test_many_prunes_are_made_and_kept_some_at_a_time(
    studied: Any, sampled: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.study.shard_maker.PRUNES_AT_ONCE", 2)
    result = studied(grid={"thresholds": [0.4, 0.6, 0.8, 1.0]}, measures=["drift"], samples_per_label=1)
    assert sampled == [(2, 2), (2, 2), (1, 2)] * 2  # of two blocks, the baseline with the first
    assert len({variant.scores["drift"].value for variant in result.variants[1:]}) == 4


def test_measures_of_the_same_features_look_at_nothing_anew(studied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    studied(measures=["fid"])
    monkeypatch.setattr("workers.study.measures.SampleMeasures.measure", lambda *_: pytest.fail("it looks again"))
    assert studied(measures=["fid", "recall", "inception-score", "drift"]).complete


def test_the_neighbours_of_a_reference_are_sought_once_for_all_studies_and_workers(
    studied: Any, worker: Worker, settings: Settings, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[int] = []
    seek = Manifold._to_neighbour

    def watched(manifold: Manifold) -> torch.Tensor:
        found = seek(manifold)
        sought.append(len(found))
        return found

    monkeypatch.setattr(Manifold, "_to_neighbour", watched)
    first = studied(measures=["precision"])
    studied(measures=["precision"], seed=1)
    job = submit("study", grid=GRID, measures=["precision", "recall"], samples_per_label=2)
    Worker(settings, "another").run(job.id)
    result = StudyResult.model_validate(store.get(job.id).result)
    assert len(set(sought)) == 2, "of the reference, and of each variant's samples for recall"
    assert sought.count(max(sought)) == 1
    for before, variant in zip(first.variants, result.variants, strict=True):
        assert variant.scores["precision"] == before.scores["precision"]
