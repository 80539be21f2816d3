"""Cosine and nPR over training: vectors become parallel, and concentrate in few components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tailprune.figures.style import PALETTE, new_figure, note, styled
from tailprune.spec import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_training"]

COSINES = {"cosine": "c = y + t", "cosine_y": "y alone"}
"""The lines of the first panel: their keys in the record, and their names in the legend."""


def draw_training(curve: Sequence[Mapping[str, float]], model: str, time: float) -> Figure:
    """Two panels over the training steps: the cosine of c and of y, and the nPR of c.

    curve: the record of a training, points with `step`, `cosine` and `npr`, and optionally `cosine_y`
    model: the name of the model, for the subtitle
    time: the time at which the vectors were measured

    Raises InputError if the curve has no points, or a point lacks a number.
    """
    _check(curve)
    steps = [point["step"] for point in curve]
    thousands = [step / 1000 for step in steps]
    last = curve[-1]
    with styled():
        figure = new_figure(
            "Condition vectors while training",
            f"{model}, over all classes at t = {time:g}, {steps[-1]:,.0f} steps",
            3.9,
        )
        parallel, few = figure.subplots(1, 2)
        drawn = [key for key in COSINES if all(key in point for point in curve)]
        for place, key in enumerate(drawn):
            parallel.plot(thousands, [point[key] for point in curve], color=PALETTE[place], label=COSINES[key])
        parallel.set_title("cosine, mean of pairs of classes", loc="left")
        parallel.set(ylabel="cosine", ylim=(min(0, *(point[key] for point in curve for key in drawn)), 1))
        parallel.legend(loc="best")
        few.plot(thousands, [point["npr"] for point in curve], color=PALETTE[0])
        few.set_title("nPR of c, mean of classes", loc="left")
        few.set_ylabel("nPR = PR / d")
        few.set_ylim(bottom=0)
        for axes in (parallel, few):
            axes.set_xlabel("training steps (thousands)")
            axes.set_xlim(left=0)
        note(
            figure,
            f"At the last step: cosine of c {last['cosine']:.4f}, nPR {last['npr']:.3f}. PR = (Σ|cᵢ|)² / Σcᵢ², "
            "d: the number of components.",
        )
    return figure


def _check(curve: Sequence[Mapping[str, float]]) -> None:
    """Raise InputError if the curve has no points, or a point lacks a number."""
    if not curve:
        raise InputError("the curve has no points")
    for place, point in enumerate(curve):
        missing = [name for name in ("step", "cosine", "npr") if name not in point]
        if missing:
            raise InputError(f"point {place} of the curve lacks {', '.join(missing)}")
