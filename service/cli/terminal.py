"""What the commands share: options, consoles, the way errors are shown, and results as tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.registry.evaluation import Measure
from jobs.results import CompactResult, Drift, ExtractResult, MetricsResult, PruneSampleResult, Removed
from jobs.study_results import MeasureUsed, Score, SearchResult, StudyResult
from service.cli.client import ClientError
from tailprune.spec.layouts import in_words

__all__ = [
    "DEFAULT_URL",
    "AsJson",
    "Conditions",
    "Url",
    "class_labels",
    "compact_table",
    "errors_shown",
    "extract_table",
    "messages",
    "metrics_tables",
    "output",
    "prune_sample_table",
    "study_tables",
]

Url = Annotated[str, typer.Option(envvar="TAILPRUNE_URL", help="The address of the service.")]
Conditions = Annotated[
    str | None, typer.Option(help="The id that `tailprune upload` printed, for models that take conditions.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
DEFAULT_URL = "http://127.0.0.1:8000"
INTERRUPTED = 130

output = Console()
messages = Console(stderr=True, highlight=False)

ABSENT = "–"
FEW = "†"
ARROWS = {"higher": "↑", "lower": "↓"}
MEASURES_A_TABLE = 4
"""How many measures, with their intervals, fit into a terminal of 80 columns."""
LEAST_WIDTH = 72
"""The least width of a table, at which its title and caption wrap."""
DIGITS = 4


def class_labels(given: list[str] | None) -> list[int | str] | None:
    """The labels of a request: numbers, and names of classes, which do not consist of digits alone; None for none."""
    return [int(label) if label.isdecimal() else label for label in given or []] or None


@contextmanager
def errors_shown() -> Iterator[None]:
    """Print errors as a red line and exit with a status, without a traceback."""
    try:
        yield
    except ClientError as error:
        messages.print(f"[red]tailprune:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def prune_sample_table(result: PruneSampleResult) -> Table:
    """A row for each variant: what was removed, the condition vectors after it, and the drift of the samples."""
    timing, engine = result.timing, result.engine
    table = Table(
        title=f"{result.model.name}: {len(result.variants[0].images)} samples of each variant",
        caption=f"{timing.sample:.2f} s on {engine.device}, {timing.samples_per_second:.1f} samples a second",
    )
    table.add_column("variant", no_wrap=True)
    for heading in ("removed", "nPR", "cosine", "drift", "PSNR dB", "SSIM"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = next((variant.embedding for variant in result.variants if variant.embedding is not None), None)
    for variant in result.variants:
        embedding = variant.embedding
        if embedding is not None:
            shown = _embedding(embedding.npr_after, embedding.cosine_after)
        elif before is not None:
            shown = _embedding(before.npr_before, before.cosine_before)
        else:
            shown = ABSENT, ABSENT  # a compacted model without a prune: no vectors were measured
        table.add_row(variant.name, _removed(variant.removed), *shown, *_drift(variant.drift))
    return table


def metrics_tables(result: MetricsResult) -> tuple[Table, Table]:
    """The statistics, and the share of components below each threshold."""
    at = "" if result.timestep is None else f" at t = {result.timestep:g}"
    title = f"{result.model.name}: {result.count} vectors {result.part}{at}"
    summary = Table("statistic", title=title, caption="nPR = PR / d,\nPR = (sum |v|)^2 / sum v^2")
    summary.add_column("value", justify="right")
    cosine = result.cosine
    summary.add_row("components d", f"{result.dim}")
    summary.add_row("cosine, mean of pairs", f"{cosine.mean:.4f}" if cosine else ABSENT)
    summary.add_row("cosine, least–most", f"{cosine.min:.4f}–{cosine.max:.4f}" if cosine else ABSENT)
    summary.add_row("participation ratio", f"{result.pr:.1f}")
    summary.add_row("nPR", f"{result.npr:.4f}")
    summary.add_row("norm", f"{result.norm:.3f}")
    for share, components in result.variance.components_for.items():
        summary.add_row(f"components for {float(share):.0%} of variance", f"{components}")
    sparsity = Table("threshold", title="components below")
    sparsity.add_column("fraction", justify="right")
    for row in result.sparsity:
        sparsity.add_row(f"{row.threshold:g}", f"{row.fraction:.1%}")
    return summary, sparsity


def compact_table(result: CompactResult) -> Table:
    """The sizes of the whole model and of the compacted one, and the drift of its samples."""
    compared, what = result.compared, "directions" if result.by == "directions" else "components"
    drift, psnr, ssim = _drift(compared.drift)
    table = Table(
        title=f"{result.model.name}: AdaLN reads {result.kept} of {result.components} {what}",
        caption=f"drift {drift}, PSNR {psnr} dB, SSIM {ssim}: "
        f"{compared.samples} samples, {compared.sampler}, {compared.steps} steps, guidance {compared.guidance_scale:g}",
        min_width=LEAST_WIDTH,
    )
    table.add_column("")
    for heading in ("whole", "compacted", "less"):
        table.add_column(heading, justify="right")
    sizes = {
        "parameters": result.parameters,
        "of these AdaLN's": result.adaln_parameters,
        "bytes of the file": result.bytes,
    }
    for name, change in sizes.items():
        less = f"{1 - change.after / change.before:.1%}"
        table.add_row(name, f"{change.before:,}", f"{change.after:,}", less)
    return table


def extract_table(result: ExtractResult) -> Table:
    """The tensors of the file, with their shapes."""
    table = Table("tensor", title=f"{result.model.name}: {result.bytes:,} bytes")
    table.add_column("shape", justify="right")
    for name, shape in result.shapes.items():
        table.add_row(name, " x ".join(map(str, shape)))
    return table


def study_tables(result: StudyResult) -> Iterator[Table]:
    """The scores, a row for each variant, in tables of a few measures each; then the trials of a search."""
    passed_over = [
        f"{name}: {used.images} images, and {in_words(used.passed_over)} passed over"
        for name, used in result.references.items()
        if used.passed_over
    ]
    for start in range(0, len(result.measures), MEASURES_A_TABLE):
        measures = result.measures[start : start + MEASURES_A_TABLE]
        table = Table(
            title=f"{result.model.name}: {result.variants[0].samples} samples of each variant",
            caption="\n".join(
                [*map(_legend, measures), *_few(result, [used.measure for used in measures]), *passed_over]
            ),
            min_width=LEAST_WIDTH,
        )
        table.add_column("variant")
        for heading in ("removed", *(f"{measure.measure} {ARROWS[measure.better]}" for measure in measures)):
            table.add_column(heading, justify="right")
        for variant in result.variants:
            removed = ABSENT if variant.removed is None else f"{variant.removed.fraction:.0%}"
            table.add_row(variant.name, removed, *(_score(measure.measure, variant.scores) for measure in measures))
        yield table
    if result.search is not None:
        yield _search_table(result.search)


def _legend(used: MeasureUsed) -> str:
    against = "" if used.reference is None else f", against {used.reference}"
    return f"{used.measure}: {used.title}{against}"


def _few(result: StudyResult, measures: list[Measure]) -> list[str]:
    """Which scores of a table cannot be compared, and why."""
    scores = [variant.scores.get(measure) for variant in result.variants for measure in measures]
    notes = dict.fromkeys(score.note for score in scores if score is not None and not score.reliable)
    return [f"{FEW} cannot be compared: {note or 'too few samples'}" for note in notes]


def _score(measure: Measure, scores: dict[Measure, Score]) -> str:
    """A value, and below it its interval or deviation."""
    score = scores.get(measure)
    if score is None or score.value is None:
        return ABSENT
    value = f"{score.value:.{DIGITS}g}" + ("" if score.reliable else FEW)
    if score.low is not None and score.high is not None:
        return f"{value}\n{score.low:.{DIGITS}g}–{score.high:.{DIGITS}g}"
    return value if score.std is None else f"{value}\n±{score.std:.{DIGITS}g}"


def _search_table(search: SearchResult) -> Table:
    found = (
        f"threshold {search.threshold:.{DIGITS}g} removes {search.fraction:.0%}"
        if search.threshold is not None and search.fraction is not None
        else "no threshold was within the budget"
    )
    table = Table(
        title=f"search by {search.measure}, budget {search.budget:g}: {found}",
        caption=f"the limit is {search.limit:.{DIGITS}g}" + ("" if search.reliable else f"\n{FEW} of too few samples"),
        min_width=LEAST_WIDTH,
    )
    for heading in ("threshold", "removed", search.measure):
        table.add_column(heading, justify="right")
    table.add_column("within")
    for trial in search.trials:
        value = f"{trial.value:.{DIGITS}g}" + ("" if search.reliable else FEW)
        threshold = f"{trial.threshold:.{DIGITS}g}"
        table.add_row(threshold, f"{trial.fraction:.0%}", value, "yes" if trial.within else "no")
    return table


def _removed(removed: Removed | None) -> str:
    return ABSENT if removed is None else f"{removed.mean:.1f} ({removed.fraction:.0%})"


def _embedding(npr: float, cosine: float | None) -> tuple[str, str]:
    return f"{npr:.3f}", ABSENT if cosine is None else f"{cosine:.3f}"


def _drift(drift: Drift | None) -> tuple[str, str, str]:
    if drift is None:
        return ABSENT, ABSENT, ABSENT
    ssim = ABSENT if drift.ssim is None else f"{drift.ssim:.3f}"  # pictures that cannot be compared, or too small
    psnr = f"{drift.psnr:.1f}" if drift.psnr is not None else "equal" if drift.ssim is not None else ABSENT
    return f"{drift.latent:.3f}", psnr, ssim
