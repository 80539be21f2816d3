"""The job `figure`: a figure as PNG and SVG, of the condition vectors of a model, of its samples or of its training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from jobs.figure_results import AttributionNumbers, FigureNumbers, FigureTransformerResult, Numbers
from jobs.keys import canonical_json
from jobs.requests.figure import FigureRequest
from jobs.results import FigureResult, ModelUsed
from tailprune.figures.attribution import MOST_DRAWN, draw_attribution
from tailprune.figures.components import draw_histogram, draw_sparsity, draw_variance
from tailprune.figures.cosine import draw_cosine
from tailprune.figures.labelled_vectors import LabelledVectors, picked, spread
from tailprune.figures.style import Rendered, caption_of, render
from tailprune.figures.training import draw_training
from tailprune.figures.tsne import draw_tsne, tsne_positions
from tailprune.figures.vectors import draw_vectors
from tailprune.spec import InputError, MissingFileError
from workers.handler import Context
from workers.handlers.attribution import attributed, attribution_of
from workers.handlers.error_figure import error_figure
from workers.handlers.figure_numbers import (
    cosine_numbers,
    histogram_numbers,
    sparsity_numbers,
    training_numbers,
    tsne_numbers,
    variance_numbers,
    vectors_numbers,
)
from workers.handlers.removal_figure import removal_figure
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import Vectors, labelled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["UNIT", "handler", "put_figure"]

UNIT = "figures"


class FigureHandler:
    """Draws figures."""

    request = FigureRequest

    @torch.no_grad()
    def handle(self, run: Run, request: FigureRequest, source: Source, context: Context) -> Product[FigureResult]:
        """Draw the figure of a resolved request."""
        samples = 0
        numbers: Numbers | None
        if request.figure == "removal":
            figure, numbers, samples = removal_figure(run, request, source, context)
        elif request.figure == "error":
            run.step(0, 1, UNIT)
            figure, numbers = error_figure(run, request, source, context)
            run.step(1, 1, UNIT)
        else:
            run.phase = "drawing"
            run.step(0, 1, UNIT)
            if request.figure == "training":
                figure, numbers = _training_figure(source)
            elif request.figure == "attribution":
                figure, numbers = _attribution_figure(request, source, context)
            else:
                condition = context.models.conditions.get(source)
                vectors = Vectors.load(source, condition, request.conditions, context.conditions)
                figure, numbers = _vectors_figure(request, labelled(vectors, request.part or "c", request.timestep))
            run.step(1, 1, UNIT)
        rendered = render(figure)
        run.check()
        files = JobArtifacts(context.artifacts)
        result = FigureResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            figure=request.figure,
            caption=caption_of(figure),
            png=f"{request.figure}.png",
            svg=f"{request.figure}.svg",
            data=None if numbers is None else f"{request.figure}.json",
            samples=samples,
        )
        put_figure(files, result, rendered, numbers)
        context.count_samples(request.model, samples)
        return Product(result, files.artifacts)


def put_figure(
    files: JobArtifacts, result: FigureResult | FigureTransformerResult, rendered: Rendered, numbers: Numbers | None
) -> None:
    """Store the files that a result names.

    files: stores them.
    result: of the figure.
    rendered: the figure.
    numbers: those behind it; None where they are too many.
    """
    if numbers is not None and result.data is not None:
        document = FigureNumbers(figure=result.figure, caption=result.caption, model=result.model, data=numbers)
        files.put(result.data, canonical_json(document.model_dump()), "application/json")
    files.put(result.png, rendered.png, "image/png")
    files.put(result.svg, rendered.svg, "image/svg+xml")


def _vectors_figure(request: FigureRequest, vectors: LabelledVectors) -> tuple[Figure, Numbers | None]:
    """A figure of condition vectors, and the numbers behind it; None where they are too many."""
    seed, count = request.seed or 0, len(vectors.values)
    match request.figure:
        case "cosine":
            rows = None if request.classes is None else picked(count, request.classes, seed)
            limits = None if request.range is None else (request.range[0], request.range[1])
            return draw_cosine(vectors, rows, limits), cosine_numbers(vectors, rows)
        case "histogram":
            return draw_histogram(vectors), histogram_numbers(vectors)
        case "vectors":
            shown = min(request.classes or 1, count)
            drawn = spread(count, shown) if vectors.kind == "time" else picked(count, shown, seed)
            return draw_vectors(vectors, drawn), vectors_numbers(vectors, drawn)
        case "variance":
            return draw_variance(vectors), variance_numbers(vectors)
        case "sparsity":
            thresholds = request.thresholds or ()
            return draw_sparsity(vectors, thresholds), sparsity_numbers(vectors, thresholds)
        case "tsne":
            positions = tsne_positions(vectors, seed)
            return draw_tsne(vectors, seed, positions), tsne_numbers(vectors, positions)
    raise InputError(f"{request.figure!r} is not a figure of condition vectors")


def _attribution_figure(request: FigureRequest, source: Source, context: Context) -> tuple[Figure, Numbers | None]:
    """Which attribute the variance of the classes is of, and the shares that are drawn."""
    _, found, classes = attribution_of(request.attributes, source, context)
    components, directions = (each[:MOST_DRAWN] for each in attributed(found))
    numbers = AttributionNumbers(
        parts=list(found.parts),
        plain=found.plain.tolist(),
        weighted=found.weighted.tolist(),
        components=components,
        directions=directions,
    )
    return draw_attribution(found, source.entry.name, classes), numbers


def _training_figure(source: Source) -> tuple[Figure, Numbers | None]:
    """The figure of the training record beside the model's card, and its numbers.

    Raises InputError where the record cannot be read.
    """
    path, entry = source.entry.training, source.entry
    if path is None:
        raise MissingFileError(f"{entry.name} has no card, beside which the record of its training would be")
    try:
        curve = json.loads(path.read_text())["curve"]
        return draw_training(curve, entry.name, entry.facts.noise_time), training_numbers(curve)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path.name} of {entry.name} is no record of a training: {reason}") from error


handler = FigureHandler()
