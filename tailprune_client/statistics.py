"""Methods of a client that tell what is known of a model's condition vectors: each waits for what a job computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import httpx

from jobs.anatomy_results import AnatomyResult
from jobs.attribution_results import AttributionResult
from jobs.figure_results import FigureNumbers
from jobs.requests.cosine import Order
from jobs.requests.fields import AnyFigureName, Part
from jobs.requests.transformer_schedule import SchedulerName
from jobs.results import CosineMatrix, MetricsResult, OverTimeResult, RemovalResult
from jobs.transformer_results import MetricsTransformerResult, OverTimeTransformerResult
from tailprune.spec.prune import Block, By, Fill, Of, Side, When
from tailprune_client import jobs as of_jobs
from tailprune_client.answers import read, read_job
from tailprune_client.contents import tensor_reader
from tailprune_client.core import Session, ask, path_of, prefer
from tailprune_client.drivers import operation
from tailprune_client.effects import Call, Operation
from tailprune_client.errors import JobFailed, problem_of
from tailprune_client.fields import FigureFields
from tailprune_client.pictures import Picture
from tailprune_client.progress import Progress, hidden

if TYPE_CHECKING:
    import numpy as np

__all__ = ["StatisticsMethods"]

MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
PREFERRED_SECONDS = 25.0
"""How long an answer may wait for what is computed: less than proxies do."""
SHOWN_SECONDS = 2.0
"""The same where its progress is shown, which is seen only after that."""


class StatisticsMethods:
    """The methods of both clients that tell what is known of a model's condition vectors."""

    _session: Session
    _progress: Progress

    @operation
    def metrics(
        self,
        model: str,
        *,
        part: Part | None = None,
        timestep: float | None = None,
        conditions: str | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> Operation[MetricsResult]:
        """Statistics of a model's condition vectors: cosine, nPR, sparsity, variance.

        part: the condition `c` (the default), its input part `y`, or its time part `t`.
        timestep: the time of c; by default where sampling starts.
        conditions: the id of uploaded conditions, for a model that takes no labels.
        threshold: the magnitudes at which sparsity is measured.
        """
        query = {"part": part, "timestep": timestep, "conditions": conditions, "threshold": threshold}
        return read(MetricsResult, (yield from self._computed(path_of("metrics", model), query)))

    @operation
    def figure(
        self,
        model: str,
        figure: AnyFigureName,
        *,
        format: Literal["png", "svg"] = "png",
        **options: Unpack[FigureFields],
    ) -> Operation[Picture]:
        """A figure of a model: its condition vectors, samples under pruning (`removal`), or its training.

        figure: which one; of a large transformer `rank`, without options.
        format: of the picture.
        options: part, timestep, conditions: see `metrics`; classes: how many to draw; threshold: the magnitudes to
            prune at, or to mark; side: `tail` or `head`; attribute: see `attribution`; range: the cosines at the two
            ends of the colours; study: the id of a study, whose drifts `error` marks; seed.
        """
        accept = MEDIA_TYPES[format]
        answer = yield from self._computed(path_of("metrics", model, "figures", figure), options, accept)
        return Picture(answer.content, accept)

    @operation
    def figure_data(
        self, model: str, figure: AnyFigureName, **options: Unpack[FigureFields]
    ) -> Operation[FigureNumbers]:
        """The numbers behind a figure. options: those of `figure`."""
        answer = yield from self._computed(path_of("metrics", model, "figures", figure), options, "application/json")
        return read(FigureNumbers, answer)

    @operation
    def vectors(
        self,
        model: str,
        *,
        part: Part | Sequence[Part] | None = None,
        timestep: float | Sequence[float] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        conditions: str | None = None,
    ) -> Operation[dict[str, np.ndarray[Any, Any]]]:
        """A model's condition vectors, as arrays of NumPy, which has to be installed with safetensors.

        part: `c` (the default), `y`, `t`, or several. timestep: the times of c and t; by default where sampling starts.
        label: the classes; all by default. conditions: the id of uploaded conditions.

        Returns c (T, N, d), y (N, d), t (T, d), and timesteps, labels or conditions.
        """
        load = tensor_reader()
        query = {"part": part, "timestep": timestep, "label": label, "conditions": conditions}
        path = path_of("metrics", model, "vectors")
        answer = yield from self._computed(path, query, "application/octet-stream")
        return load(answer.content)

    @operation
    def over_time(
        self,
        model: str,
        *,
        points: int | None = None,
        threshold: float | Sequence[float] | None = None,
        conditions: str | None = None,
    ) -> Operation[OverTimeResult]:
        """Statistics of a model's condition vectors over a whole sampling run.

        points: at how many times. threshold: the magnitudes whose share of removed components is measured.
        conditions: see `metrics`.
        """
        query = {"points": points, "threshold": threshold, "conditions": conditions}
        return read(OverTimeResult, (yield from self._computed(path_of("metrics", model, "over-time"), query)))

    @operation
    def removal(
        self,
        model: str,
        *,
        threshold: float | Sequence[float] | None = None,
        side: Side | None = None,
        fill: Fill | None = None,
        when: When | None = None,
        count: int | None = None,
        step: int | Sequence[int] | None = None,
        threshold_by_step: Sequence[float | None] | None = None,
        block: Block | Sequence[Block] | None = None,
        keep: int | Sequence[int] | None = None,
        by: By | None = None,
        remove_fraction: float | Sequence[float] | None = None,
        keep_fraction: float | Sequence[float] | None = None,
        of: Of | None = None,
        label: int | str | Sequence[int | str] | None = None,
        conditions: str | None = None,
        row: int | Sequence[int] | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        timestep_shift: float | None = None,
        guidance_scale: float | None = None,
    ) -> Operation[RemovalResult]:
        """What prunes remove over a sampling run, step by step, without sampling.

        threshold, threshold_by_step, remove_fraction, keep, keep_fraction, by, of, side, fill: the prunes, as in
            `prune_sample`.
        when, count, step: their schedule. block: the blocks that see them.
        label, conditions, row, sampler, steps, timestep_shift, guidance_scale: the run.
        """
        by_step = (
            None if threshold_by_step is None else ["none" if each is None else each for each in threshold_by_step]
        )
        query = {
            "threshold": threshold, "side": side, "fill": fill, "when": when, "count": count, "keep": keep, "by": by,
            "step": step, "threshold_by_step": by_step, "block": block,
            "remove_fraction": remove_fraction, "keep_fraction": keep_fraction, "of": of,
            "label": label, "conditions": conditions, "row": row, "sampler": sampler, "steps": steps,
            "timestep_shift": timestep_shift,
            "guidance_scale": guidance_scale,
        }  # fmt: skip
        return read(RemovalResult, (yield from self._computed(path_of("metrics", model, "removal"), query)))

    @operation
    def attribution(self, model: str, *, attribute: str | Sequence[str] | None = None) -> Operation[AttributionResult]:
        """Which components and directions of a model's condition carry which attribute of its classes.

        attribute: what to call each word of the class names, such as `colour` and `shape`; or an attribute with the
            value of every class, `colour=red,red,blue`.
        """
        query = {"attribute": attribute}
        return read(AttributionResult, (yield from self._computed(path_of("metrics", model, "attribution"), query)))

    @operation
    def anatomy(self, model: str) -> Operation[AnatomyResult]:
        """What the AdaLN of a large transformer takes, what c depends on, and what could stand in its place.

        model: the name of a large transformer; `transformers` lists them.
        """
        return read(AnatomyResult, (yield from self._computed(path_of("models", model, "anatomy"), {})))

    @operation
    def transformer_metrics(
        self,
        model: str,
        *,
        part: Part | None = None,
        steps: int = 50,
        scheduler: SchedulerName | None = None,
        resolution: str | Sequence[str] | None = None,
        guidance: float | Sequence[float] | None = None,
        classes: int | Sequence[int] | None = None,
        population: str | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> Operation[MetricsTransformerResult]:
        """Statistics of the condition vectors of a large transformer over the times of a schedule, and of their parts.

        model: the name of a large transformer; `transformers` lists them.
        part: the condition `c` (the default), the time's part `t`, or the sum of all other parts, `y`.
        steps: at the times of how many. scheduler: whose times, `plain` ones or those of its `own` scheduler.
        resolution: such as `1024x768`, where the model takes sizes, or its own scheduler shifts times by them.
        guidance: the scales of a model that takes one; by default the pipeline's.
        classes: of a model that takes one; by default the one that stands for none.
        population: the id of uploaded pooled texts, of a model that takes one; by default zeros.
        threshold: the magnitudes at which sparsity is measured.
        """
        query = {
            "part": part, "steps": steps, "scheduler": scheduler, "resolution": resolution, "guidance": guidance,
            "class": classes, "population": population, "threshold": threshold,
        }  # fmt: skip
        return read(MetricsTransformerResult, (yield from self._computed(path_of("metrics", model), query)))

    @operation
    def transformer_over_time(
        self,
        model: str,
        *,
        points: int | None = None,
        resolution: str | Sequence[str] | None = None,
        guidance: float | Sequence[float] | None = None,
        classes: int | Sequence[int] | None = None,
        population: str | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> Operation[OverTimeTransformerResult]:
        """Statistics of the condition vectors of a large transformer at many times, from noise to data.

        points: at how many times. threshold: the magnitudes whose share of removed components is measured.
        model, resolution, guidance, classes, population: see `transformer_metrics`.
        """
        query = {
            "points": points, "resolution": resolution, "guidance": guidance, "class": classes,
            "population": population, "threshold": threshold,
        }  # fmt: skip
        answer = yield from self._computed(path_of("metrics", model, "over-time"), query)
        return read(OverTimeTransformerResult, answer)

    @operation
    def cosine(
        self,
        model: str,
        *,
        part: Part | None = None,
        timestep: float | None = None,
        conditions: str | None = None,
        order: Order | None = None,
    ) -> Operation[CosineMatrix]:
        """The cosines of all pairs of a model's condition vectors, of at most 256 classes.

        part, timestep, conditions: see `metrics`. order: of the classes; by number, likeness or name.
        """
        query = {"part": part, "timestep": timestep, "conditions": conditions, "order": order}
        answer = yield from self._computed(path_of("metrics", model, "cosine"), query, "application/json")
        return read(CosineMatrix, answer)

    @operation
    def cosines(
        self,
        model: str,
        *,
        part: Part | None = None,
        timestep: float | None = None,
        conditions: str | None = None,
        order: Order | None = None,
    ) -> Operation[dict[str, np.ndarray[Any, Any]]]:
        """The cosines of all pairs of any number of condition vectors, as arrays, for which NumPy and safetensors
        have to be installed.

        part, timestep, conditions, order: see `cosine`.

        Returns cosine (N, N), float16, and labels (N), those of its rows and columns.
        """
        load = tensor_reader()
        query = {"part": part, "timestep": timestep, "conditions": conditions, "order": order}
        answer = yield from self._computed(path_of("metrics", model, "cosine"), query, "application/octet-stream")
        return load(answer.content)

    def _computed(
        self, path: str, query: Mapping[str, Any], accept: str = "application/json"
    ) -> Operation[httpx.Response]:
        """The answer to a GET that is computed by a job, which is waited for."""
        wait = min(PREFERRED_SECONDS if self._progress is hidden else SHOWN_SECONDS, self._session.timeout / 2)
        call = Call("GET", path, query, {"Accept": accept, **prefer(int(wait))})
        while True:
            answer = yield from ask(self._session, call)
            if answer.status_code != httpx.codes.ACCEPTED:
                return answer
            try:
                yield from of_jobs.finished(self._session, read_job(answer), self._progress)
            except JobFailed as error:
                # The same as in an answer that waited for it.
                raise (problem_of(error.job) if error.job else error) from None
