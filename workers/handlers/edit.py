"""The job `edit`: a class moved towards another, a row for each strength, with the verdicts of the model's classifier.

It is sampled, decoded and stored as a job `prune-sample` is, by the same code; an edit takes the place of a prune.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from jobs.edit_results import EditedImage, EditResult, EditVariant, Verdict
from jobs.requests.edit import EditRequest
from tailprune import Edit
from tailprune.decoders import Decoded
from tailprune.quality import Extractor
from workers.handler import Context
from workers.handlers.prune_sample import BatchMember, PruneSampleHandler, Shared
from workers.lease import Run
from workers.outputs.variant import VariantWriter
from workers.sampling.plan import Plan

__all__ = ["handler"]


class EditMember(BatchMember):
    """One running edit of a batch."""

    def __init__(self, run: Run, plan: Plan, shared: Shared, context: Context) -> None:
        super().__init__(run, plan, shared, context)
        assert isinstance(plan.request, EditRequest), "the plan is that of an edit"
        self._edits = plan.request.edits
        self._verdicts: dict[str, list[Verdict]] = {spec.name: [] for spec in self._edits}
        self._classifier = self._load_classifier()

    def _load_classifier(self) -> Extractor | None:
        """The model's classifier; None where the job has none, which `EditRequest.evaluated_with` says."""
        source = self._shared.source
        name, digests = source.entry.classifier, source.identity.reading.get("instruments", {})
        if name is None or f"extractor {name}" not in digests:
            return None
        return self._context.evaluators.extractor(name, digests)

    def _look(self, writer: VariantWriter, decoded: Decoded) -> None:
        """What the classifier sees in the images of a variant."""
        if self._classifier is None:
            return
        probabilities = self._classifier(decoded.images.permute(0, 3, 1, 2)).probabilities
        assert probabilities is not None, "a classifier has classes"
        greatest, labels = probabilities.max(1)
        source, target = (
            probabilities[:, torch.tensor(ends)].sum(1) for ends in (self._edits[0].source, self._edits[0].target)
        )
        names = self._labels.names
        for label, probability, away, towards in zip(
            labels.tolist(), greatest.tolist(), source.tolist(), target.tolist(), strict=True
        ):
            name = names[label] if label < len(names) else None
            verdict = Verdict(label=label, class_name=name, probability=probability, source=away, target=towards)
            self._verdicts[writer.planned.name].append(verdict)

    def _variants(self) -> list[Any]:
        has_unedited = any(spec.strength == 0 for spec in self._edits)
        found = []
        for writer, spec in zip(self._writers, self._edits, strict=True):
            fields, verdicts = writer.stored(), self._verdicts[spec.name]
            seen: Sequence[Verdict | None] = verdicts or [None] * len(fields["images"])
            images = [
                EditedImage(**image.model_dump(), verdict=verdict)
                for image, verdict in zip(fields.pop("images"), seen, strict=True)
            ]
            count = len(verdicts)
            found.append(
                EditVariant(
                    name=spec.name,
                    edit=spec,
                    drift=writer.drift.drift() if has_unedited and spec.strength else None,
                    source=sum(each.source for each in verdicts) / count if count else None,
                    target=sum(each.target for each in verdicts) / count if count else None,
                    images=images,
                    **fields,
                )
            )
        return found

    def _result(self, **fields: Any) -> EditResult:
        system, inputs = self._shared.system, self._shared.inputs
        edits = [each.prune for each in self._plan.variants if isinstance(each.prune, Edit)]
        moved = edits[0].shift if edits else self._plan.shift(system, inputs)
        shift, whole = (each.vector.norm().item() for each in (moved, self._plan.shift(system, inputs, whole=True)))
        classifier = None if self._classifier is None else self._classifier.name
        return EditResult(**fields, classifier=classifier, moved=shift / whole if whole else 0.0)


class EditHandler(PruneSampleHandler):
    """Samples models under edits."""

    request = EditRequest

    def member(self, run: Run, plan: Plan, shared: Shared, context: Context) -> EditMember:
        return EditMember(run, plan, shared, context)


handler = EditHandler()
