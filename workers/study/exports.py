"""A finished study as files: JSON, CSV, Markdown, and a figure.

JSON and CSV have class accuracy as a share, Markdown and the figure in per cent.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.registry.evaluation import Measure
from jobs.requests.sampled import SampledRequest
from jobs.study_results import Exports, MeasureUsed, Score, SearchResult, StudyResult, StudyVariant
from tailprune.figures.study import Panel, Point, draw_study
from tailprune.figures.style import Rendered, render
from tailprune.spec.layouts import in_words
from workers.outputs.variant import JobArtifacts

__all__ = ["document", "figure", "markdown", "table", "write"]

PERCENT: frozenset[Measure] = frozenset({"accuracy"})
"""Shown in per cent; stored as a share."""
UNITS: dict[Measure, str] = {"accuracy": "%", "psnr": "dB"}
BOUNDS: dict[Measure, tuple[float, float | None]] = {
    "fid": (0, None), "inception-score": (1, None), "precision": (0, 1), "recall": (0, 1), "accuracy": (0, 100),
    "clip-score": (-100, 100), "drift": (0, None), "ssim": (-1, 1), "lpips": (0, None),
}  # fmt: skip
"""The least and the greatest value that a measure can have, as it is shown."""
OF_EQUAL_IMAGES: dict[Measure, float] = {"drift": 0.0, "ssim": 1.0, "lpips": 0.0}
"""The value of the baseline by the measures that compare with it; PSNR would be infinite."""
FEW = "†"
ARROWS = {"higher": "↑", "lower": "↓"}
SHARES: frozenset[Measure] = frozenset({"accuracy", "precision"})
"""The share of samples that match: their interval is Wilson's, that of the others is by the bootstrap."""
WITHOUT_INTERVAL: frozenset[Measure] = frozenset({"fid", "inception-score", "recall"})
DRIFT = "|pruned - baseline| / |baseline| of the latents"
NONE = "–"
SMALL, MOST_DECIMALS = 0.1, 7
"""Values below `SMALL` in magnitude have three significant digits, in at most `MOST_DECIMALS` decimals."""


def write(result: StudyResult, files: JobArtifacts, request: SampledRequest | None = None) -> Exports:
    """Store all files; return their names.

    result: the finished study.
    files: where they are stored.
    request: the resolved request, whose sampler and settings Markdown and figure state; left out by default.
    """
    files.put("study.json", document(result), "application/json")
    files.put("study.csv", table(result), "text/csv")
    files.put("study.md", markdown(result, request), "text/markdown")
    rendered = figure(result, request)
    if rendered is not None:
        files.put("study.png", rendered.png, "image/png")
        files.put("study.svg", rendered.svg, "image/svg+xml")
    return Exports(
        document="study.json",
        table="study.csv",
        markdown="study.md",
        png="study.png" if rendered else None,
        svg="study.svg" if rendered else None,
    )


def document(result: StudyResult) -> bytes:
    """The result as JSON, without `exports`: this file is one of them."""
    return (result.model_dump_json(indent=2, exclude={"exports"}) + "\n").encode()


def table(result: StudyResult) -> bytes:
    """CSV with a header and a row for each variant; missing values are empty."""
    file = io.StringIO(newline="")
    rows = [_row(variant, result.measures) for variant in result.variants]
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _row(variant: StudyVariant, measures: Sequence[MeasureUsed]) -> dict[str, Any]:
    prune, removed = variant.prune, variant.removed
    row: dict[str, Any] = {
        "variant": variant.name,
        "side": prune and prune.side,
        "threshold": prune and prune.threshold,
        "threshold_by_step": prune and _in_a_cell(prune.threshold_by_step),
        "remove_fraction": prune and prune.remove_fraction,
        "keep": prune and prune.keep,
        "keep_fraction": prune and prune.keep_fraction,
        "by": prune and prune.by,
        "of": prune and prune.of,
        "fill": prune and prune.fill,
        "schedule": prune and prune.schedule.when,
        "count": prune and prune.schedule.count,
        "steps": prune and _in_a_cell(prune.schedule.steps),
        "blocks": prune and _in_a_cell(prune.blocks),
        "samples": variant.samples,
        "removed_mean": removed and removed.mean,
        "removed_percent": removed and 100 * removed.fraction,
    }
    for used in measures:
        score = variant.scores.get(used.measure)
        row |= {
            used.measure: score and score.value,
            f"{used.measure}_low": score and score.low,
            f"{used.measure}_high": score and score.high,
            f"{used.measure}_std": score and score.std,
            f"{used.measure}_reliable": score and str(score.reliable).lower(),
        }
    return row


def _in_a_cell(values: Sequence[object] | None) -> str | None:
    """Several values in one cell of CSV, with spaces between them; `none` for a step that is not pruned."""
    return None if values is None else " ".join("none" if value is None else str(value) for value in values)


def markdown(result: StudyResult, request: SampledRequest | None = None) -> bytes:
    """Markdown: the model and its sampling, a table of the variants, the measures, and the search."""
    headings = [f"{_heading(used)} {ARROWS[used.better]}" for used in result.measures]
    rows = [
        [variant.name, _removed(variant), *(_cell(variant.scores.get(used.measure), used) for used in result.measures)]
        for variant in result.variants
    ]
    lines = [
        f"# Study of {result.model.name}",
        "",
        f"- Model: {result.model.name}, sha256 `{result.model.digest}`",
        f"- Samples: {_sampled(result)}",
        *([] if request is None else [f"- Sampling: {', '.join([*_sampler(request), *_settings(request)])}"]),
        "",
        *_table(["variant", "removed (%)", *headings], rows),
        "",
        *(f"- {_described(used, result.variants)}" for used in result.measures),
        *(
            f"- Reference {name}: {used.images} images, and {in_words(used.passed_over)} passed over"
            for name, used in result.references.items()
            if used.passed_over
        ),
    ]
    if notes := _few(result):
        lines += ["", f"{FEW} Of too few samples to compare with anything. {notes}"]
    if result.search is not None:
        lines += ["", *_searched(result.search, {used.measure: used for used in result.measures})]
    return ("\n".join(lines) + "\n").encode()


def figure(result: StudyResult, request: SampledRequest | None = None) -> Rendered | None:
    """The figure: every measure against the share removed; None where there is no prune or no finite value."""
    panels = [_panel(used, result.variants) for used in result.measures]
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    sampling = [] if request is None else _sampler(request)
    measures = {used.measure for used in result.measures}
    text = "Removed: the share of the components of a pruned vector. ↑: higher is better, ↓: lower is better."
    if any(point.low is not None for panel in panels for line in panel.lines.values() for point in line):
        text += " Bars, and the band of the baseline: 95 % intervals"
        text += "; of the kernel distance, ± its deviation over subsets." if "kid" in measures else "."
    if bare := [_quantity(used) for used in result.measures if used.measure in WITHOUT_INTERVAL]:
        text += f" No interval: {', '.join(bare)}."
    if "drift" in measures:
        text += f" Drift: {DRIFT}."
    if notes := _few(result):
        text += f" Hollow: of too few samples to compare with anything. {notes}"
    return render(
        draw_study(
            panels,
            title="Quality of samples with components of c removed",
            subtitle=", ".join([result.model.name, *sampling, f"{result.variants[0].samples:,} samples a variant"]),
            text=text,
        )
    )


def _panel(used: MeasureUsed, variants: Sequence[StudyVariant]) -> Panel:
    """The panel of a measure, with the variants that have a finite value of it."""
    baseline: Point | None = None
    lines: dict[str, list[Point]] = {}
    for variant in variants:
        score, prune = variant.scores.get(used.measure), variant.prune
        if score is None or score.value is None or not math.isfinite(score.value):
            continue
        removed = 0.0 if variant.removed is None else 100 * variant.removed.fraction
        scale = 100 if used.measure in PERCENT else 1
        ends = (score.low, score.high) if score.std is None else (score.value - score.std, score.value + score.std)
        low, high = (scale * end if end is not None and math.isfinite(end) else None for end in ends)
        point = Point(scale * score.value, removed, low, high, score.reliable)
        if prune is None:
            baseline = point
        else:
            lines.setdefault(prune.way, []).append(point)
    if used.reference == "baseline" and used.measure in OF_EQUAL_IMAGES:
        baseline = Point(OF_EQUAL_IMAGES[used.measure])
    return Panel(
        title=used.title,
        quantity=_quantity(used),
        better=used.better,
        lines=lines,
        baseline=baseline,
        unit=UNITS.get(used.measure),
        bounds=BOUNDS.get(used.measure, (None, None)),
    )


def _few(result: StudyResult) -> str:
    """Which measures have too few samples, and how many they need; empty if none has."""
    by_note: dict[str, dict[str, None]] = {}
    for used in result.measures:
        scores = [variant.scores.get(used.measure) for variant in result.variants]
        for score in scores:
            if score is not None and score.note is not None:
                by_note.setdefault(score.note, {})[_quantity(used)] = None
    return " ".join(f"{', '.join(measures)}: {note}." for note, measures in by_note.items())


def _quantity(used: MeasureUsed) -> str:
    """The name of a measure without its extractor."""
    return used.title.partition(" (")[0]


def _sampled(result: StudyResult) -> str:
    count = result.variants[0].samples
    return f"{count:,} a variant, from the same noise" if count else "none"


def _searched(search: SearchResult, measures: Mapping[Measure, MeasureUsed]) -> list[str]:
    """The section of a search: the budget, the threshold found, and a row for each trial."""
    used = None if search.measure == "modulation-error" else measures[search.measure]
    title, better = ("Modulation error", "lower") if used is None else (_heading(used), used.better)
    bound = "at most" if better == "lower" else "at least"
    mark = "" if search.reliable else f" {FEW}"

    def shown(value: float) -> str:
        return f"{value:.3g}" if used is None else _number(value, used)

    budget = f"Within the budget: {title}, {bound} {shown(search.limit)}{mark}"
    if search.baseline is not None:
        budget += f" (the baseline's {shown(search.baseline)}, and a budget of {shown(search.budget)})"
    if search.threshold is None or search.fraction is None:
        found = "No threshold that was tried is within."
    else:
        found = f"The largest threshold within, {search.threshold!r}, removes {100 * search.fraction:.2f} %."
    rows = [
        [
            str(number),
            repr(trial.threshold),
            f"{100 * trial.fraction:.2f}",
            f"{shown(trial.value)}{mark}",
            "yes" if trial.within else "no",
            trial.variant,
        ]
        for number, trial in enumerate(search.trials, start=1)
    ]
    headings = ["trial", "threshold", "removed (%)", f"{title} {ARROWS[better]}", "within", "variant"]
    return ["## Search", "", f"{budget}. {found}", "", *_table(headings, rows)]


def _described(used: MeasureUsed, variants: Sequence[StudyVariant]) -> str:
    """A measure in words: its network and reference, its interval, and the samples that it leaves out."""
    parts = [f"{used.title}: {used.better} is better"]
    if used.measure == "drift":
        parts.append(DRIFT)
    if used.extractor is not None:
        parts.append(f"by {used.extractor}")
    if used.reference is not None:
        parts.append(f"compared with {'the baseline' if used.reference == 'baseline' else used.reference}")
    scores = [(variant.name, variant.scores.get(used.measure)) for variant in variants]
    if any(score and score.low is not None for _, score in scores):
        parts.append(f"with its 95 % interval ({'Wilson' if used.measure in SHARES else 'bootstrap'})")
    if any(score and score.std is not None for _, score in scores):
        parts.append("± the deviation over its random subsets")
    without = [f"{score.left_out} of {name}" for name, score in scores if score and score.left_out]
    if without:
        parts.append(f"samples without a value left out: {', '.join(without)}")
    return "; ".join(parts)


def _sampler(request: SampledRequest) -> list[str]:
    """The sampler of a resolved request, its steps and its guidance scale."""
    return [str(request.sampler), f"{request.steps} steps", f"guidance {request.guidance_scale:g}"]


def _settings(request: SampledRequest) -> list[str]:
    """The other sampling settings of a resolved request that are set, and its seed."""
    settings: list[str] = []
    if (interval := request.guidance_interval) is not None:
        settings.append(f"guided from {interval[0]:g} to {interval[1]:g}")
    if request.guidance_power is not None:
        settings.append(f"guidance power {request.guidance_power:g}")
    if request.guided_channels not in (None, "all"):
        settings.append(f"{request.guided_channels} guided channels")
    if (moved := request.modulation) is not None:
        ends = {"towards": moved.plus, "away from": moved.minus}
        classes = "".join(f" {way} class {label}" for way, label in ends.items() if label is not None)
        settings.append(f"modulation guidance {moved.weight:g}{classes}")
    if request.timestep_shift is not None:
        settings.append(f"timestep shift {request.timestep_shift:g}")
    if request.diffusion is not None:
        settings.append(f"diffusion {request.diffusion}, last step {request.last_step}")
    if request.precision != "float32":
        settings.append(request.precision)
    return [*settings, f"seed {request.seed}"]


def _heading(used: MeasureUsed) -> str:
    unit = UNITS.get(used.measure)
    return used.title if unit is None else f"{used.title}, {unit}"


def _removed(variant: StudyVariant) -> str:
    return NONE if variant.removed is None else f"{100 * variant.removed.fraction:.2f}"


def _cell(score: Score | None, used: MeasureUsed) -> str:
    if score is None or score.value is None:
        return NONE
    shown = _number(score.value, used) + ("" if score.reliable else f" {FEW}")
    if score.std is not None:
        shown += f" ± {_number(score.std, used, like=score.value)}"
    if score.low is not None and score.high is not None:
        low, high = (_number(end, used, like=score.value) for end in (score.low, score.high))
        shown += f" [{low}, {high}]"
    return shown


def _number(value: float, used: MeasureUsed, like: float | None = None) -> str:
    """Two decimals for a measure with a unit; else three, or three significant digits of a small value.

    like: the value that sets the number of decimals; `value` by default.
    """
    if used.measure in UNITS:
        return f"{100 * value if used.measure in PERCENT else value:.2f}"
    size = abs(value if like is None else like)
    small = 0 < size < SMALL
    return f"{value:.{min(MOST_DECIMALS, 2 - math.floor(math.log10(size))) if small else 3}f}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of GitHub's Markdown, all columns but the first aligned right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]
