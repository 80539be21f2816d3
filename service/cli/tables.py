"""The results of jobs as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from jobs.attribution_results import AttributionResult
from jobs.compact_transformer_results import CompactTransformerResult
from jobs.edit_results import EditResult
from jobs.figure_results import FigureTransformerResult
from jobs.registry.evaluation import Measure
from jobs.results import (
    CompactResult,
    Drift,
    Engine,
    ExtractResult,
    FigureResult,
    MetricsResult,
    PruneSampleResult,
    RegisterResult,
    Removed,
)
from jobs.study_results import MeasureUsed, Score, SearchResult, StudyResult
from jobs.transformer_results import MetricsTransformerResult
from service.cli.terminal import ABSENT, Sheet
from tailprune.spec.layouts import in_words

__all__ = ["files_of", "sheets_of"]

ARROWS = {"higher": "↑", "lower": "↓"}
DIGITS = 4
MOST_ATTRIBUTED = 12
"""How many components, and directions, are shown of an attribution."""
FEW = "†"
"""Marks scores of too few samples."""


def sheets_of(result: BaseModel) -> Iterator[Sheet]:
    """The tables that show the result of a job."""
    match result:
        case PruneSampleResult():
            yield _prune_sample_sheet(result)
        case EditResult():
            yield _edit_sheet(result)
        case AttributionResult():
            yield from _attribution_sheets(result)
        case MetricsResult() | MetricsTransformerResult():
            yield from _metrics_sheets(result)
        case CompactResult():
            yield _compact_sheet(result)
        case CompactTransformerResult():
            yield _compact_transformer_sheet(result)
        case ExtractResult():
            yield _extract_sheet(result)
        case RegisterResult():
            yield _register_sheet(result)
        case StudyResult():
            yield from _study_sheets(result)
        case FigureResult() | FigureTransformerResult():
            yield Sheet(["figure", "files"], [[result.figure, f"{result.png}, {result.svg}"]], caption=result.caption)


def files_of(result: BaseModel) -> list[str]:
    """The names of the artifacts that show the result of a job, which --save writes."""
    match result:
        case PruneSampleResult():
            return [result.grid, *(sound.artifact for variant in result.variants for sound in variant.sounds)]
        case EditResult():
            return [result.grid, *(sound.artifact for variant in result.variants for sound in variant.sounds)]
        case CompactResult():
            return [result.checkpoint, result.card, result.samples]
        case CompactTransformerResult():
            return sorted(result.files)
        case StudyResult() if (exports := result.exports) is not None:
            names = (exports.document, exports.table, exports.markdown, exports.png, exports.svg)
            return [name for name in names if name is not None]
    return []


def _prune_sample_sheet(result: PruneSampleResult) -> Sheet:
    """A row for each variant: what was removed, the condition vectors after it, and the drift of the samples."""
    timing, engine = result.timing, result.engine
    rows = []
    before = next((variant.embedding for variant in result.variants if variant.embedding is not None), None)
    for variant in result.variants:
        embedding = variant.embedding
        if embedding is not None:
            shown = _embedding(embedding.npr_after, embedding.cosine_after)
        elif before is not None:
            shown = _embedding(before.npr_before, before.cosine_before)
        else:
            shown = ABSENT, ABSENT  # a compacted model without a prune: no vectors were measured
        rows.append([variant.name, _removed(variant.removed), *shown, *_drift(variant.drift)])
    return Sheet(
        ["variant", "removed", "nPR", "cosine", "drift", "PSNR dB", "SSIM"],
        rows,
        title=f"{result.model.name}: {len(result.variants[0].images)} samples of each variant",
        caption=f"{timing.sample:.2f} s on {_device(engine)}, {timing.samples_per_second:.1f} samples a second",
    )


def _device(engine: Engine) -> str:
    """The device, and in bfloat16 on a CPU how fast that is there."""
    speed = engine.bfloat16_speed
    return engine.device if speed is None else f"{engine.device} in bfloat16 ({speed:.2f} times float32's speed)"


def _edit_sheet(result: EditResult) -> Sheet:
    """A row for each strength: how far the samples are from the unedited ones, and what the classifier sees in them."""
    timing, engine = result.timing, result.engine
    seen = "no classifier" if result.classifier is None else f"probabilities by {result.classifier}"
    rows = [
        [
            variant.name,
            *_drift(variant.drift),
            *(ABSENT if share is None else f"{share:.2f}" for share in (variant.source, variant.target)),
        ]
        for variant in result.variants
    ]
    return Sheet(
        ["edit", "drift", "PSNR dB", "SSIM", "source", "target"],
        rows,
        title=f"{result.model.name}: {len(result.variants[0].images)} samples of each strength",
        caption=f"{seen}; {result.moved:.0%} of the difference is moved\n"
        f"{timing.sample:.2f} s on {_device(engine)}, {timing.samples_per_second:.1f} samples a second",
    )


def _attribution_sheets(result: AttributionResult) -> Iterator[Sheet]:
    """The shares of the variance, and the components and directions that have most of it."""
    yield Sheet(
        ["variance of", "plain", "weighted"],
        [[share.part, f"{share.plain:.1%}", f"{share.weighted:.1%}"] for share in result.shares],
        title=f"{result.model.name}: y of {result.count} classes",
        caption="weighted: of the shifts, scales and gates in all blocks",
    )
    parts = [share.part for share in result.shares]
    for what, found in (("component", result.components), ("direction", result.directions)):
        yield Sheet(
            [what, "share", *parts],
            [
                [f"{each.index}", f"{each.share:.1%}", *(f"{part:.0%}" for part in each.parts)]
                for each in found[:MOST_ATTRIBUTED]
            ],
            title=f"the {min(MOST_ATTRIBUTED, len(found))} largest {what}s of {len(found)}",
        )


def _metrics_sheets(result: MetricsResult | MetricsTransformerResult) -> Iterator[Sheet]:
    """The statistics, and the share of components below each threshold."""
    at = "" if result.timestep is None else f" at t = {result.timestep:g}"
    cosine = result.cosine
    statistics = [
        ["components d", f"{result.dim}"],
        ["cosine, mean of pairs", f"{cosine.mean:.4f}" if cosine else ABSENT],
        ["cosine, least to most", f"{cosine.min:.4f} to {cosine.max:.4f}" if cosine else ABSENT],
        ["participation ratio", f"{result.pr:.1f}"],
        ["nPR", f"{result.npr:.4f}"],
        ["norm", f"{result.norm:.3f}"],
    ]
    for share, components in result.variance.components_for.items():
        statistics.append([f"components for {float(share):.0%} of variance", f"{components}"])
    yield Sheet(
        ["statistic", "value"],
        statistics,
        title=f"{result.model.name}: {result.count} vectors {result.part}{at}",
        caption="nPR = PR / d,\nPR = (sum |v|)^2 / sum v^2",
    )
    below = [[f"{row.threshold:g}", f"{row.fraction:.1%}"] for row in result.sparsity]
    yield Sheet(["threshold", "fraction"], below, title="components below")
    if isinstance(result, MetricsTransformerResult):
        parts = [[each.what, each.covers, f"{each.norm:.3f}", f"{each.npr:.4f}"] for each in result.parts]
        yield Sheet(["part of c", "of", "norm", "nPR"], parts)


def _compact_sheet(result: CompactResult) -> Sheet:
    """The sizes of the whole model and of the compacted one, and the drift of its samples."""
    compared, what = result.compared, "directions" if result.by == "directions" else "components"
    what += ", the others predicted" if result.fill == "refit" else ""
    drift, psnr, ssim = _drift(compared.drift)
    return _sizes_sheet(
        result,
        title=f"{result.model.name}: AdaLN reads {result.kept} of {result.components} {what}",
        caption=f"drift {drift}, PSNR {psnr} dB, SSIM {ssim}: {compared.samples} samples, {compared.sampler}, "
        f"{compared.steps} steps, guidance {compared.guidance_scale:g}",
    )


def _compact_transformer_sheet(result: CompactTransformerResult) -> Sheet:
    """The sizes of the whole large transformer and of the smaller one, and its errors."""
    between, texts = result.error_between, result.text_error
    errors = [
        f"error {result.error:.2g}, {result.worst_error:.2g} at worst",
        "" if between is None else f", {between:.2g} halfway between covered times",
        "" if texts is None else f"; that all pooled texts count as one changes another {texts:.2g}",
    ]
    return _sizes_sheet(
        result,
        title=f"{result.model.name}: AdaLN reads {result.rank} directions",
        caption="\n".join(["".join(errors), f"covered: {result.covers}", *result.notes]),
    )


def _sizes_sheet(result: CompactResult | CompactTransformerResult, title: str, caption: str) -> Sheet:
    sizes = {
        "parameters": result.parameters,
        "of these AdaLN's": result.adaln_parameters,
        "bytes of the file": result.bytes,
    }
    return Sheet(
        ["", "whole", "compacted", "less"],
        [
            [name, f"{change.before:,}", f"{change.after:,}", f"{1 - change.after / change.before:.1%}"]
            for name, change in sizes.items()
        ],
        title=title,
        caption=caption,
    )


def _extract_sheet(result: ExtractResult) -> Sheet:
    """The tensors of the file, with their shapes."""
    shapes = [[name, _product(shape)] for name, shape in result.shapes.items()]
    return Sheet(["tensor", "shape"], shapes, title=f"{result.model.name}: {result.bytes:,} bytes")


def _register_sheet(result: RegisterResult) -> Sheet:
    """What the checkpoint is, and what that rests on."""
    classes = "takes conditions" if result.classes is None else f"{result.classes}"
    row = [result.family, f"{result.parameters:,}", f"{result.condition_dim}", _product(result.latent_shape), classes]
    headings = ["family", "parameters", "condition", "latent", "classes"]
    return Sheet(headings, [row], title=result.model.name, caption="; ".join(result.assumptions))


def _product(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _study_sheets(result: StudyResult) -> Iterator[Sheet]:
    """The scores, a row for each variant, in tables of as many measures as fit; then the trials of a search."""
    if not result.measures and result.search is not None:  # nothing was sampled
        yield _search_sheet(result.search)
        return
    count = len(result.measures)
    for size in range(count, 0, -1):
        groups = [result.measures[start : start + size] for start in range(0, count, size)]
        sheets = [_scores_sheet(result, measures) for measures in groups]
        if all(sheet.fits() for sheet in sheets):
            break
    else:  # no table fits: all measures of a variant are shown together
        sheets = [_scores_sheet(result, result.measures)]
    yield from sheets
    if result.search is not None:
        yield _search_sheet(result.search)


def _scores_sheet(result: StudyResult, measures: Sequence[MeasureUsed]) -> Sheet:
    return Sheet(
        ["variant", "removed", *(f"{measure.measure} {ARROWS[measure.better]}" for measure in measures)],
        [
            [
                variant.name,
                ABSENT if variant.removed is None else f"{variant.removed.fraction:.0%}",
                *(_score(measure.measure, variant.scores) for measure in measures),
            ]
            for variant in result.variants
        ],
        title=f"{result.model.name}: {result.variants[0].samples} samples of each variant",
        caption="\n".join([*map(_legend, measures), *_few(result, measures), *_passed_over(result)]),
    )


def _legend(used: MeasureUsed) -> str:
    against = "" if used.reference is None else f", against {used.reference}"
    return f"{used.measure}: {used.title}{against}; {used.better} is better"


def _few(result: StudyResult, measures: Sequence[MeasureUsed]) -> list[str]:
    """Which scores of a table cannot be compared, and why."""
    scores = [variant.scores.get(used.measure) for variant in result.variants for used in measures]
    notes = dict.fromkeys(score.note for score in scores if score is not None and not score.reliable)
    return [f"{FEW} cannot be compared: {note or 'too few samples'}" for note in notes]


def _passed_over(result: StudyResult) -> list[str]:
    """Which files in the folders of references are no images that can be read."""
    return [
        f"{name}: {used.images} images, and {in_words(used.passed_over)} passed over"
        for name, used in result.references.items()
        if used.passed_over
    ]


def _score(measure: Measure, scores: dict[Measure, Score]) -> str:
    """A value, and below it its interval or deviation."""
    score = scores.get(measure)
    if score is None or score.value is None:
        return ABSENT
    value = f"{score.value:.{DIGITS}g}" + ("" if score.reliable else FEW)
    if score.low is not None and score.high is not None:
        return f"{value}\n{score.low:.{DIGITS}g}–{score.high:.{DIGITS}g}"
    return value if score.std is None else f"{value}\n±{score.std:.{DIGITS}g}"


def _search_sheet(search: SearchResult) -> Sheet:
    found = (
        f"threshold {search.threshold:.{DIGITS}g} removes {search.fraction:.0%}"
        if search.threshold is not None and search.fraction is not None
        else "no threshold was within the budget"
    )
    trials = [
        [
            f"{trial.threshold:.{DIGITS}g}",
            f"{trial.fraction:.0%}",
            f"{trial.value:.{DIGITS}g}" + ("" if search.reliable else FEW),
            "yes" if trial.within else "no",
        ]
        for trial in search.trials
    ]
    return Sheet(
        ["threshold", "removed", search.measure, "within"],
        trials,
        title=f"search by {search.measure}, budget {search.budget:g}: {found}",
        caption=f"the limit is {search.limit:.{DIGITS}g}" + ("" if search.reliable else f"\n{FEW} of too few samples"),
    )


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
