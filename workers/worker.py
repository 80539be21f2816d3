"""A worker: claims a job by its id, has its handler do it, and writes its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import structlog
import torch
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars

from jobs.keys import canonical_json
from jobs.problems import STORAGE_FULL, Problem, problem
from jobs.queue import JobQueue, make_celery
from jobs.registry.added import AddedStore
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry, UnknownModel
from jobs.requests.base import ModelRequest, Request
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactsFull, ArtifactsUnavailable
from jobs.storage.shards import ShardStore
from jobs.storage.uploads import ConditionStore, UnknownConditions
from jobs.store.connection import connect
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.views import WorkerInfo
from tailprune.spec import InputError
from tailprune.systems.choices import keep_in
from workers.evaluators import Evaluators
from workers.handler import BatchHandler, Context, request_of, source_of
from workers.handlers import HANDLERS
from workers.lease import Batch, Cancelled, LeaseLost, OnDone, Preempted, Product, Run, Shutdown, Stopped, TimeUp
from workers.model_pool import ModelPool, Source, choose_device
from workers.study.tasks import TaskHelper

__all__ = ["Worker"]

log = structlog.get_logger(__name__)


class Worker:
    """One process that does one job, or one batch of jobs, at a time on one device.

    settings: where Redis, the registry and the data folder are, and the worker's limits.
    name: unique among the workers.
    Raises RegistryError where the registry of models cannot be read, InputError for a device that does not exist.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        keep_in(settings.data_dir / "kernels")
        client = connect(settings)
        queue = JobQueue(make_celery(settings))
        device = choose_device(settings.device, settings.worker_index)
        self.info = WorkerInfo(name=name, device=str(device))
        self.store = JobStore(client, settings, queue)
        self.leases = LeaseStore(client, settings, queue, self.store.artifacts)
        self.workers = WorkerRegistry(client, settings.sweep_seconds)
        self.shutdown = Shutdown(settings.handover_seconds)
        self.batch: Batch | None = None
        """The jobs that are being done."""
        registry = Registry.read(settings.registry, settings.hub_cache)
        artifacts, compacted = self.store.artifacts, CompactedStore(client)
        catalogue = Catalogue(registry, AddedStore(client), compacted, artifacts, settings, fetches=True)
        shards = ShardStore(settings, client, artifacts)
        assets = EvaluationAssets.from_registry(registry)
        self.context = Context(
            settings=settings,
            models=ModelPool(catalogue, settings, device),
            evaluators=Evaluators(assets, shards, device, settings.batch_size),
            artifacts=artifacts,
            shards=shards,
            conditions=ConditionStore(artifacts, client),
            catalogue=catalogue,
            compacted=compacted,
            telemetry=self.store.telemetry,
        )
        self._helper = TaskHelper(self.leases, self.context, self.shutdown)
        self._outcomes = _Outcomes(self.leases, self.context.models)

    def run(self, job_id: str) -> None:
        """Do a job, with the queued jobs that can share its batch.

        Nothing is done where the job is finished, cancelled or another worker's: messages may come twice or late.
        """
        with bound_contextvars(job_id=job_id):
            claims = self._claim(job_id)
            if claims:
                self._helper.last = None  # so that the pool can drop its model
                with (
                    Batch(self.leases, claims, self.shutdown) as batch,
                    self._waiting(batch),
                    batch.runs[0].span.current(),
                ):
                    self.batch = batch
                    try:
                        self._do(batch, batch.runs)
                    finally:
                        self.batch = None

    def help(self, job_id: str, message: Mapping[str, Any]) -> None:
        """Do a task of a study that another worker holds, unless the study is over or the task is leased.

        Nothing is lost where this fails: the holder does the task itself, and fails with the same error.
        """
        with bound_contextvars(job_id=job_id):
            try:
                if self.leases.is_active(job_id):
                    with self.context.models.in_use():
                        self._helper.help(self.store.get(job_id), message)
            except Stopped as reason:
                log.info("task is left", task=message, reason=type(reason).__name__)
            except Exception:
                log.warning("task is left to the holder of its study", task=message, exc_info=True)

    @contextmanager
    def _waiting(self, batch: Batch) -> Iterator[None]:
        """Have the jobs of a batch wait where the store of artifacts is unavailable."""
        artifacts = self.context.artifacts
        before, artifacts.retry = artifacts.retry, batch.retry
        try:
            yield
        finally:
            artifacts.retry = before

    def _claim(self, job_id: str) -> list[Claim]:
        """Claim a job and its companions; none where the job is not claimable."""
        try:
            claim = self.leases.claim(job_id, self.info.name)
        except redis.RedisError as error:
            log.warning("job not claimed; the sweep will bring it back", reason=str(error))
            return []
        if claim is None:
            log.info("job is not claimable")
            return []
        claims = [claim, *self._companions(claim)]
        for each in claims:
            job = each.job
            log.info("job starts", job_id=job.id, kind=job.kind, model=job.model, attempt=each.token)
        if len(claims) > 1:
            log.info("jobs share a batch", jobs=[each.job.id for each in claims])
        return claims

    def _companions(self, claim: Claim) -> list[Claim]:
        """Claim queued jobs to do in one batch with this one, at most this worker's share of them."""
        if not isinstance(HANDLERS[claim.job.kind], BatchHandler):
            return []
        try:
            workers = len(self.workers.alive())
        except redis.RedisError:
            return []
        return self.leases.claim_companions(claim, self.context.settings.batch_size, max(1, workers))

    def _do(self, batch: Batch, runs: Sequence[Run]) -> None:
        """Do one job, or several together, and write the outcome of each."""
        remaining = list(runs)

        def on_done(run: Run, outcome: Product[BaseModel] | Exception) -> None:
            remaining.remove(run)
            if isinstance(outcome, Stopped) and run.stop is not None:
                outcome = run.stop  # where all jobs of a batch have to stop, each has its own reason
            with bound_contextvars(job_id=run.job.id):
                try:
                    ended = self._outcomes.write(run, outcome)
                    run.note_end(ended)
                    log.info("job ends", outcome=ended)
                except Exception:
                    log.exception("what became of the job is not written; the sweep will bring it back")
                finally:
                    batch.leave(run)  # the lease is renewed until here

        try:
            with self.context.models.in_use():
                self._handle(runs, on_done)
        except Stopped as reason:
            for run in list(remaining):
                on_done(run, reason)
        except Exception as error:
            if len(runs) == 1:
                on_done(runs[0], error)
            else:
                log.warning("jobs that shared a batch are done one by one", exc_info=True)
        if remaining:  # outside the except clause, whose traceback keeps the batch's tensors in memory
            torch.cuda.empty_cache()
            for run in remaining:
                self._do(batch, [run])

    def _handle(self, runs: Sequence[Run], on_done: OnDone) -> None:
        """Have jobs of one kind done by its handler. A job whose model cannot be used ends first."""
        handler = HANDLERS[runs[0].job.kind]
        ready: list[tuple[Run, Request, Source | None]] = []
        for run in runs:
            try:
                request = request_of(run.job, handler.request)
                source = source_of(run.job, request, self.context) if isinstance(request, ModelRequest) else None
                ready.append((run, request, source))
            except Exception as error:
                on_done(run, error)
        if not ready:
            return
        (run, request, source), *_ = ready
        if isinstance(handler, BatchHandler):
            runs, requests, _ = zip(*ready, strict=True)
            assert source is not None, "what shares a batch is of a model"
            handler.handle_batch(runs, requests, source, self.context, on_done)
        else:
            on_done(run, handler.handle(run, request, source, self.context))


class _Outcomes:
    """Writes what became of jobs."""

    def __init__(self, leases: LeaseStore, models: ModelPool) -> None:
        self._leases = leases
        self._models = models

    def write(self, run: Run, outcome: Product[BaseModel] | Exception) -> str:
        """Finish a job with its product or its error, or hand it back; return what became of it, in a word or two."""
        claim = run.claim
        try:
            if isinstance(outcome, Exception):
                raise outcome
            result = outcome.result.model_dump(mode="json")
            _check_finite(result)
            document = self._leases.store_outcome(result, outcome.artifacts)
        except Cancelled:
            return "cancelled" if self._leases.cancelled(claim) else "lost"
        except Preempted:
            return "handed over" if self._leases.release(claim) else "lost"
        except LeaseLost:
            return "lost"
        except TimeUp as error:
            return "stopped: time is up" if self._leases.fail(claim, problem("time-limit", str(error))) else "lost"
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            return self._failed(claim, f"{error}; lower TAILPRUNE_BATCH_SIZE on the worker, or ask for less")
        except (InputError, UnknownModel, UnknownConditions) as error:
            return self._failed(claim, str(error))
        except ArtifactsUnavailable as error:
            log.error("the store of artifacts stayed unavailable", reason=str(error))
            return self._fail(claim, _storage_problem(error))
        except Exception:
            log.exception("job broke")
            reason = problem("internal", "the worker failed with an internal error; its log has it under this job's id")
            return self._fail(claim, reason)
        if run.progress is not None:
            self._leases.report(claim, *run.progress)
        return "succeeded" if self._leases.succeed_with(claim, document) else "lost"

    def _failed(self, claim: Claim, detail: str) -> str:
        log.warning("job failed", detail=detail, exc_info=True)
        detail = self._models.as_registered(claim.job.model, detail)
        detail = detail.encode(errors="backslashreplace").decode()  # names of files need not be Unicode
        return self._fail(claim, problem("failed", detail))

    def _fail(self, claim: Claim, reason: Problem) -> str:
        return "failed" if self._leases.fail(claim, reason) else "lost"


def _storage_problem(error: ArtifactsUnavailable) -> Problem:
    """Why a job failed that could not read or write its files."""
    if isinstance(error, ArtifactsFull):
        return problem("storage-full", STORAGE_FULL)
    detail = "the store of artifacts did not answer for too long: see that it is up, and post the request again"
    return problem("unavailable", detail)


def _check_finite(result: dict[str, Any]) -> None:
    """Raise InputError where a result holds NaN or infinity, which JSON does not have."""
    try:
        canonical_json(result)
    except ValueError as error:
        raise InputError(
            "the result holds NaN or infinity, so it is not stored: look at the checkpoint, and at the samples"
        ) from error
