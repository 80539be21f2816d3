"""Uploaded conditions: the inputs of models that have no class labels, and pooled texts of large transformers.

What is stored are files in canonical form (`jobs.storage.condition_files`).
"""

from __future__ import annotations

import contextlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from jobs.problems import quoted
from jobs.requests.fields import CONDITIONS_PATTERN, upload_in
from jobs.storage.artifacts import Artifact, ArtifactStore, Folder
from jobs.storage.condition_files import MOST_START_BYTES, Conditions, described
from jobs.storage.condition_info import ConditionInfo
from jobs.storage.files import CALLS_AT_ONCE, State
from jobs.storage.naming import UNDER_WAY, records, request_of
from jobs.store.scripts import PREFIX

__all__ = [
    "CURSOR_PATTERN",
    "USED_KEY",
    "ConditionPage",
    "ConditionStore",
    "ConditionsInUse",
    "ConditionsOfOthers",
    "UnknownConditions",
    "uploaders_key",
]

CURSOR_PATTERN = r"^[0-9]{15}-[0-9a-f]{64}$"
USED_KEY = f"{PREFIX}conditions-used"
"""In Redis, the ids of conditions by the time of their last use."""
MEDIA_TYPE = "application/octet-stream"
FOLDER: Folder = "uploads"


class UnknownConditions(LookupError):
    """No conditions have this id."""

    def __init__(self, conditions: str) -> None:
        super().__init__(
            f"no conditions have the id {quoted(conditions)}; upload their file with POST /conditions, "
            "which returns the id"
        )


class ConditionsInUse(Exception):
    """The conditions cannot be deleted: a job that has not finished needs them."""

    def __init__(self, conditions: str, job_id: str) -> None:
        super().__init__(
            f"job {job_id} needs the conditions {conditions}; wait until it has finished, or cancel it first"
        )


class ConditionsOfOthers(Exception):
    """The conditions were not uploaded by the one who deletes them."""

    def __init__(self, conditions: str) -> None:
        super().__init__(
            f"the conditions {conditions} were not uploaded with this key: only the keys that uploaded them, and those "
            "with the scope 'admin', may delete them"
        )


@dataclass(frozen=True)
class ConditionPage:
    """Stored conditions, the latest uploads first, and the cursor of the next page; None on the last page."""

    conditions: list[tuple[ConditionInfo, datetime]]
    """Each with the time of its upload."""
    next_cursor: str | None


class ConditionStore:
    """Stores conditions among the artifacts, where every process with the same artifacts finds them.

    Redis has only cached copies of small ones, when each was last used, and who uploaded it, so they are still there
    if its data is lost. Methods raise ArtifactsUnavailable while the store of artifacts does not answer.
    """

    def __init__(self, artifacts: ArtifactStore, client: redis.Redis) -> None:
        self._artifacts = artifacts
        self._redis = client

    def put(self, conditions: Conditions, uploader: str = "") -> ConditionInfo:
        """Store conditions; equal ones are the same file. One that is damaged is replaced.

        uploader: who may withdraw them later; empty, the default, for nobody in particular.
        """
        self._artifacts.put(conditions.content, MEDIA_TYPE, FOLDER)
        if uploader:
            with contextlib.suppress(redis.RedisError):
                self._redis.sadd(uploaders_key(conditions.id), uploader)
        return self.get(conditions.id)

    def has(self, conditions: str) -> bool:
        """Whether conditions of this id are stored."""
        try:
            self.get(conditions)
        except UnknownConditions:
            return False
        return True

    def get(self, conditions: str) -> ConditionInfo:
        """The description of the conditions of this id, read from their file, which is checked. This is a use of them.

        Raises UnknownConditions where it is not stored, or was damaged.
        """
        artifact = self._find(conditions)
        with contextlib.suppress(redis.RedisError):
            self._redis.zadd(USED_KEY, {conditions: time.time()})
        try:
            start = self._artifacts.read_range(artifact, 0, min(artifact.size, MOST_START_BYTES))
        except FileNotFoundError:
            raise UnknownConditions(conditions) from None
        info = described(conditions, start, artifact.size)
        if info is None:  # another artifact has this digest
            raise UnknownConditions(conditions)
        return info

    def read(self, conditions: str) -> bytes:
        """The canonical safetensors file of the conditions of this id. Raises UnknownConditions, as `get`."""
        self.get(conditions)
        try:
            return self._artifacts.read(self._find(conditions))
        except FileNotFoundError:
            raise UnknownConditions(conditions) from None

    def page(self, limit: int, cursor: str | None = None) -> ConditionPage:
        """A page of the stored conditions, the latest uploads first.

        limit: how many the page holds, if there are as many.
        cursor: `next_cursor` of the previous page; None, the default, for the first page.
        """
        before = "~" if cursor is None else cursor  # the last character of ASCII, after every digit
        files = ((name.rpartition("/")[2], state) for name, state in self._artifacts.files.files_in(FOLDER))
        stored = [(_position(state, name), name, state) for name, state in files]
        listed = sorted((each for each in stored if each[0] < before), reverse=True)
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            infos = list(pool.map(self._glance, listed[:limit]))
        found = [
            (info, datetime.fromtimestamp(state.modified, UTC))
            for info, (_, _, state) in zip(infos, listed, strict=False)
            if info is not None
        ]
        return ConditionPage(found, listed[limit - 1][0] if len(listed) > limit else None)

    def remove(self, conditions: str, uploader: str = "") -> None:
        """Delete conditions.

        uploader: for whom alone, so that they stay if others uploaded them too; empty, the default, for all.
        Raises UnknownConditions, ConditionsInUse where a job under way needs them, and ConditionsOfOthers where the
        uploader did not upload them.
        """
        info = self.get(conditions)
        uploaders = uploaders_key(conditions)
        if uploader and not self._redis.sismember(uploaders, uploader):
            raise ConditionsOfOthers(conditions)
        job_id = conditions_in_use(self._redis).get(conditions)
        if job_id is not None:
            raise ConditionsInUse(conditions, job_id)
        if uploader:
            pipeline = self._redis.pipeline()
            pipeline.srem(uploaders, uploader)
            pipeline.scard(uploaders)
            if pipeline.execute()[1]:
                return
        artifact = _artifact(conditions, info.bytes)
        if not self._artifacts.discard(artifact):
            raise UnknownConditions(conditions)
        self._redis.zrem(USED_KEY, conditions)
        self._redis.delete(uploaders)

    def _glance(self, stored: tuple[str, str, State]) -> ConditionInfo | None:
        """The description of a listed file. Only its header is read, which cannot be other than its size allows."""
        _, name, state = stored
        try:
            start, _ = self._artifacts.files.read(f"{FOLDER}/{name[:2]}/{name}", 0, min(state.size, MOST_START_BYTES))
        except FileNotFoundError:
            return None
        return described(name, start, state.size)

    def _find(self, conditions: str) -> Artifact:
        found = self._artifacts.find(conditions, FOLDER) if re.fullmatch(CONDITIONS_PATTERN, conditions) else None
        if found is None:
            raise UnknownConditions(conditions)
        return found


def uploaders_key(conditions: str) -> str:
    """In Redis, the set of those who uploaded conditions, by their id."""
    return f"{PREFIX}uploaders:{conditions}"


def conditions_in_use(client: redis.Redis) -> dict[str, str]:
    """The ids of conditions that jobs under way name, each with a job. Raises redis.RedisError."""
    used: dict[str, str] = {}
    for job_id, fields in records(client, ("status", "request")):
        if fields.get("status") in UNDER_WAY and (named := upload_in(request_of(fields))):
            used[named] = job_id
    return used


def _position(state: State, conditions: str) -> str:
    """Where a file stands among all, as a text that sorts by the time of its upload; also a cursor."""
    return f"{int(min(state.modified * 1000, 10**15 - 1)):015d}-{conditions}"


def _artifact(conditions: str, size: int) -> Artifact:
    return Artifact(digest=conditions, media_type=MEDIA_TYPE, size=size, folder=FOLDER)
