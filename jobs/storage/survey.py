"""Millions of files and what names them, as arrays: a few bytes for each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.storage.artifacts import Artifact, ArtifactStore, Folder

__all__ = ["DIGEST", "FileList", "Names", "Prefixes", "Times", "prefixes_of"]

DIGEST = re.compile(r"[0-9a-f]{64}")

Prefixes = NDArray[np.uint64]
"""The first 8 bytes of digests. Two that are equal by chance only keep a file."""
Times = NDArray[np.float64]


def prefixes_of(digests: Sequence[str]) -> Prefixes:
    """The prefixes of digests in hexadecimal."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


class FileList:
    """The files of a class: digests, times and sizes as arrays, 48 bytes for each."""

    def __init__(self, store: ArtifactStore, folder: Folder) -> None:
        digests, times, sizes = bytearray(), [], []
        for name, state in store.files.files_in(folder):
            digest = name.rpartition("/")[2]
            if DIGEST.fullmatch(digest):
                digests += bytes.fromhex(digest)
                times.append(state.modified)
                sizes.append(state.size)
        self.folder: Folder = folder
        self._digests = np.frombuffer(bytes(digests), ">u8").reshape(-1, 4)
        self.modified: Times = np.array(times, np.float64)
        self.sizes = np.array(sizes, np.int64)

    @property
    def prefixes(self) -> Prefixes:
        return self._digests[:, 0].astype(np.uint64)

    def artifact(self, place: int) -> Artifact:
        digest = self._digests[place].tobytes().hex()
        return Artifact(digest=digest, media_type="", size=int(self.sizes[place]), folder=self.folder)


class Names:
    """Digests that something names, and when what names them was last used; infinity where it may not be deleted."""

    def __init__(self) -> None:
        self._parts: list[tuple[Prefixes, float]] = []

    def add(self, prefixes: Prefixes, used: float) -> None:
        if len(prefixes):
            self._parts.append((prefixes, used))

    def times_of(self, prefixes: Prefixes) -> Times:
        """When each of these was last used; minus infinity for those that nothing names."""
        if not self._parts:
            return np.full(len(prefixes), -math.inf)
        named = np.concatenate([part for part, _ in self._parts])
        times = np.repeat([used for _, used in self._parts], [len(part) for part, _ in self._parts])
        order = np.lexsort((times, named))
        named, times = named[order], times[order]
        last = np.searchsorted(named, prefixes, "right") - 1  # of equal ones the latest
        found = (last >= 0) & (named[last] == prefixes)
        return np.where(found, times[last], -math.inf)
