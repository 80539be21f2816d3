"""Learned masks beside the rules, on the shipped models at equal share: `python -m evidence.learned_masks`.

Writes the table of `docs/pruning.md`, and the numbers behind it as `docs/evidence/learned-masks.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evidence import measuring
from evidence.measuring import Measured, Whole, cell, compare
from tailprune import LearnedMask, Prune, compact, learn_mask

__all__ = ["KINDS", "Row", "main", "table"]

SHARES = (0.4, 0.66, 0.8, 0.9)
ITERATIONS = 150
STEPS = 10


@dataclass(frozen=True)
class Row(measuring.Row):
    """A prune of a model at a share, and its samples."""

    share: float


def _prune(make: Callable[[float], Prune]) -> Callable[[Whole, float], Measured]:
    return lambda whole, share: whole.measure(prune=make(share))


def _refit(whole: Whole, share: float) -> Measured:
    keep = round((1 - share) * whole.system.condition_dim)
    inputs = whole.system.all_inputs()
    made = compact(whole.system, times=whole.times, inputs=inputs, guided=whole.guided, keep=keep, fill="refit")
    return whole.measure(made.system)


KINDS: dict[str, Callable[[Whole, float], Measured]] = {
    "magnitude of c, zero": _prune(lambda share: Prune.remove_fraction(share)),
    "deviation, mean": _prune(lambda share: Prune.keep_fraction(1 - share, by="deviation")),
    "variance, mean": _prune(lambda share: Prune.keep_fraction(1 - share, by="variance")),
    "learned, mean": lambda whole, share: whole.measure(prune=learned(whole, share).prune),
    "prediction, refit": _refit,
}
"""The first two choose components vector by vector, `variance` time by time, the last two once for all."""


def learned(whole: Whole, share: float, iterations: int = ITERATIONS) -> LearnedMask:
    """The mask that is learned on a sample of each class, from other noise than is measured with."""
    return learn_mask(
        whole.system,
        whole.system.all_inputs(),
        share,
        sampler=whole.sampler,
        steps=whole.steps,
        guidance=whole.guidance,
        iterations=iterations,
        seed=1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare learned masks with the rules on the shipped models, and write the table of docs/pruning.md."""
    how = {"iterations": ITERATIONS}
    compare("evidence.learned_masks", "pruning.md", Row, rows_of, table, steps=STEPS, how=how, arguments=arguments)


def rows_of(whole: Whole) -> Iterator[Row]:
    """A model pruned by every rule, at every share."""
    for share in SHARES:
        for kind, measure in KINDS.items():
            yield Row(whole.name, kind, measure(whole, share), share)


def table(rows: Sequence[Row], baselines: Mapping[str, str]) -> str:
    """The table of the document. rows: all prunes; baselines: the accuracy of each whole model, in words."""
    shares = sorted({row.share for row in rows})
    lines = [f"| model, whole | kept by, fill | {' | '.join(f'{100 * share:.0f} % removed' for share in shares)} |"]
    lines.append("|---" * (2 + len(shares)) + "|")
    for model, whole in baselines.items():
        for place, kind in enumerate(KINDS):
            cells = [cell(row.measured) for row in rows if (row.model, row.kind) == (model, kind)]
            lines.append(f"| {f'{model}, {whole}' if not place else ''} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
