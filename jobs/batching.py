"""Which jobs can share a batch: what must be the same of them for one call of the network to sample them all."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from jobs.keys import RESULT_VERSION, digest
from jobs.registry.digests import Identity
from jobs.requests.prune_sample import ResolvedPruneSample
from jobs.requests.sampled import SampledRequest

__all__ = ["OWN", "Share", "share_of"]

OWN = frozenset({"labels", "rows", "samples_per_label", "seed"})
"""What the jobs of a batch need not have in common of how they are sampled."""


@dataclass(frozen=True)
class Share:
    """A job's part in a batch."""

    group: str
    """The digest of all that the jobs of the batch have in common."""
    rows: int
    """Samples x variants."""


def share_of(request: BaseModel, identity: Identity, rows_at_once: int) -> Share | None:
    """That of a resolved request of a model.

    None where its job goes by itself: one of another kind, one that fills a batch of `rows_at_once`, or one whose
    sampler chooses the steps of each sample.
    """
    if not isinstance(request, ResolvedPruneSample) or request.sampler == "dopri5":
        return None
    rows = len(request.subjects) * (request.samples_per_label or 1) * (len(request.prunes) + request.compare)
    if rows >= rows_at_once:
        return None
    sampling = request.model_dump(include=set(SampledRequest.model_fields) - OWN)
    model = {"weights": identity.weights, "reading": identity.reading}
    return Share(digest({"sampling": sampling, "model": model, "version": RESULT_VERSION}), rows)
