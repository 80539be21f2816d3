"""The job `figure`: a figure as PNG and SVG, of the condition vectors of a model, of its samples or of its training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from jobs.requests.figure import FigureRequest
from jobs.results import FigureResult, ModelUsed
from tailprune.figures.components import draw_histogram, draw_sparsity, draw_variance
from tailprune.figures.cosine import draw_cosine
from tailprune.figures.labelled_vectors import LabelledVectors, picked, spread
from tailprune.figures.style import caption_of, render
from tailprune.figures.training import draw_training
from tailprune.figures.tsne import draw_tsne
from tailprune.figures.vectors import draw_vectors
from tailprune.spec import InputError, MissingFileError
from workers.handler import Context
from workers.handlers.removal_figure import removal_figure
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import Vectors, times_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["handler"]

UNIT = "figures"


class FigureHandler:
    """Draws figures."""

    request = FigureRequest

    @torch.no_grad()
    def handle(self, run: Run, request: FigureRequest, source: Source, context: Context) -> Product[FigureResult]:
        """Draw the figure of a resolved request."""
        samples = 0
        if request.figure == "removal":
            figure, samples = removal_figure(run, request, source, context)
        else:
            run.step(0, 1, UNIT)
            if request.figure == "training":
                figure = _training_figure(source)
            else:
                figure = _vectors_figure(request, _labelled(request, source, context))
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
            samples=samples,
        )
        files.put(result.png, rendered.png, "image/png")
        files.put(result.svg, rendered.svg, "image/svg+xml")
        context.count_samples(request.model, samples)
        return Product(result, files.artifacts)


def _vectors_figure(request: FigureRequest, vectors: LabelledVectors) -> Figure:
    """A figure of condition vectors."""
    seed, count = request.seed or 0, len(vectors.values)
    match request.figure:
        case "cosine":
            rows = None if request.classes is None else picked(count, request.classes, seed)
            return draw_cosine(vectors, rows, None if request.range is None else (request.range[0], request.range[1]))
        case "histogram":
            return draw_histogram(vectors)
        case "vectors":
            shown = min(request.classes or 1, count)
            return draw_vectors(vectors, spread(count, shown) if vectors.kind == "time" else picked(count, shown, seed))
        case "variance":
            return draw_variance(vectors)
        case "sparsity":
            return draw_sparsity(vectors, request.thresholds or ())
        case "tsne":
            return draw_tsne(vectors, seed)
    raise InputError(f"{request.figure!r} is not a figure of condition vectors")


def _labelled(request: FigureRequest, source: Source, context: Context) -> LabelledVectors:
    """The vectors of the request's part, with their names."""
    part, entry = request.part or "c", source.entry
    vectors = Vectors.load(source, context.models.conditions.get(source), request.conditions, context.conditions)
    values = vectors.compute(part, request.timestep)
    if part == "t":
        names = [f"{time:.3g}" for time in times_of(entry.facts).tolist()]
        return LabelledVectors(values, request.model, part, None, "time", names)
    if request.conditions is not None:
        return LabelledVectors(
            values, request.model, part, request.timestep, "condition", [*map(str, range(len(values)))]
        )
    names = [entry.names[label] if label < len(entry.names) else str(label) for label in range(len(values))]
    return LabelledVectors(values, request.model, part, request.timestep, "class", names)


def _training_figure(source: Source) -> Figure:
    """The figure of the training record beside the model's card. Raises InputError where it cannot be read."""
    path, entry = source.entry.training, source.entry
    if path is None:
        raise MissingFileError(f"{entry.name} has no card, beside which the record of its training would be")
    try:
        curve = json.loads(path.read_text())["curve"]
        return draw_training(curve, entry.name, entry.facts.noise_time)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path.name} of {entry.name} is no record of a training: {reason}") from error


handler = FigureHandler()
