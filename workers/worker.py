"""A worker: takes a job by its id, does it, and writes down what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis
import structlog
import torch
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars

from jobs.keys import canonical_json, job_key
from jobs.kinds import KINDS
from jobs.problems import problem
from jobs.queue import JobQueue, make_celery
from jobs.records import Job
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry, UnknownModel
from jobs.requests.extract import ExtractRequest
from jobs.requests.figure import FigureRequest
from jobs.requests.metrics import MetricsRequest
from jobs.requests.study import StudyRequest
from jobs.results import CompactResult, FigureResult, PruneSampleResult
from jobs.settings import Settings
from jobs.storage.shards import ShardStore
from jobs.storage.uploads import ConditionStore, UnknownConditions
from jobs.store.connection import connect
from jobs.store.heartbeats import WorkerInfo, WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.store.telemetry import SAMPLES, SAMPLING
from jobs.study_results import StudyResult
from workers.context import Stores
from workers.evaluators import Evaluators
from workers.handlers.compact import compact
from workers.handlers.extract import extract
from workers.handlers.figure import draw
from workers.handlers.metrics import measure
from workers.handlers.prune_sample import prune_and_sample
from workers.handlers.study import Study
from workers.lease import Batch, Cancelled, LeaseLost, OnDone, Preempted, Product, Run, Shutdown, Stopped, TaskRun
from workers.model_pool import Models, Source, choose_device
from workers.study.assessing import Assessor
from workers.study.coordination import attempt
from workers.study.shard_maker import ShardMaker
from workers.study.tasks import offered

__all__ = ["Worker"]

log = structlog.get_logger(__name__)


class Worker:
    """One process that does one job at a time, on one device.

    Raises RegistryError where the registry of models cannot be read.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        client = connect(settings)
        device = choose_device(settings.device, settings.worker_index)
        self.info = WorkerInfo(name=name, device=str(device))
        queue = JobQueue(make_celery(settings))
        self.store = JobStore(client, settings, queue)
        self.leases = LeaseStore(client, settings, queue)
        self.shards = ShardStore(settings, client, self.store.artifacts)
        self.conditions = ConditionStore(settings, client)
        self.roll = WorkerRegistry(client)
        self.compacted = CompactedStore(client)
        registry = Registry.read(settings.registry, settings.hub_cache)
        self.registry = Catalogue(registry, self.compacted, self.store.artifacts, settings.data_dir, fetches=True)
        self.models = Models(self.registry, settings, device)
        instruments = EvaluationAssets.of(registry)
        self.bench = Evaluators(instruments, self.shards, device, settings.batch_size)
        self.shutdown = Shutdown(settings.handover_seconds)
        self._workshop: tuple[str, ShardMaker] | None = None

    def run(self, job_id: str) -> None:
        """Does a job, unless it is finished, cancelled or another worker's. Messages may come twice or late.

        Jobs that wait and can share its batch are done with it.
        """
        with bound_contextvars(job_id=job_id):
            claims = self._claimed(job_id)
            if claims:
                self._workshop = None  # its model is the pool's again, to be let go of
                with Batch(self.leases, claims, self.shutdown) as batch:
                    self._do(batch, batch.runs)

    def _claimed(self, job_id: str) -> list[Claim]:
        """A job and its companions; none where it is not claimable."""
        try:
            claim = self.leases.claim(job_id, self.info.name)
        except redis.RedisError as error:
            log.warning("job not claimed; the sweep will bring it back", reason=str(error))
            return []
        if claim is None:
            log.info("job is not to be had")
            return []
        claims = [claim, *self._companions(claim)]
        for each in claims:
            job = each.job
            log.info("job starts", job_id=job.id, kind=job.kind, model=job.model, attempt=each.token)
        if len(claims) > 1:
            log.info("jobs share a batch", jobs=[each.job.id for each in claims])
        return claims

    def _companions(self, claim: Claim) -> list[Claim]:
        """Jobs to be sampled with this one: no more than this worker's share of those that wait."""
        if claim.job.kind != "prune-sample":
            return []
        try:
            workers = len(self.roll.alive())
        except redis.RedisError:
            return []
        return self.leases.claim_companions(claim, self.store.settings.batch_size, max(1, workers))

    def _do(self, batch: Batch, runs: Sequence[Run]) -> None:
        """Does one job or several together, and writes what became of each."""
        left = list(runs)

        def settle(run: Run, ended: Product[BaseModel] | Exception) -> None:
            left.remove(run)
            with bound_contextvars(job_id=run.job.id):
                try:
                    log.info("job ends", outcome=self._outcome(run, ended))
                except Exception:
                    log.exception("what became of the job is not written; the sweep will bring it back")
                finally:
                    batch.leave(run)  # until here, the lease is kept

        try:
            self._make(runs, settle)
        except Stopped as reason:
            for run in list(left):
                settle(run, reason)
        except Exception as error:
            if len(runs) == 1:
                settle(runs[0], error)
            else:
                log.warning("jobs that shared a batch are done one by one", exc_info=True)
        if left:  # out of the handler, whose traceback holds all that the batch had in memory
            torch.cuda.empty_cache()
            for run in left:
                self._do(batch, [run])

    def _outcome(self, run: Run, ended: Product[BaseModel] | Exception) -> str:
        """Writes what became of a job; names that."""
        claim = run.claim
        try:
            product = _made(ended)
            self._count(run.job, product.result)
            result = product.result.model_dump(mode="json")
            canonical_json(result)  # refuses what JSON cannot say, such as NaN
        except Cancelled:
            return "cancelled" if self.leases.cancelled(claim) else "lost"
        except Preempted:
            return "handed over" if self.leases.release(claim) else "lost"
        except LeaseLost:
            return "lost"
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            return self._failed(claim, f"{error}; lower TAILPRUNE_BATCH_SIZE on the worker, or ask for less")
        except (ValueError, FileNotFoundError, UnknownModel, UnknownConditions) as error:
            return self._failed(claim, str(error))
        except Exception:
            log.exception("job broke")
            reason = problem("internal", "the worker met an error of its own; its log has it under this job's id")
            return "failed" if self.leases.fail(claim, reason) else "lost"
        if run.progress is not None:
            self.leases.report(claim, *run.progress)
        written = self.leases.succeed(claim, result, product.artifacts)
        return "succeeded" if written else "lost"

    def _count(self, job: Job, result: BaseModel) -> None:
        """Counts the samples of a result, and the seconds they took; a study counts its own as it makes them."""
        match result:
            case PruneSampleResult():
                made = sum(len(variant.images) for variant in result.variants)
                self.store.telemetry.count(SAMPLES, job.model, by=made)
                self.store.telemetry.observe(SAMPLING, job.model, value=result.timing.sample)
            case FigureResult(samples=made) if made:
                self.store.telemetry.count(SAMPLES, job.model, by=made)
            case CompactResult():
                for used in (result.model, result.compacted):
                    self.store.telemetry.count(SAMPLES, used.name, by=result.compared.samples)

    def _failed(self, claim: Claim, detail: str) -> str:
        log.warning("job failed", detail=detail, exc_info=True)
        detail = self.models.as_registered(claim.job.model, detail)
        return "failed" if self.leases.fail(claim, problem("failed", detail)) else "lost"

    def help(self, job_id: str, said: Mapping[str, Any]) -> None:
        """Does a task that the holder of a study offers, unless that study is over or another worker does it.

        Nothing is lost where this fails: the holder does what is missing, and says what is wrong with it.
        """
        with bound_contextvars(job_id=job_id):
            try:
                if not self.leases.is_active(job_id):
                    return
                job = self.store.get(job_id)

                def on_made(samples: int) -> None:
                    self.store.telemetry.count(SAMPLES, job.model, by=samples)

                with TaskRun(self.leases, job_id, self.shutdown) as run:
                    task = offered(said, Assessor(self._workshop_of(job), self.bench, run, on_made))
                    if made := attempt(task, self.shards, lambda _: run.check()):
                        on_made(made)
            except Stopped as reason:
                log.info("task is left", said=said, reason=type(reason).__name__)
            except Exception:
                log.warning("task is left to the holder of its study", said=said, exc_info=True)

    def _workshop_of(self, job: Job) -> ShardMaker:
        """That of a study; the last one is kept, for the offers of one study come one after another."""
        if self._workshop is None or self._workshop[0] != job.id:
            request, source = StudyRequest.model_validate(job.request), self._source(job)
            rows = self.store.settings.batch_size
            made = ShardMaker.of_job(request, source, self.models, self.bench, self._stores, rows)
            self._workshop = job.id, made
        return self._workshop[1]

    @property
    def _stores(self) -> Stores:
        return Stores(self.store.artifacts, self.shards, self.conditions)

    def _source(self, job: Job) -> Source:
        """The model of a job. Raises ValueError where it is not the one that was asked for."""
        request = KINDS[job.kind].model_validate(
            {k: v for k, v in job.request.items() if k in KINDS[job.kind].model_fields}
        )
        evaluated_with = request.evaluated_with(self.registry.get(job.model), self.bench.registered)
        source = self.models.source(job.model, request.reads, evaluated_with)
        if job_key(job.kind, job.request, source.identity.weights, source.identity.reading) != job.key:
            raise ValueError(
                f"this worker's {job.model!r} is not the one that was asked for: its checkpoint, its entry in the "
                "registry or the code differs from the service's; ask again, or bring both to the same state"
            )
        return source

    def _sources(self, runs: Sequence[Run], settle: OnDone) -> list[tuple[Run, Source]]:
        """The model of each job. One without a model of its own is settled, and left out."""
        sources = []
        for run in runs:
            try:
                sources.append((run, self._source(run.job)))
            except Exception as error:
                settle(run, error)
        return sources

    def _make(self, runs: Sequence[Run], settle: OnDone) -> None:
        """Makes what jobs ask for, and settles each."""
        sources = self._sources(runs, settle)
        if not sources:
            return
        (run, source), *_ = sources
        job, stores, settings = run.job, self._stores, self.store.settings
        match job.kind:
            case "metrics":
                asked = MetricsRequest.model_validate(job.request)
                settle(run, Product(measure(asked, source, self.models, self.conditions)))
            case "extract":
                settle(run, extract(ExtractRequest.model_validate(job.request), source, self.models, stores, run))
            case "figure":
                request = FigureRequest.model_validate(job.request)
                settle(run, draw(job, request, source, self.models, stores, settings, run))
            case "prune-sample":
                prune_and_sample([run for run, _ in sources], source, self.models, stores, settings.batch_size, settle)
            case "study":
                settle(run, self._studied(job, source, stores, run))
            case "compact":
                settle(run, compact(job, source, self.models, stores, self.compacted, settings, run))

    def _studied(self, job: Job, source: Source, stores: Stores, run: Run) -> Product[StudyResult]:
        request, settings = StudyRequest.model_validate(job.request), self.store.settings
        study = Study(request, source, self.models, self.bench, stores, settings, run)
        return study.result(lambda samples: self.store.telemetry.count(SAMPLES, job.model, by=samples))


def _made(ended: Product[BaseModel] | Exception) -> Product[BaseModel]:
    """What a job made. Raises what it ended with instead."""
    if isinstance(ended, Exception):
        raise ended
    return ended
