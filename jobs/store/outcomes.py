"""What jobs made, as documents among the artifacts: records in Redis only name them, and so stay small.

The result and the list of artifacts of a job at the limits are a megabyte.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

from cachetools import LRUCache
from pydantic import ValidationError

from jobs.keys import canonical_json
from jobs.records import Made
from jobs.storage.artifacts import Artifact, ArtifactStore

__all__ = ["OutcomeGone", "OutcomeStore"]

MOST_BYTES = 16 * 2**20
"""The memory that the documents take that a process keeps."""
PARSED = 5
"""How many times as much memory as its bytes a document takes, about."""
MOST_DOCUMENTS = 64
"""How many a process keeps: enough for who fetches the files of one job after the other."""
MEDIA_TYPE = "application/json"


class OutcomeGone(Exception):
    """The document of an outcome is no longer stored, or damaged."""


class OutcomeStore:
    """Stores what jobs made, and keeps what was read last in memory. For several threads."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._kept: LRUCache[str, tuple[int, Made]] = LRUCache(MOST_BYTES, getsizeof=_memory)
        self._lock = threading.Lock()

    def put(self, made: Made) -> Artifact:
        """Store what a job made. Raises ValueError for NaN and infinity, and what `ArtifactStore.put` raises."""
        document: dict[str, Any] = {
            "result": made.result,
            "artifacts": {name: artifact.model_dump(mode="json") for name, artifact in made.artifacts.items()},
        }
        return self._artifacts.put(canonical_json(document), MEDIA_TYPE)

    def get(self, artifact: Artifact) -> Made:
        """What a job made. Raises OutcomeGone."""
        with self._lock:
            if (entry := self._kept.get(artifact.digest)) is not None:
                return entry[1]
        try:
            document = json.loads(self._artifacts.read(artifact))
            files = {name: Artifact.model_validate(file) for name, file in document["artifacts"].items()}
            made = Made(dict(document["result"]), files)
        except FileNotFoundError as error:
            raise OutcomeGone("it is no longer stored") from error
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise OutcomeGone("it is damaged") from error
        with self._lock, contextlib.suppress(ValueError):  # cachetools: too large
            self._kept[artifact.digest] = artifact.size, made
        return made


def _memory(entry: tuple[int, Made]) -> int:
    size, _ = entry
    return max(PARSED * size, MOST_BYTES // MOST_DOCUMENTS)
