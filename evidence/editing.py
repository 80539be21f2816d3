"""`python -m evidence.editing`: colour and shape of a class exchanged by arithmetic, with the target class held out.

    c of a blue circle, say, is made from that of a green circle: + mean over the other shapes of (blue - green)

So nothing of the target class is used: neither its vector, nor what of it a mean over all classes would have. Every
class of every shipped model is made so from its neighbour in colour, and in shape; the shipped classifier says how
often the samples are of the target class. Writes docs/evidence/editing.json, the same as tables in
docs/evidence/editing.md, and docs/images/edit-colour.png, edit-shape.png and edit-attribution.png.
With --models, what the tables have of the others stays.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import tailprune
from demo import ROOT
from evidence.measuring import MODELS
from jobs.registry.models import ModelEntry, Registry
from tailprune.attribution import Attribution
from tailprune.directions import class_vectors, metric_of
from tailprune.figures.attribution import draw_attribution
from tailprune.figures.style import render
from tailprune.image_grid import grid
from tailprune.quality import wilson
from tailprune.quality.extractors import ShapesFeatures, load_extractor
from tailprune.shapes.dataset import CLASS_NAMES, COLOURS, NUM_CLASSES, SHAPES
from tailprune.spec.attributes import attributes_of_names
from tailprune.systems import System

__all__ = ["Accuracy", "ModelEditing", "held_out", "main", "measure", "tables"]

STEPS = 20
BATCH = 25
MOVED: dict[str, dict[str, int]] = {
    "all": {},
    "32 components": {"components": 32},
    "16 components": {"components": 16},
    "32 directions": {"directions": 32},
    "16 directions": {"directions": 16},
}
"""What is moved, by name; the options of `shift_between`."""
ATTRIBUTES = ("colour", "shape")
PICTURE_MODEL = "shapes-sit"
PICTURE_SCALE = 6
STRENGTHS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)


@dataclass(frozen=True)
class Accuracy:
    """The share of samples that the classifier sees as of the target class, with its interval at 95 %."""

    value: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, right: Tensor) -> Accuracy:
        """right: whether each sample is of the class, with shape (N,)."""
        found = wilson(right.double())
        return cls(found.mean, found.low, found.high, len(right))

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class ModelEditing:
    """What was measured of one model."""

    model: str
    weights: str
    """The sha256 of the checkpoint."""
    shares: dict[str, dict[str, float]]
    """The variance of the class vectors by attribute, `plain` and `weighted` by the modulations."""
    unedited: Accuracy
    additive: Accuracy
    """Of the vectors mean + colour + shape in place of the classes' own."""
    exchanged: dict[str, dict[str, Accuracy]]
    """By attribute, and by what was moved."""
    seconds: float

    @classmethod
    def of(cls, stored: dict[str, Any]) -> ModelEditing:
        """The same from JSON."""
        exchanged = {
            attribute: {name: Accuracy(**each) for name, each in by_moved.items()}
            for attribute, by_moved in stored["exchanged"].items()
        }
        scores = {name: Accuracy(**stored[name]) for name in ("unedited", "additive")}
        return cls(**{**stored, "exchanged": exchanged, **scores})


def held_out(attribute: str, target: int) -> tuple[int, list[int], list[int]]:
    """How a class is made of another: the class to begin with, and the classes to lead away from and towards.

    attribute: `colour` or `shape`, the one that is exchanged
    target: the class to make, none of the others
    """
    shape, colour = divmod(target, len(COLOURS))
    if attribute == "colour":
        other = (colour + 1) % len(COLOURS)
        rest = [each for each in range(len(SHAPES)) if each != shape]
        return (
            shape * len(COLOURS) + other,
            [each * len(COLOURS) + other for each in rest],
            [each * len(COLOURS) + colour for each in rest],
        )
    other = (shape + 1) % len(SHAPES)
    rest = [each for each in range(len(COLOURS)) if each != colour]
    return (
        other * len(COLOURS) + colour,
        [other * len(COLOURS) + each for each in rest],
        [shape * len(COLOURS) + each for each in rest],
    )


def measure(entry: ModelEntry, system: System, judge: ShapesFeatures, samples: int, weights: str) -> ModelEditing:
    """Measure a model of the data set shapes.

    entry: with the sampling defaults; `STEPS` steps are made
    system: with weights
    judge: the classifier
    samples: how many of each class, by each edit
    weights: the sha256 of the checkpoint
    """
    begun = time.monotonic()
    vectors = class_vectors(system)
    names = attributes_of_names(CLASS_NAMES, ATTRIBUTES)
    found = tailprune.attribute_variance(vectors, names, metric_of(system))
    targets = list(range(NUM_CLASSES))
    additive = _additive(vectors)
    unedited, summed = _accuracies(
        entry, system, judge, samples, targets, targets, [[None, tailprune.Edit(additive[each])] for each in targets]
    )
    exchanged: dict[str, dict[str, Accuracy]] = {}
    for attribute in ATTRIBUTES:
        begins, edits = [], []
        for target in targets:
            begin, source, towards = held_out(attribute, target)
            begins.append(begin)
            shifts = [
                tailprune.shift_between(
                    system,
                    {"labels": source},
                    {"labels": towards},
                    components=options.get("components"),
                    directions=options.get("directions"),
                )
                for options in MOVED.values()
            ]
            edits.append([tailprune.Edit(shift) for shift in shifts])
        scores = _accuracies(entry, system, judge, samples, begins, targets, edits)
        exchanged[attribute] = dict(zip(MOVED, scores, strict=True))
    return ModelEditing(
        entry.name, weights, _shares(found), unedited, summed, exchanged, round(time.monotonic() - begun, 1)
    )


def _additive(vectors: Tensor) -> list[tailprune.Shift]:
    """For each class, from its own vector to mean + colour + shape."""
    table = vectors.view(len(SHAPES), len(COLOURS), -1)
    mean = table.mean((0, 1))
    sums = table.mean(1, keepdim=True) + table.mean(0, keepdim=True) - mean
    return [tailprune.Shift(change) for change in (sums - table).view(NUM_CLASSES, -1)]


def _shares(found: Attribution) -> dict[str, dict[str, float]]:
    return {
        name: {part: round(share, 4) for part, share in zip(found.parts, values.tolist(), strict=True)}
        for name, values in (("plain", found.plain), ("weighted", found.weighted))
    }


def _accuracies(
    entry: ModelEntry,
    system: System,
    judge: ShapesFeatures,
    samples: int,
    labels: Sequence[int],
    targets: Sequence[int],
    edits: Sequence[Sequence[tailprune.Edit | None]],
) -> list[Accuracy]:
    """The accuracy of each edit. labels: what is sampled; targets: what it is to become; edits: of each label."""
    right: list[list[Tensor]] = [[] for _ in edits[0]]
    for first in range(0, len(labels), BATCH):
        part = slice(first, first + BATCH)
        latents = sampled(entry, system, labels[part], samples, edits[part])
        wanted = torch.tensor(targets[part]).repeat_interleave(samples)
        for place, batch in enumerate(latents):
            right[place].append(judge.classify(pixels(batch)) == wanted)
    return [Accuracy.of(torch.cat(parts)) for parts in right]


def sampled(
    entry: ModelEntry,
    system: System,
    labels: Sequence[int],
    samples: int,
    edits: Sequence[Sequence[tailprune.Edit | None]],
) -> list[Tensor]:
    """Latents of each edit, those of a label one after the other. edits: of each label, as many for all."""
    defaults = entry.defaults
    interval = defaults.guidance_interval
    made = tailprune.sample_each(
        system,
        {"labels": torch.tensor(labels).repeat_interleave(samples)},
        prunes=[each for each in edits for _ in range(samples)],
        sampler=defaults.sampler,
        steps=STEPS,
        guidance=tailprune.Guidance(
            defaults.guidance_scale,
            None if defaults.guided_channels == "all" else defaults.guided_channels,
            defaults.guidance_power,
            None if interval is None else (interval[0], interval[1]),
        ),
        seeds=[(label, number) for label in labels for number in range(samples)],
        shift=defaults.timestep_shift,
    )
    return [torch.stack(batch) for batch in zip(*made, strict=True)]


def pixels(latents: Tensor) -> Tensor:
    """Samples in pixels as images, uint8."""
    return ((latents.clamp(-1, 1) + 1) * 127.5).round().byte()


def picture(entry: ModelEntry, system: System, attribute: str) -> Image.Image:
    """Classes whose colour or shape is exchanged with the target held out: a row for each strength."""
    targets = [11 * each for each in range(8)]
    plans = [held_out(attribute, target) for target in targets]
    shifts = [tailprune.shift_between(system, {"labels": away}, {"labels": to}) for _, away, to in plans]
    edits = [[tailprune.Edit(shift, strength) for strength in STRENGTHS] for shift in shifts]
    rows = [
        pixels(batch).permute(0, 2, 3, 1).repeat_interleave(PICTURE_SCALE, 1).repeat_interleave(PICTURE_SCALE, 2)
        for batch in sampled(entry, system, [begin for begin, _, _ in plans], 1, edits)
    ]
    words = [CLASS_NAMES[target].split()[ATTRIBUTES.index(attribute)] for target in targets]
    titles = [f"to {word}" for word in words]
    return Image.fromarray(grid([row.numpy() for row in rows], [f"{each:g}" for each in STRENGTHS], titles))


def _figure(entry: ModelEntry, system: System) -> bytes:
    """The figure of what carries colour and shape, as PNG."""
    attributes = attributes_of_names(CLASS_NAMES, ATTRIBUTES)
    found = tailprune.attribute_variance(class_vectors(system), attributes, metric_of(system))
    return render(draw_attribution(found, entry.name, NUM_CLASSES)).png


def tables(found: Sequence[ModelEditing]) -> str:
    """The measurements as Markdown."""
    of = found[0].unedited.samples
    lines = [
        "# Editing: the measurements",
        "",
        "Made by `python -m evidence.editing`, which [editing.md](../editing.md#how-well-it-works) explains. The share "
        f"of {of} samples, {of // NUM_CLASSES} of each class, that the shipped classifier sees as of the target class, "
        f"with its interval at 95 %; {STEPS} steps, and the model's defaults besides.",
        "",
        "| model | as trained | mean + colour + shape |",
        "|---|---:|---:|",
        *(f"| {each.model} | {each.unedited} | {each.additive} |" for each in found),
    ]
    for attribute in ATTRIBUTES:
        lines += [
            "",
            f"## The {attribute} exchanged",
            "",
            f"The class is never used: it is made of the one with another {attribute}.",
            "",
            f"| model | {' | '.join(MOVED)} |",
            f"|---|{'---:|' * len(MOVED)}",
            *(f"| {each.model} | {' | '.join(map(str, each.exchanged[attribute].values()))} |" for each in found),
        ]
    parts = list(found[0].shares["plain"])
    lines += [
        "",
        "## What carries the classes",
        "",
        "The variance of the class vectors by attribute; weighted, that of the modulations.",
        "",
        f"| model | {' | '.join(parts)} | {' | '.join(f'{part}, weighted' for part in parts)} |",
        f"|---|{'---:|' * 2 * len(parts)}",
    ]
    for each in found:
        shares = [f"{share:.1%}" for kind in ("plain", "weighted") for share in each.shares[kind].values()]
        lines.append(f"| {each.model} | {' | '.join(shares)} |")
    checkpoints = ", ".join(f"{each.model} `{each.weights[:12]}`" for each in found)
    return "\n".join([*lines, "", f"Checkpoints, by their sha256: {checkpoints}.", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure how colour and shape of the shipped models are exchanged, and write the tables and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m evidence.editing", description=main.__doc__)
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), metavar="MODEL", help="all shipped ones by default"
    )
    parser.add_argument("--samples", type=int, default=3, help="samples of each class by each edit, 3 by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder of evidence/ and images/")
    options = parser.parse_args(arguments)
    registry = Registry.read(ROOT / "models" / "models.toml")
    judge = load_extractor("shapes-classifier", ROOT / "models" / "shapes-classifier")
    assert isinstance(judge, ShapesFeatures), "it has classes"
    for name in options.models:
        entry = registry.get(name)
        checkpoint = entry.local_checkpoint
        assert checkpoint is not None, f"{name} is shipped"
        system = tailprune.load(checkpoint)
        found = measure(entry, system, judge, options.samples, _sha256(checkpoint))
        print(f"{name}: {found.seconds:.0f} seconds", flush=True)
        if name == PICTURE_MODEL:
            (options.out / "images").mkdir(parents=True, exist_ok=True)
            for attribute in ATTRIBUTES:
                picture(entry, system, attribute).save(options.out / "images" / f"edit-{attribute}.png", optimize=True)
            (options.out / "images" / "edit-attribution.png").write_bytes(_figure(entry, system))
        write(options.out / "evidence", found, options.samples)


def write(folder: Path, found: ModelEditing, samples: int) -> None:
    """Write what was measured of a model beside what earlier runs of as many samples measured of others.

    folder: of editing.json and editing.md
    found: the model
    samples: how many of each class
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "editing.json"
    how = {"steps": STEPS, "samples_of_each_class": samples}
    earlier = json.loads(numbers.read_text()) if numbers.is_file() else {}
    alike = earlier.get("models", []) if {name: earlier.get(name) for name in how} == how else []
    by_name = {each["model"]: each for each in alike} | {found.model: asdict(found)}
    known = [by_name[name] for name in MODELS if name in by_name]
    numbers.write_text(json.dumps(how | {"models": known}, indent=1) + "\n")
    (folder / "editing.md").write_text(tables([ModelEditing.of(each) for each in known]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
