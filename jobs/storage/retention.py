"""Deletes files that nothing needs any more, and keeps each class of files within its limits of age and size.

A file is deleted only once no record names it, and if it is older than `collect_grace_seconds` and than every job that
runs: what a running job has just written has no record yet. First the files are listed, then what names them is read,
and right before a file is deleted it is looked at again: one that was written or put again meanwhile stays. Several
processes may do this at once, and any of them may end at any time.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import redis
import structlog
from numpy.typing import NDArray
from pydantic import ValidationError
from redis.exceptions import LockError

from jobs.registry.compacted import CompactedStore
from jobs.requests.fields import upload_in
from jobs.settings import Settings, limits_by_class
from jobs.storage.artifacts import FOLDERS, Artifact, ArtifactStore, ArtifactsUnavailable, Folder
from jobs.storage.condition_files import MOST_START_BYTES, described
from jobs.storage.files import INCOMING
from jobs.storage.naming import UNDER_WAY, job_ids, named_by, records, request_of
from jobs.storage.shards import SHARD_PREFIX, ShardLease
from jobs.storage.survey import DIGEST, FileList, Names, Prefixes, Times, prefixes_of
from jobs.storage.uploads import USED_KEY, uploaders_key
from jobs.store.connection import text
from jobs.store.jobs import JobStore, JobUnfinished, UnknownJob
from jobs.store.scripts import PREFIX
from tailprune.spec.layouts import WEIGHTS

__all__ = ["ClassReport", "Collector", "Report"]

DAY = 86_400.0
NOTE_DAYS = 30
"""After so many days without use a digest of a checkpoint is forgotten."""
LOCK_SECONDS = 30.0
BATCH = 1000
EARLIER = re.compile(r"[0-9a-f]{2}")
"""The folders in which earlier versions put all files."""
RECORD_FIELDS = ("status", "started", "finished", "request", "artifacts", "outcome")

log = structlog.get_logger(__name__)


@dataclass
class ClassReport:
    """The files of one class, and what was deleted of them."""

    files: int = 0
    bytes: int = 0
    named_files: int = 0
    named_bytes: int = 0
    oldest: float | None = None
    """The time at which the oldest was written, in seconds since 1970."""
    deleted_files: int = 0
    deleted_bytes: int = 0


@dataclass
class Report:
    """What there is, and what was deleted, or would be."""

    classes: dict[Folder, ClassReport] = field(default_factory=lambda: {folder: ClassReport() for folder in FOLDERS})
    jobs: int = 0
    """How many finished jobs were deleted, because their results are over a limit."""
    shards: int = 0
    """How many shards were forgotten, because they are over a limit."""
    leftovers: int = 0
    """How many files were deleted that others left when they were interrupted, or that nothing uses."""
    unsorted: int = 0
    """How many files are where earlier versions put them; the first collection moves them."""


class Collector:
    """Deletes what is no longer needed, of one Redis and its store of artifacts.

    settings: with the limits, and the data folder.
    client: of Redis.
    jobs: deletes the records of jobs over a limit.

    What a finished job names is read once. Methods raise redis.RedisError and ArtifactsUnavailable.
    """

    def __init__(self, settings: Settings, client: redis.Redis, jobs: JobStore) -> None:
        self._settings = settings
        self._redis = client
        self._jobs = jobs
        self._grace = settings.collect_grace_seconds
        self._artifacts = ArtifactStore(settings, client)  # of its own: calls of the jobs' store may wait
        self._compacted = CompactedStore(client)
        self._days, self._bytes = limits_by_class(settings.keep_days), limits_by_class(settings.keep_bytes)
        self._finished: dict[str, tuple[float, dict[Folder, Prefixes]]] = {}
        """When a finished job finished, and what it names, by its id."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Have a collection that runs end soon; it goes on where it ended with the next."""
        self._stopped.set()

    def collect_if_due(self) -> None:
        """Collect, unless another process does or did within `collect_seconds`. Errors of the stores are logged."""
        try:
            self._delete_local_leftovers(Report())
            lock = self._redis.lock(f"{PREFIX}collecting", timeout=LOCK_SECONDS, thread_local=False)
            if not lock.acquire(blocking=False):
                return
            with ShardLease(lock, LOCK_SECONDS):
                period = max(1, round(self._settings.collect_seconds * 900))  # a little less, in milliseconds
                if self._redis.set(f"{PREFIX}collected", "", px=period, nx=True):
                    report = self.collect()
                    log.info("files collected", **_counted(report))
        except (redis.RedisError, LockError, ArtifactsUnavailable, OSError) as error:
            log.warning("files were not collected; it is tried again later", reason=str(error))

    def collect(self, *, dry_run: bool = False) -> Report:
        """Delete what is over a limit, and files that nothing names.

        dry_run: only say what would be deleted.
        """
        report = Report()
        self._take_over(report, dry_run=dry_run)
        files = {folder: FileList(self._artifacts, folder) for folder in FOLDERS}
        names, oldest_running = self._read_names()
        now = time.time()
        young = now - self._grace
        unsafe = min(now, oldest_running) - self._grace
        """Files written since may be those of a running job."""
        for folder in FOLDERS:
            each, used = files[folder], names[folder].times_of(files[folder].prefixes)
            _describe(report.classes[folder], each, used)
            limit = min(self._limit(each, used, now), young if folder == "results" else unsafe)
            if folder == "results":
                report.jobs = self._purge_jobs(limit, dry_run=dry_run)
            elif folder == "shards" and limit > -math.inf:
                report.shards = self._forget_shards(limit, dry_run=dry_run)
                if not dry_run:  # some may have been used meanwhile
                    used, limit = self._shard_names().times_of(each.prefixes), -math.inf
            over = np.flatnonzero((used <= limit) & (each.modified < unsafe))
            self._delete_files(report.classes[folder], each, over, limit, dry_run=dry_run)
        self._delete_leftovers(report, dry_run=dry_run)
        return report

    def _delete_files(
        self, report: ClassReport, files: FileList, places: NDArray[np.intp], limit: float, *, dry_run: bool
    ) -> None:
        for place in places.tolist():
            if self._stopped.is_set():
                return
            if dry_run or self._delete(files.artifact(place), files.modified[place], limit):
                report.deleted_files += 1
                report.deleted_bytes += int(files.sizes[place])

    def _delete(self, artifact: Artifact, modified: float, limit: float) -> bool:
        """Delete a file, unless it was written or used since it was listed."""
        state = self._artifacts.files.state(f"{artifact.folder}/{artifact.digest[:2]}/{artifact.digest}")
        if state is None or state.modified > modified + 1:  # lists of some stores have fractions of seconds
            return False
        if artifact.folder == "uploads":
            used = self._redis.zscore(USED_KEY, artifact.digest)
            if used is not None and used > limit:
                return False
            self._redis.zrem(USED_KEY, artifact.digest)
            self._redis.delete(uploaders_key(artifact.digest))
        return self._artifacts.discard(artifact, state)

    # What names files

    def _read_names(self) -> tuple[dict[Folder, Names], float]:
        """What is named in each class, and when the oldest running job started; infinity where none runs."""
        names = {folder: Names() for folder in FOLDERS}
        oldest_running = self._add_jobs(names)
        for _, used, artifact in self._shard_notes():
            # Those of earlier versions lie among the results.
            names[artifact.folder].add(
                prefixes_of([artifact.digest]), used if artifact.folder == "shards" else math.inf
            )
        for model in self._compacted.all().values():
            names[model.checkpoint.folder].add(prefixes_of([model.checkpoint.digest]), math.inf)
        return names, oldest_running

    def _add_jobs(self, names: dict[Folder, Names]) -> float:
        ids = job_ids(self._redis)
        self._finished = {job_id: self._finished[job_id] for job_id in ids if job_id in self._finished}
        oldest_running = math.inf
        unknown = [job_id for job_id in ids if job_id not in self._finished]
        for job_id, fields in records(self._redis, RECORD_FIELDS, unknown):
            files: dict[Folder, list[str]] = {}
            for artifact in named_by(fields, self._artifacts.read):
                files.setdefault(artifact.folder, []).append(artifact.digest)
            named = {folder: prefixes_of(digests) for folder, digests in files.items()}
            if fields.get("status") in UNDER_WAY:
                started = _seconds(fields.get("started"))
                if fields["status"] == "running" and started == math.inf:
                    started = -math.inf  # a damaged record: nothing is old enough
                oldest_running = min(oldest_running, started)
                if DIGEST.fullmatch(needed := upload_in(request_of(fields)) or ""):
                    names["uploads"].add(prefixes_of([needed]), math.inf)
                for folder, prefixes in named.items():
                    names[folder].add(prefixes, math.inf)
            else:
                self._finished[job_id] = _seconds(fields.get("finished")), named
        for finished, named in self._finished.values():
            for folder, prefixes in named.items():
                names[folder].add(prefixes, finished if folder == "results" else math.inf)
        uses = cast(list[tuple[bytes, float]], self._redis.zrange(USED_KEY, 0, -1, withscores=True))
        for conditions, used in uses:
            names["uploads"].add(prefixes_of([text(conditions)]), used)
        return oldest_running

    def _shard_names(self) -> Names:
        names = Names()
        for _, used, artifact in self._shard_notes():
            if artifact.folder == "shards":
                names.add(prefixes_of([artifact.digest]), used)
        return names

    def _shard_notes(self) -> Iterator[tuple[bytes, float, Artifact]]:
        """The keys of all shards in Redis, when each was last used, and its file."""
        for keys in _batched(self._redis.scan_iter(f"{SHARD_PREFIX}*", count=BATCH)):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
                pipeline.pexpiretime(text(key))
            answers = pipeline.execute()
            for key, note, end in zip(keys, answers[::2], answers[1::2], strict=True):
                with contextlib.suppress(ValidationError):
                    if note is not None:
                        used = end / 1000 - self._settings.shard_ttl_seconds if end > 0 else math.inf
                        yield key, used, Artifact.model_validate_json(note)

    # Limits

    def _limit(self, files: FileList, used: Times, now: float) -> float:
        """The time up to which what was last used is over a limit of its class; minus infinity where nothing is."""
        if files.folder == "uploads":  # nothing but their own time keeps them
            used[:] = np.maximum(used, files.modified)
        limit = -math.inf
        if files.folder in self._days:
            limit = now - self._days[files.folder] * DAY
        if files.folder in self._bytes:
            named = np.flatnonzero(used > -math.inf)
            named = named[np.argsort(-used[named], kind="stable")]  # the latest first
            over = np.flatnonzero(np.cumsum(files.sizes[named]) > self._bytes[files.folder])
            if len(over) and (last := used[named[over[0]]]) < math.inf:
                limit = max(limit, float(last))
            elif len(over):
                limit = max(limit, float(used[used < math.inf].max(initial=-math.inf)))
        return limit

    def _purge_jobs(self, limit: float, *, dry_run: bool) -> int:
        """Delete the jobs that finished up to a time, the oldest first; return how many."""
        over = sorted((when, job_id) for job_id, (when, _) in self._finished.items() if when <= limit)
        if dry_run:
            return len(over)
        for count, (_, job_id) in enumerate(over):
            if self._stopped.is_set():
                return count
            with contextlib.suppress(UnknownJob, JobUnfinished):  # deleted meanwhile
                self._jobs.purge(job_id)
            del self._finished[job_id]
        return len(over)

    def _forget_shards(self, limit: float, *, dry_run: bool) -> int:
        """Forget the shards that were last used up to a time; return how many."""
        if limit == -math.inf:
            return 0
        over = [key for key, used, artifact in self._shard_notes() if artifact.folder == "shards" and used <= limit]
        if not dry_run:
            for keys in _batched(over):
                self._redis.delete(*keys)
        return len(over)

    # Leftovers

    def _take_over(self, report: Report, *, dry_run: bool) -> None:
        """Move the files of earlier versions, which are in one folder, to the folders of their classes."""
        for folder in filter(EARLIER.fullmatch, self._artifacts.files.folders()):
            for name, state in list(self._artifacts.files.files_in(folder)):
                digest = name.rpartition("/")[2]
                if not DIGEST.fullmatch(digest) or self._stopped.is_set():
                    continue
                if dry_run:
                    report.unsorted += 1
                    continue
                with contextlib.suppress(FileNotFoundError):  # another process moved it
                    start, _ = self._artifacts.files.read(name, 0, min(state.size, MOST_START_BYTES))
                    to = "uploads" if described(digest, start, state.size) is not None else "results"
                    self._artifacts.files.move(name, f"{to}/{name}")

    def _delete_leftovers(self, report: Report, *, dry_run: bool) -> None:
        """Delete what processes that were killed left in the store."""
        for name, state in list(self._artifacts.files.files_in(INCOMING)):
            if state.modified < time.time() - DAY and (dry_run or self._artifacts.files.remove(name, state)):
                report.leftovers += 1
        self._delete_local_leftovers(report, dry_run=dry_run)

    def _delete_local_leftovers(self, report: Report, *, dry_run: bool = False) -> None:
        """Delete what this machine no longer uses of its data folder: checkpoints of compacted models, files that
        were being written, and digests."""
        used = {model.checkpoint.digest for model in self._compacted.all().values()}
        placed = self._settings.data_dir / "compacted"
        unused = [folder for folder in _entries(placed) if folder.name not in used]
        unfinished = [path for folder in _entries(placed) for path in _entries(folder) if path.name != WEIGHTS]
        unfinished += _entries(self._settings.data_dir / INCOMING)
        notes = [note for note in _entries(self._settings.data_dir / "digests") if _age(note) > NOTE_DAYS * DAY]
        for path in (*(path for path in (*unfinished, *unused) if _age(path) > DAY), *notes):
            report.leftovers += 1
            if dry_run:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _describe(report: ClassReport, files: FileList, used: Times) -> None:
    is_named = np.ones(len(used), bool) if files.folder == "uploads" else used > -math.inf
    report.files, report.bytes = len(used), int(files.sizes.sum())
    report.named_files, report.named_bytes = int(is_named.sum()), int(files.sizes[is_named].sum())
    report.oldest = float(files.modified.min()) if len(used) else None


def _counted(report: Report) -> dict[str, int]:
    """What a report says was deleted, for the log."""
    return {
        "jobs": report.jobs,
        "shards": report.shards,
        "leftovers": report.leftovers,
        "files": sum(each.deleted_files for each in report.classes.values()),
        "bytes": sum(each.deleted_bytes for each in report.classes.values()),
    }


def _seconds(moment: str | bytes | None) -> float:
    """A time of a record in seconds since 1970; infinity where it has none, or one that cannot be read."""
    try:
        return math.inf if moment is None else float(moment)
    except ValueError:
        return math.inf


def _batched(keys: Sequence[bytes] | Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path) -> float:
    """For how many seconds a file or folder was not written, linked or moved; none where it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0.0
    return time.time() - max(stat.st_mtime, stat.st_ctime)
