"""The figure `error`: the modulation error of several rules against the share removed, without sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import tailprune
from jobs.figure_results import ErrorLine, ErrorNumbers
from jobs.requests.figure import FigureRequest
from tailprune.condition_table import with_guidance_scale
from tailprune.figures.error import RULES, SHARES, DriftPoint, draw_error
from tailprune.figures.labelled_vectors import spread
from tailprune.modulation import measure_modulation
from tailprune.systems import SYSTEMS
from workers.handler import Context
from workers.lease import Run
from workers.model_pool import Source
from workers.sampling.inputs import SampleInputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["error_figure"]

MOST_SUBJECTS = 64
"""Of how many classes or conditions, evenly spaced, the errors are."""
MOST_TIMES = 16
"""At how many of the sampling steps, evenly spaced."""


def error_figure(run: Run, request: FigureRequest, source: Source, context: Context) -> tuple[Figure, ErrorNumbers]:
    """Draw the figure of a resolved request; return also its numbers.

    run: called as the work goes on; may raise to stop it.
    request: with the drifts to mark.
    source: the model.
    context: with the models and the conditions.
    """
    entry, defaults = source.entry, source.entry.defaults
    run.phase = "loading"
    metric, condition = context.models.metrics.get(source), context.models.conditions.get(source)
    samples = SampleInputs.load(request.conditions, context.conditions)
    inputs = samples.population or condition.all_inputs()
    count = len(next(iter(inputs.values())))
    chosen = samples.select(spread(count, min(count, MOST_SUBJECTS)))
    if condition.takes_guidance:
        chosen = with_guidance_scale(chosen, defaults.guidance_scale)
    family = SYSTEMS[entry.family]
    times = tailprune.sampling_times(family, defaults.sampler, defaults.steps, defaults.timestep_shift)[:, :1]
    spaced = torch.tensor(spread(len(times), min(len(times), MOST_TIMES)))
    run.phase = "measuring"
    errors: dict[str, list[float]] = {}
    for rule, prune in RULES.items():
        changes = measure_modulation(
            condition,
            chosen,
            [prune(share) for share in SHARES],
            times[spaced],
            samples.population,
            metric=metric,
            on_step=lambda *_: run.check(),
        )
        errors[rule] = [change.error for change in changes]
    drifts = request.measured or []
    numbers = ErrorNumbers(
        removed=list(SHARES),
        lines=[ErrorLine.model_validate({"rule": rule, "errors": values}) for rule, values in errors.items()],
        measured=drifts,
    )
    kind = "classes" if samples.features is None else "conditions"
    shown = f"{len(next(iter(chosen.values())))} of {count} {kind}" if count > MOST_SUBJECTS else f"{count} {kind}"
    text = (
        "The root mean square of the change of all shifts, scales and gates, relative to their part that depends on c, "
        f"at {len(spaced)} of the {len(times)} steps of {defaults.sampler}, pruned at each. A rule removes the "
        "components with the least of what it names first, and fills them with what it names second. Nothing was "
        "sampled" + ("; hollow: the drift of samples in a study." if drifts else ".")
    )
    figure = draw_error(
        errors,
        "Modulation error against the share removed",
        f"{request.model}, {shown}",
        text,
        [DriftPoint(drift.rule, drift.removed, drift.drift) for drift in drifts],
    )
    return figure, numbers
