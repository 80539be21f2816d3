"""The job `removal`: what prunes remove over a sampling run, and what that changes in the modulations.

Of the model, the condition's tensors are read, and AdaLN's weights once for all jobs.
"""

from __future__ import annotations

from jobs.requests.removal import RemovalRequest
from jobs.results import ModelUsed, Modulation, PruneRemoval, RemovalResult
from tailprune import Prune
from tailprune.spec.prune import PruneSpec
from tailprune.systems import SYSTEMS
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.report import modulation_of, removal_of
from workers.sampling.inputs import SampleInputs, fractions_of
from workers.sampling.plan import Plan

__all__ = ["handler"]

UNIT = "prunes"


class RemovalHandler:
    """Measures what prunes remove."""

    request = RemovalRequest

    def handle(self, run: Run, request: RemovalRequest, source: Source, context: Context) -> Product[RemovalResult]:
        """Measure the prunes of a resolved request."""
        run.phase = "loading"
        run.step(0, len(request.prunes), UNIT)
        entry, family = source.entry, SYSTEMS[source.entry.family]
        condition = context.models.conditions.get(source)
        inputs = SampleInputs.load(request.conditions, context.conditions)
        plan = Plan.of(request.sampled, context.settings.batch_size).over_run(condition, inputs, family)
        times = plan.times(family)[:, 0]
        changes = modulation_of(condition, plan, inputs, source, context.models, run, family)
        run.phase = "measuring"
        prunes: list[PruneRemoval] = []
        for variant in plan.variants:
            if not isinstance(variant.spec, PruneSpec) or not isinstance(variant.prune, Prune):
                continue  # the baseline
            removed, embedding = removal_of(condition, plan, inputs, variant.prune, family)
            prunes.append(
                PruneRemoval(
                    name=variant.name,
                    prune=variant.spec,
                    removed=removed,
                    embedding=embedding,
                    modulation=None if changes is None else Modulation.model_validate(changes[len(prunes)]),
                )
            )
            run.step(len(prunes), len(request.prunes), UNIT)
        subjects = plan.request.subjects
        result = RemovalResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            sampler=str(request.sampler),
            steps=plan.steps,
            timesteps=times.tolist(),
            fraction=fractions_of(times, entry.facts),
            labels=subjects if request.conditions is None else None,
            conditions=None if request.conditions is None else subjects,
            prunes=prunes,
        )
        return Product(result)


handler = RemovalHandler()
