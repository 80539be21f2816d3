"""The job `anatomy`: what a large transformer's AdaLN takes, from its headers and some rows of its weights."""

from __future__ import annotations

import dataclasses

from jobs.anatomy_results import AnatomyResult, LinearGroup, Rank, Ranks, Replacement, TransformerUsed
from jobs.requests.anatomy import AnatomyRequest
from tailprune.transformers import Anatomy, anatomy
from workers.handler import Context, read_transformer, transformer_of
from workers.lease import Product, Run

__all__ = ["handler", "ranks_of"]

UNIT = "models"


class AnatomyHandler:
    """Describes large transformers. Nothing of them stays in memory."""

    request = AnatomyRequest

    def handle(self, run: Run, request: AnatomyRequest, source: None, context: Context) -> Product[AnatomyResult]:
        """Describe the large transformer of a request.

        Raises InputError for files that are missing, that cannot be used, or that were written to meanwhile.
        """
        entry, digest = transformer_of(run.job, request, context)
        run.phase = "measuring"
        run.step(0, 1, UNIT)
        found = read_transformer(entry, digest, anatomy)
        run.step(1, 1, UNIT)
        return Product(_result(TransformerUsed(name=entry.name, files_digest=digest), found))


def ranks_of(found: Anatomy) -> Ranks | None:
    """The ranks of an anatomy; None if they were not measured."""
    ranks = found.ranks
    if ranks is None:
        return None
    return Ranks(
        needed=[Rank(error=error, rank=rank) for error, rank in ranks.needed.items()],
        errors=list(ranks.errors),
        times=ranks.times,
        rows=ranks.rows,
        of_rows=ranks.of_rows,
    )


def _result(model: TransformerUsed, found: Anatomy) -> AnatomyResult:
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "path"}
    return AnatomyResult(
        **fields
        | {
            "model": model,
            "adaln_share": found.adaln_share,
            "adaln_types": list(found.adaln_types),
            "depends_on": list(found.depends_on),
            "time_range": list(found.time_range),
            "linears": [LinearGroup(**vars(each) | {"pieces": list(each.pieces)}) for each in found.linears],
            "ranks": ranks_of(found),
            "replacements": [Replacement(**vars(each)) for each in found.replacements],
        }
    )


handler = AnatomyHandler()
