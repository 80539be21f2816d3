"""Which jobs can share a batch: those that one call of the network can sample together."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from jobs.keys import RESULT_VERSION, digest
from jobs.registry.digests import Identity
from jobs.requests.edit import EditRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.sampled import SampledRequest

__all__ = ["OWN", "Share", "share_of"]

OWN = frozenset({"labels", "rows", "samples_per_label", "seed"})
"""The sampling fields that may differ between the jobs of a batch."""


@dataclass(frozen=True)
class Share:
    """A job's part in a batch."""

    group: str
    """The digest of everything that the jobs of a batch have in common."""
    rows: int
    """Samples x variants."""


def share_of(request: BaseModel, identity: Identity, rows_at_once: int) -> Share | None:
    """The share of a resolved request's job, or None for a job that runs by itself.

    That is a job of another kind than `prune-sample` and `edit`, one that fills a batch of `rows_at_once` rows alone,
    or one whose sampler chooses the steps of each sample (dopri5).
    """
    if isinstance(request, PruneSampleRequest):
        variants = len(request.prunes) + request.compare
    elif isinstance(request, EditRequest):
        variants = len(request.edits)
    else:
        return None
    if request.sampler == "dopri5":
        return None
    rows = len(request.subjects) * (request.samples_per_label or 1) * variants
    if rows >= rows_at_once:
        return None
    sampling = request.model_dump(include=set(SampledRequest.model_fields) - OWN)
    model = {"weights": identity.weights, "reading": identity.reading}
    return Share(digest({"kind": request.kind, "sampling": sampling, "model": model, "version": RESULT_VERSION}), rows)
