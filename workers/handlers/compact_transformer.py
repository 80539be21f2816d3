"""The job `compact-transformer`: a large transformer with a smaller AdaLN, written file by file and stored.

The files are written in a folder of the job's key among those that are being written, which one attempt holds at a
time. An attempt that is interrupted leaves what it has finished there, and the next one on the same machine goes on
with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from jobs.anatomy_results import TransformerUsed
from jobs.compact_transformer_results import CompactTransformerResult, CompactTransformerTiming
from jobs.registry.transformers import TransformerEntry
from jobs.requests.compact_transformer import CompactTransformerRequest
from jobs.requests.fields import as_list
from jobs.results import Change
from jobs.storage.artifacts import Artifact, ArtifactsFull
from jobs.storage.files import INCOMING, translated_errors
from jobs.storage.uploads import UnknownConditions
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import CONFIG
from tailprune.transformers import Written, compact
from tailprune.transformers.account import CARD, COMPACTION
from tailprune.transformers.population import POPULATION
from tailprune.transformers.writing import INDEX_OF_SHARDS, MODELING, NoRoom
from workers.handler import Context, Timer, transformer_of
from workers.lease import Cancelled, Product, Run

__all__ = ["handler"]

MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
"""By the ending of a file; others are application/octet-stream."""
TOUCH_SECONDS = 60.0
"""How often a folder that is worked in is marked as in use, as those that nobody uses are deleted after a day."""


class CompactTransformerHandler:
    """Makes compacted large transformers. Nothing of them stays in memory."""

    request = CompactTransformerRequest

    def handle(
        self, run: Run, request: CompactTransformerRequest, source: None, context: Context
    ) -> Product[CompactTransformerResult]:
        """Compact the large transformer of a resolved request, and store the files of its folder.

        Raises InputError for files that are missing, that cannot be used, or that were written to meanwhile, and for a
        result that would be no smaller or is off by more than the error that is asked for; UnknownConditions for texts
        that are not stored any more; ArtifactsFull.
        """
        entry, digest = transformer_of(run.job, request, context)
        timer, data = Timer(), context.settings.data_dir.absolute()
        try:
            with _held(data / INCOMING, run) as work:
                run.phase = "compacting"
                with timer.measure("compact"):
                    written = work.finished(request, context) or _compacted(request, entry, work, run, context)
                try:
                    transformer_of(run.job, request, context)
                except InputError as error:
                    raise InputError(
                        f"the files of {entry.name!r}, or its scheduler's, were written to while they were read: ask "
                        "again"
                    ) from error
                run.phase = "storing"
                with timer.measure("store"):
                    artifacts = _stored(request, work, written, run, context)
        except NoRoom as error:
            raise ArtifactsFull(f"the disk of {data} is full: {error}") from error
        except InputError as error:
            raise InputError(entry.place_of(str(error)).replace(str(data), "TAILPRUNE_DATA_DIR")) from error
        timing = CompactTransformerTiming(queue=run.job.queue_seconds, **timer.seconds)
        return Product(
            _result(TransformerUsed(name=entry.name, files_digest=digest), written, artifacts, timing), artifacts
        )


class _Work:
    """A folder that one attempt works in: `out` with the smaller model, and which of its files are stored."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "model"
        self._stored = folder / "stored"
        self._touched = time.monotonic()
        os.utime(folder)

    def touch(self) -> None:
        """Mark the folder as in use."""
        if time.monotonic() - self._touched > TOUCH_SECONDS:
            self._touched = time.monotonic()
            os.utime(self.folder)

    def stored(self) -> dict[str, Artifact]:
        """The artifacts of those files that are stored, and deleted here."""
        return {note.name: Artifact.model_validate_json(note.read_bytes()) for note in self._notes()}

    def note(self, name: str, artifact: Artifact) -> None:
        """Delete a file that is stored. It is known by its artifact from then on."""
        with translated_errors(str(self.folder), writes=True):
            self._stored.mkdir(exist_ok=True)
            unfinished = self.folder / "note"
            unfinished.write_text(artifact.model_dump_json())
            os.replace(unfinished, self._stored / name)
            (self.out / name).unlink()

    def finished(self, request: CompactTransformerRequest, context: Context) -> Written | None:
        """The smaller model that an attempt before this one has finished; None where files of it are missing.

        request: that of the job.
        """
        grace = context.settings.collect_grace_seconds
        try:
            said = json.loads((self.out / COMPACTION).read_bytes())
            said.pop("plan")
            written = Written(path=str(self.out), **said)
            there = self.stored()
            older = any(time.time() - note.stat().st_mtime > grace for note in self._notes())
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if older:  # those of no record are deleted
            return None
        missing = [name for name in _names(written, request) if name not in there and not (self.out / name).is_file()]
        return written if not missing and context.artifacts.has_all(list(there.values())) else None

    def clear(self) -> None:
        """Delete what is there of a smaller model that has to be made again."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self._stored, ignore_errors=True)

    def _notes(self) -> list[Path]:
        return sorted(self._stored.iterdir()) if self._stored.is_dir() else []


@contextmanager
def _held(incoming: Path, run: Run) -> Iterator[_Work]:
    """The folder of a job's key, or one of this attempt alone while another holds that.

    It is deleted unless an attempt can go on with it.
    """
    shared = incoming / f"compact-{run.job.key}"
    with translated_errors(str(incoming), writes=True):
        lock = _lock(shared)
        folder = shared if lock is not None else Path(f"{shared}-{run.job.id}-{run.claim.token}")
        folder.mkdir(exist_ok=True)
        work = _Work(folder)
    keep = False
    try:
        yield work
    except (Cancelled, InputError, UnknownConditions) as error:
        keep = isinstance(error, NoRoom)
        raise
    except BaseException:
        keep = True
        raise
    finally:
        if lock is None or not keep:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """An open descriptor that locks a folder, which is made if it is missing; None where another has it locked."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its holder has just deleted it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(folder)):
                return lock
        except FileNotFoundError:
            pass
        except OSError:  # locked, or on a file system without locks
            os.close(lock)
            return None
        os.close(lock)


def _compacted(
    request: CompactTransformerRequest, entry: TransformerEntry, work: _Work, run: Run, context: Context
) -> Written:
    """Write the folder of a compacted model, from files of this machine alone."""
    path, scheduler = entry.local_checkpoint, entry.scheduler if request.scheduler == "own" else None
    assert path is not None, "its digest was computed"
    if request.scheduler == "own" and scheduler is None:
        raise MissingFileError(f"the scheduler of {entry.name!r} is missing")

    def report(done: int, total: int) -> None:
        work.touch()
        run.step(done, total, "bytes")

    work.clear()
    try:
        with context.uploaded(request.population) as texts:
            return compact(
                path,
                work.out,
                steps=request.steps,
                scheduler=scheduler,
                resolutions=[(width, height) for width, height in request.resolutions or []],
                times=None if request.times is None else torch.tensor(request.times),
                rank=request.rank,
                error=request.error,
                guidance=None if request.guidance is None else as_list(request.guidance),
                pooled=request.pooled,
                population=texts,
                classes=request.classes,
                qkv=request.qkv,
                on_bytes=report,
            )
    except ModuleNotFoundError as error:  # of diffusers, which makes the times of schedulers
        raise InputError(f"this worker cannot make the times of a scheduler: {error}; or give times") from error


def _names(written: Written, request: CompactTransformerRequest) -> list[str]:
    """The names of all files of the folder that a resolved request makes."""
    index = [INDEX_OF_SHARDS] if len(written.sources) > 1 else []
    texts = [POPULATION] if request.population is not None else []
    return sorted({*written.files, *index, *texts, CONFIG, MODELING, CARD, COMPACTION})


def _stored(
    request: CompactTransformerRequest, work: _Work, written: Written, run: Run, context: Context
) -> dict[str, Artifact]:
    """Store all files of a folder, and delete those of weights here.

    Raises InputError for one that is missing or not as it was written.
    """
    stored, names = work.stored(), _names(written, request)
    for done, name in enumerate(names):
        work.touch()
        run.step(done, len(names), "files")
        if name in stored:
            continue
        path = work.out / name
        if not path.is_file():
            raise InputError(f"{path} was deleted after it was written: post the request again")
        artifact = context.artifacts.put_file(path, MEDIA_TYPES.get(path.suffix, "application/octet-stream"))
        if written.files.get(name, artifact.digest) != artifact.digest:
            raise InputError(f"{path} changed after it was written: post the request again")
        stored[name] = artifact
        if name in written.files:
            work.note(name, artifact)
    run.step(len(names), len(names), "files")
    return {name: stored[name] for name in names}


def _result(
    model: TransformerUsed, written: Written, artifacts: dict[str, Artifact], timing: CompactTransformerTiming
) -> CompactTransformerResult:
    before_and_after = {
        name: Change(before=before, after=after)
        for name in ("parameters", "adaln_parameters", "bytes")
        for before, after in [getattr(written, name)]
    }
    return CompactTransformerResult(
        model=model,
        name=written.name,
        rank=written.rank,
        covers=written.covers,
        error=written.error,
        worst_error=written.worst_error,
        error_between=written.error_between,
        text_error=written.text_error,
        **before_and_after,
        dtype=written.dtype,
        read_dtypes=list(written.read_dtypes),
        notes=list(written.notes),
        sources=written.sources,
        files={name: artifact.digest for name, artifact in artifacts.items()},
        card=CARD,
        account=COMPACTION,
        timing=timing,
    )


handler = CompactTransformerHandler()
