"""The content address of a job: same request, same weights, same code, same key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["RESULT_VERSION", "canonical_json", "digest", "job_key"]

RESULT_VERSION = 3
"""Raised whenever the same request gives another result: older answers are then no longer found."""


def canonical_json(data: Any) -> bytes:
    """JSON with one spelling for equal data. Raises ValueError for NaN and infinity."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(data: Any) -> str:
    """The sha256 of data, by its canonical JSON."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


def job_key(kind: str, request: dict[str, Any], weights: str, reading: dict[str, Any]) -> str:
    """The key of a job, from its resolved request and its model: the digest of the checkpoint and how it is read."""
    model = {"weights": weights, "reading": reading}
    return digest({"kind": kind, "request": request, "model": model, "version": RESULT_VERSION})
