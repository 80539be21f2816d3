"""The job `figure`: a figure as PNG and SVG, from the condition vectors of a model, its samples or its training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from jobs.records import Job
from jobs.requests.figure import FigureRequest
from jobs.results import FigureResult, ModelUsed
from jobs.settings import Settings
from tailprune.figures.cosine import draw_cosine
from tailprune.figures.histogram import draw_histogram
from tailprune.figures.sparsity import draw_sparsity
from tailprune.figures.style import caption_of, render
from tailprune.figures.subject import Subject, picked, spread
from tailprune.figures.training import draw_training
from tailprune.figures.tsne import draw_tsne
from tailprune.figures.variance import draw_variance
from tailprune.figures.vectors import draw_vectors
from workers.context import Stores
from workers.handlers.removal_figure import removal_figure
from workers.lease import Product, Run
from workers.model_pool import Models, Source
from workers.outputs.variant import JobArtifacts
from workers.vectors import Vectors, times_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]

UNIT = "figures"


@torch.no_grad()
def draw(
    job: Job, request: FigureRequest, source: Source, models: Models, stores: Stores, settings: Settings, run: Run
) -> Product[FigureResult]:
    """The figure that a resolved request asks for. `run` hears of every step, and may raise to stop it."""
    samples = 0
    if request.figure == "removal":
        figure, samples = removal_figure(job, request, source, models, stores, settings, run)
    else:
        run.step(0, 1, UNIT)
        if request.figure == "training":
            figure = _of_training(source)
        else:
            figure = _of_vectors(request, _subject(request, source, models, stores))
        run.step(1, 1, UNIT)
    rendered = render(figure)
    run.check()
    shelf = JobArtifacts(stores.artifacts)
    result = FigureResult(
        model=ModelUsed(name=request.model, digest=source.identity.weights),
        figure=request.figure,
        caption=caption_of(figure),
        png=f"{request.figure}.png",
        svg=f"{request.figure}.svg",
        samples=samples,
    )
    shelf.put(result.png, rendered.png, "image/png")
    shelf.put(result.svg, rendered.svg, "image/svg+xml")
    return Product(result, shelf.artifacts)


def _of_vectors(request: FigureRequest, subject: Subject) -> Figure:
    """The figures of condition vectors."""
    seed, count = request.seed or 0, len(subject.values)
    match request.figure:
        case "cosine":
            return draw_cosine(subject, None if request.classes is None else picked(count, request.classes, seed))
        case "histogram":
            return draw_histogram(subject)
        case "vectors":
            shown = min(request.classes or 1, count)
            return draw_vectors(subject, spread(count, shown) if subject.of == "time" else picked(count, shown, seed))
        case "variance":
            return draw_variance(subject)
        case "sparsity":
            return draw_sparsity(subject, request.thresholds or ())
        case "tsne":
            return draw_tsne(subject, seed)
    raise ValueError(f"{request.figure!r} is no figure of condition vectors")


def _subject(request: FigureRequest, source: Source, models: Models, stores: Stores) -> Subject:
    """The vectors of the request's part, and what to call them."""
    part, entry = request.part or "c", source.entry
    vectors = Vectors.of(source, models.conditions.get(source), request.conditions, stores.conditions)
    values = vectors.of_part(part, request.timestep)
    if part == "t":
        names = [f"{time:.3g}" for time in times_of(entry.facts).tolist()]
        return Subject(values, request.model, part, None, "time", names)
    if request.conditions is not None:
        return Subject(values, request.model, part, request.timestep, "condition", [*map(str, range(len(values)))])
    named = entry.names
    names = [named[label] if label < len(named) else str(label) for label in range(len(values))]
    return Subject(values, request.model, part, request.timestep, "class", names)


def _of_training(source: Source) -> Figure:
    """The curve in the record beside the model's card. Raises ValueError where it is none."""
    path, entry = source.entry.training, source.entry
    if path is None:
        raise FileNotFoundError(f"{entry.name} has no card, beside which the record of its training would be")
    try:
        curve = json.loads(path.read_text())["curve"]
        return draw_training(curve, entry.name, entry.facts.noise_time)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path.name} of {entry.name} is no record of a training: {reason}") from error
