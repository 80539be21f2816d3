"""The key of a job: the same for the same request, the same weights and the same version of the code."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["RESULT_VERSION", "canonical_json", "digest", "job_key"]

RESULT_VERSION = 9
"""Increased whenever a change of the code changes results, so that older results are no longer found."""


def canonical_json(data: Any) -> bytes:
    """JSON that is the same for equal data. Raises ValueError for NaN and infinity."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(data: Any) -> str:
    """The sha256 of data's canonical JSON."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


def job_key(kind: str, request: dict[str, Any], weights: str, reading: dict[str, Any]) -> str:
    """The key of a job.

    kind: of the job.
    request: the resolved request, as JSON data.
    weights: the digest of the model's checkpoint, or of the part of it that the job reads.
    reading: how the weights are read, decoded and shown; see `jobs.registry.digests.Identity`.
    """
    model = {"weights": weights, "reading": reading}
    return digest({"kind": kind, "request": request, "model": model, "version": RESULT_VERSION})
