"""Digests of files, by which results and caches know what they were made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["digest_of_files", "digest_of_text"]


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256, in hex: of one file its own, of several that of their digests in order; names have no part in it."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else digest_of_text("\n".join(digests))


def digest_of_text(text: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
