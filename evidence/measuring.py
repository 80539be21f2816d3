"""Samples of a shipped model beside those of an edit of it, from the same noise: drift and accuracy, with intervals.

Drift is |x - x_0| / |x_0| over all samples, with its interval by the bootstrap; accuracy is that of
`shapes-classifier`, with Wilson's. Both intervals are of 95 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

import tailprune
from demo import ROOT
from tailprune import Guidance, Prune, System
from tailprune.quality.images import Interval, bootstrap_relative_norm, wilson
from tailprune.shapes.classifier import load_classifier
from tailprune.training.shapes_models import SHAPES_MODELS

__all__ = [
    "EACH",
    "MODELS",
    "STEPS",
    "Measured",
    "Row",
    "Whole",
    "cell",
    "compare",
    "measured_how",
    "number_range",
    "replaced",
    "with_others",
]

MODELS = ("shapes-dit", "shapes-sit", "shapes-mdt", "shapes-lightningdit", "shapes-repa", "shapes-mg")
EACH, STEPS = 3, 12
"""Samples of each class, and sampling steps."""
AT_ONCE = 50
"""Samples in a call, whose modulations fit into memory together."""


@dataclass(frozen=True)
class Measured:
    """What an edit does to the samples of a model."""

    drift: Interval
    accuracy: Interval


@dataclass(frozen=True)
class Row:
    """An edit of a model, and its samples."""

    model: str
    kind: str
    measured: Measured


R = TypeVar("R", bound=Row)


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


def number_range(share: Interval) -> str:
    """A share with its interval, in per cent: `99 % (97–100)`."""
    return f"{share.mean:.0%} ({100 * share.low:.0f}–{100 * share.high:.0f})".replace("%", " %")


def compare(
    command: str,
    document: str,
    row: type[R],
    cells: Callable[[Whole], Iterable[R]],
    table: Callable[[Sequence[R], Mapping[str, str]], str],
    *,
    steps: int,
    how: Mapping[str, int] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a command that measures edits of shipped models, and writes a table into a document.

    The numbers are kept as `docs/evidence/NAME.json`. Models that are not measured now keep theirs.

    command: the module, such as `evidence.compaction`, which has a place in the document
    document: the name of the document, such as `compaction.md`
    row: the class of the rows
    cells: the rows of a model
    table: the table of rows, given the accuracy of each whole model in words, as Markdown
    steps: sampling steps
    how: what else the rows depend on
    arguments: of the command; those of this process by default
    """
    parser = argparse.ArgumentParser(prog=f"python -m {command}")
    parser.add_argument("models", nargs="*", default=list(MODELS), help="shipped models; all by default")
    parser.add_argument("--each", type=int, default=EACH, help=f"samples of each class; {EACH} by default")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    rows: list[R] = []
    accuracies: dict[str, str] = {}
    for model in options.models:
        whole = Whole(model, options.each, steps)
        accuracies[model] = number_range(whole.accuracy)
        for made in cells(whole):
            rows.append(made)
            print(f"{model}, {made.kind}: {cell(made.measured)}", flush=True)
    measured = {"samples_per_class": options.each, "steps": steps, **(how or {})}
    name = command.rpartition(".")[2].replace("_", "-")
    numbers = ROOT / "docs" / "evidence" / f"{name}.json"
    rows, accuracies = with_others(numbers, measured, row, rows, accuracies)
    weights = {model: _weights(model) for model in accuracies}
    found = measured | {"whole": accuracies, "weights": weights, "rows": [asdict(each) for each in rows]}
    numbers.write_text(json.dumps(found, indent=1) + "\n")
    path = ROOT / "docs" / document
    text = f"{measured_how(options.each, steps)}\n\n{table(rows, accuracies)}"
    path.write_text(replaced(path.read_text(), command, text))
    print(f"docs/{document} is written, after {(time.monotonic() - begun) / 60:.0f} minutes")


def with_others(
    numbers: Path, measured: Mapping[str, int], row: type[R], rows: Sequence[R], accuracies: Mapping[str, str]
) -> tuple[list[R], dict[str, str]]:
    """Rows and accuracies, with those kept in a file of other models, if these were measured alike and as they are now.

    numbers: the file
    measured: samples of each class, sampling steps, and what else rows depend on
    row: the class of the rows
    rows: of the models that were measured
    accuracies: of these models, in words
    """
    kept = json.loads(numbers.read_text()) if numbers.exists() else {}
    if any(kept.get(key) != value for key, value in measured.items()):
        kept = {}
    weights = kept.get("weights", {})
    others = {model for model in MODELS if model not in accuracies and weights.get(model) == _weights(model)}
    rows = [*rows, *(_row(row, each) for each in kept.get("rows", ()) if each["model"] in others)]
    accuracies = {**accuracies, **{model: kept["whole"][model] for model in others}}
    order = [model for model in MODELS if model in accuracies]
    return sorted(rows, key=lambda each: order.index(each.model)), {model: accuracies[model] for model in order}


def _row(row: type[R], numbers: Mapping[str, Any]) -> R:
    intervals = {name: Interval(**interval) for name, interval in numbers["measured"].items()}
    return row(**{**numbers, "measured": Measured(**intervals)})


def _weights(model: str) -> str:
    """The sha256 of a model's checkpoint."""
    with (ROOT / "models" / model / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measured_how(each: int, steps: int) -> str:
    """What is in the cells of a table. each: samples of each class; steps: sampling steps."""
    return (
        f"{100 * each} samples of each model, {each} a class, by its own sampler and guidance in {steps} steps, "
        "compared with the full model's from the same noise. Cells: drift with half of its 95 % interval (bootstrap), "
        "and class accuracy by `shapes-classifier` with its 95 % interval (Wilson)."
    )


def replaced(document: str, command: str, text: str) -> str:
    """A document with the text between the comments of a command replaced."""
    begin, end = f"<!-- begin: python -m {command} -->", f"<!-- end: python -m {command} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"the document has no place between {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", document)
