"""The interface of a handler, which does one kind of job, and what it works with.

Every handler is a module of `workers.handlers`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ValidationError

from jobs.keys import job_key
from jobs.records import Job
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.transformers import TransformerEntry
from jobs.requests.base import ModelRequest, Request, TransformerRequest
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore, Folder
from jobs.storage.files import INCOMING, translated_errors
from jobs.storage.shards import ShardStore
from jobs.storage.uploads import ConditionStore
from jobs.store.telemetry import SAMPLES, Telemetry
from tailprune.spec import InputError, MissingFileError
from workers.evaluators import Evaluators
from workers.lease import OnDone, Product, Run
from workers.model_pool import ModelPool, Source

__all__ = [
    "BatchHandler",
    "Context",
    "Handler",
    "Timer",
    "read_transformer",
    "request_of",
    "source_of",
    "transformer_of",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The models, stores and settings of a worker."""

    settings: Settings
    models: ModelPool
    evaluators: Evaluators
    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore
    catalogue: Catalogue
    compacted: CompactedStore
    telemetry: Telemetry

    def store_file(
        self, name: str, media_type: str, write: Callable[[Path], object], folder: Folder = "results"
    ) -> Artifact:
        """Store a file of any size, which is never whole in memory.

        name: of the file, while it is written.
        media_type: of the artifact.
        write: writes the file to a path; called again where the disk or the store was not available.
        folder: the artifact's; results by default.
        """

        def store() -> Artifact:
            data_dir = self.settings.data_dir / INCOMING  # a killed worker leaves what it wrote to the collector
            with translated_errors(str(data_dir), writes=True):
                data_dir.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=data_dir) as around:
                    path = Path(around) / name
                    write(path)
                    return self.artifacts.put_file(path, media_type, folder)

        artifact: Artifact = self.artifacts.retry(store)
        return artifact

    @contextmanager
    def uploaded(self, conditions: str | None) -> Iterator[Path | None]:
        """The file of uploaded conditions, on this machine within the context; None for none.

        Raises UnknownConditions where they are not stored.
        """
        if conditions is None:
            yield None
            return
        content, incoming = self.conditions.read(conditions), self.settings.data_dir.absolute() / INCOMING
        with ExitStack() as stack:
            with translated_errors(str(incoming), writes=True):
                incoming.mkdir(parents=True, exist_ok=True)
                path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=incoming))) / "conditions.safetensors"
                path.write_bytes(content)
            yield path

    def count_samples(self, model: str, samples: int) -> None:
        """Count samples of a model in the telemetry."""
        if samples:
            self.telemetry.count(SAMPLES, model, by=samples)


class Timer:
    """Measures the seconds that each part of a job takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time within the context to a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begun


class Handler(Protocol):
    """Does jobs one at a time."""

    request: type[Request]
    """The type of the resolved request, which names the kind of job, its queue, and the parts of the model it reads."""

    def handle(self, run: Run, request: Any, source: Any, context: Context) -> Product[BaseModel]:
        """Do a job; return its result and its artifacts.

        run: the job; `run.step` or `run.check` is called at every step, and raises Stopped where the job has to stop.
        request: the resolved request, of the class above.
        source: the model, a Source; None for a request that is no `ModelRequest`.
        context: the models, stores and settings of the worker.
        Raises InputError for an error in the request, Stopped.
        """
        ...


@runtime_checkable
class BatchHandler(Protocol):
    """Does jobs that can share a batch together (`jobs.batching`)."""

    request: type[Request]
    """As in `Handler`."""

    def handle_batch(
        self, runs: Sequence[Run], requests: Sequence[Any], source: Source, context: Context, on_done: OnDone
    ) -> None:
        """Do jobs, at least one.

        runs: the jobs.
        requests: the resolved request of each, of the class above.
        source: their model.
        context: the models, stores and settings of the worker.
        on_done: called for each job as soon as it is done, fails or is stopped; the others go on.
        Raises an error that concerns all jobs, and Stopped at the step after which none is left.
        """
        ...


def request_of(job: Job, kind: type[Request]) -> Request:
    """The resolved request of a job. Raises InputError for the record of another version of the service."""
    try:
        return kind.model_validate(job.request)
    except ValidationError as error:
        raise InputError(
            "the job was made by another version of the service than this worker's: post the request again, or bring "
            "both to the same version"
        ) from error


def transformer_of(job: Job, request: TransformerRequest, context: Context) -> tuple[TransformerEntry, str]:
    """The large transformer of a job, and the digest of its files. request: that of the job.

    Raises InputError where files are missing, or are not the service's, by the key of the job; UnknownModel.
    """
    entry = context.catalogue.transformer(job.model)
    if missing := entry.missing:
        raise MissingFileError(f"this worker's {entry.name!r} lacks {', '.join(missing)}")
    digest = entry.files_digest
    if job_key(job.kind, job.request, digest, request.reading(entry)) != job.key:
        raise InputError(
            f"this worker's {job.model!r} is not the model of the request: its files or the code differ from the "
            "service's; ask again, and where the files are copies, copy their times of modification too"
        )
    return entry, digest


def read_transformer(entry: TransformerEntry, digest: str, read: Callable[[Path], T]) -> T:
    """What is read of a large transformer's files, on this machine alone.

    entry: the large transformer.
    digest: of its files, before they are read.
    read: reads them from this path.
    Raises InputError for files that cannot be used, which are named as in the registry, or were written to meanwhile.
    """
    path = entry.local_checkpoint
    assert path is not None, "its digest was computed"
    try:
        found = read(path)
    except InputError as error:
        raise InputError(entry.place_of(str(error))) from error
    if entry.files_digest != digest:
        raise InputError(f"the files of {entry.name!r} were written to while they were read: ask again")
    return found


def source_of(job: Job, request: ModelRequest, context: Context) -> Source:
    """The model of a job. Raises InputError where it is not the service's, by the key of the job."""
    entry = context.models.entry(job.model)
    evaluated_with = request.evaluated_with(entry, context.evaluators.registered)
    source = context.models.source(job.model, request.reads, evaluated_with)
    if job_key(job.kind, job.request, source.identity.weights, source.identity.reading) != job.key:
        raise InputError(
            f"this worker's {job.model!r} is not the model of the request: its checkpoint, its entry in the registry "
            "or the code differs from the service's; post the request again, or bring both to the same state"
        )
    return source
