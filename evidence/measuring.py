"""Samples of a shipped model beside those of an edit of it, from the same noise: drift and accuracy, with intervals.

Drift is |x - x_0| / |x_0| over all samples, with its interval by the bootstrap; accuracy is that of
`shapes-classifier`, with Wilson's. Both intervals are of 95 %.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tailprune
from demo import ROOT
from tailprune import Guidance, Prune, System
from tailprune.quality.images import Interval, bootstrap_relative_norm, wilson
from tailprune.shapes.classifier import load_classifier
from tailprune.training.shapes_models import SHAPES_MODELS

__all__ = ["EACH", "STEPS", "Measured", "Whole", "cell", "measured_how", "number_range", "replaced", "write_table"]

EACH, STEPS = 3, 12
"""Samples of each class, and sampling steps."""
AT_ONCE = 50
"""Samples in a call, whose modulations fit into memory together."""


@dataclass(frozen=True)
class Measured:
    """What an edit does to the samples of a model."""

    drift: Interval
    accuracy: Interval


class Whole:
    """A shipped model with its unpruned samples.

    name: its name, such as `shapes-sit`
    each: samples of each class
    steps: sampling steps
    """

    def __init__(self, name: str, each: int = EACH, steps: int = STEPS) -> None:
        recipe = SHAPES_MODELS[name]
        self.name = name
        self.system = tailprune.load(ROOT / "models" / name)
        self.guided = recipe.guidance != 1
        self.sampler, self.steps = recipe.sampler, steps
        self.guidance = Guidance(scale=recipe.guidance, power=recipe.guidance_power)
        self.times = tailprune.sampling_times(self.system, self.sampler, steps)
        self._labels = self.system.all_inputs()["labels"].repeat_interleave(each)
        self._classifier = load_classifier(ROOT / "models" / "shapes-classifier" / "model.safetensors")
        self._samples = self._sampled(self.system, None)
        self.accuracy = wilson(self._right(self._samples))

    def measure(self, system: System | None = None, prune: Prune | None = None) -> Measured:
        """Sample a system, the whole one by default, under a prune."""
        found = self._sampled(system or self.system, prune)
        errors, energies = (part.double().flatten(1).square().sum(1) for part in (found - self._samples, self._samples))
        return Measured(bootstrap_relative_norm(errors, energies), wilson(self._right(found)))

    def _sampled(self, system: System, prune: Prune | None) -> Tensor:
        parts: list[Tensor] = []
        for rows in torch.arange(len(self._labels)).split(AT_ONCE):
            seeds = [(0, row) for row in rows.tolist()]
            options: dict[str, Any] = {"sampler": self.sampler, "steps": self.steps, "guidance": self.guidance}
            parts.append(tailprune.sample(system, {"labels": self._labels[rows]}, prune=prune, seeds=seeds, **options))
        return torch.cat(parts)

    def _right(self, samples: Tensor) -> Tensor:
        """1 for each sample that the classifier assigns to its class, else 0."""
        return (self._classifier.classify(samples.clamp(-1, 1)) == self._labels).double()


def cell(measured: Measured) -> str:
    """Drift and accuracy in a cell of a table: `0.096 ± 0.004, 99 % (97–100)`."""
    half = (measured.drift.high - measured.drift.low) / 2
    return f"{measured.drift.mean:.3f} ± {half:.3f}, {number_range(measured.accuracy)}"


def measured_how(each: int, steps: int) -> str:
    """What is in the cells of a table. each: samples of each class; steps: sampling steps."""
    return (
        f"{100 * each} samples of each model, {each} a class, by its own sampler and guidance in {steps} steps, "
        "compared with the full model's from the same noise. Cells: drift with half of its 95 % interval (bootstrap), "
        "and class accuracy by `shapes-classifier` with its 95 % interval (Wilson)."
    )


def number_range(share: Interval) -> str:
    """A share with its interval, in per cent: `99 % (97–100)`."""
    return f"{share.mean:.0%} ({100 * share.low:.0f}–{100 * share.high:.0f})".replace("%", " %")


def write_table(document: str, command: str, text: str, numbers: Any) -> None:
    """Put a table in its place in a document, between two comments that name the command, and its numbers beside it.

    document: the name of the document, such as `compaction.md`
    command: the module that makes the table, such as `evidence.compaction`
    text: the table, as Markdown
    numbers: what `docs/evidence/NAME.json` gets
    """
    path = ROOT / "docs" / document
    path.write_text(replaced(path.read_text(), command, text))
    name = command.rpartition(".")[2].replace("_", "-")
    Path(ROOT, "docs", "evidence", f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")


def replaced(document: str, command: str, text: str) -> str:
    """A document with the text between the comments of a command replaced."""
    begin, end = f"<!-- begin: python -m {command} -->", f"<!-- end: python -m {command} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"the document has no place between {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", document)
