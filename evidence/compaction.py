"""Ways to compact the shipped models, at equal width: `python -m evidence.compaction`.

Writes the table of `docs/compaction.md`, and the numbers behind it as `docs/evidence/compaction.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evidence import measuring
from evidence.measuring import STEPS, Whole, cell, compare
from tailprune import Compaction, compact
from tailprune.spec.compaction import CompactFill
from tailprune.spec.prune import Of

__all__ = ["KINDS", "Row", "main", "table"]

WIDTHS = (32, 20)


@dataclass(frozen=True)
class Row(measuring.Row):
    """A compaction of a model, and its samples."""

    most: int
    """The width that is compared."""
    width: int
    """The width that it has, which may be less."""
    adaln_removed: float
    """The share of AdaLN's parameters that are gone."""


def by_threshold(of: Of) -> Callable[[Whole, int], Compaction]:
    """Zero fill by the least threshold at which at most a width of components is kept in any vector."""

    def made(whole: Whole, most: int) -> Compaction:
        sizes = _greatest(whole, of).sort(descending=True).values.tolist()
        thresholds = ((sizes[keep - 1] + sizes[keep]) / 2 for keep in range(most, 0, -1))
        return _widest(most, (_compacted(whole, threshold=each, of=of) for each in thresholds))

    return made


def by_variance(fill: CompactFill) -> Callable[[Whole, int], Compaction]:
    """The largest number kept by variance that does not exceed a width, with columns of time."""

    def made(whole: Whole, most: int) -> Compaction:
        numbers = range(most, 0, -1)
        return _widest(most, (_compacted(whole, keep=keep, by="variance", fill=fill) for keep in numbers))

    return made


def _widest(most: int, tried: Iterable[Compaction]) -> Compaction:
    """The first compaction that is no wider: a union over times and vectors may be, or sizes may be equal."""
    return next(each for each in tried if each.width <= most)


KINDS: dict[str, Callable[[Whole, int], Compaction]] = {
    "threshold of c, zero": by_threshold("c"),
    "threshold of SiLU(c), zero": by_threshold("read"),
    "variance, mean": by_variance("mean"),
    "variance, refit": by_variance("refit"),
    "prediction, refit": lambda whole, most: _compacted(whole, keep=most, fill="refit"),
    "directions": lambda whole, most: _compacted(whole, keep=most, by="directions"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the ways to compact the shipped models, and write the table of docs/compaction.md."""
    compare("evidence.compaction", "compaction.md", Row, rows_of, table, steps=STEPS, arguments=arguments)


def rows_of(whole: Whole) -> Iterator[Row]:
    """A model compacted in every way, to every width."""
    for most in WIDTHS:
        for kind, make in KINDS.items():
            made = make(whole, most)
            before, after = made.adaln_parameters
            yield Row(whole.name, kind, whole.measure(made.system), most, made.width, 1 - after / before)


def table(rows: Sequence[Row], baselines: Mapping[str, str]) -> str:
    """The tables of the document. rows: all compactions; baselines: the accuracy of each whole model, in words."""
    widths = sorted({row.most for row in rows}, reverse=True)
    heads = " | ".join(f"width {most}" for most in widths)
    lines = [f"| model, whole | kind | {heads} |", "|---" * (2 + len(widths)) + "|"]
    for model, whole in baselines.items():
        for place, kind in enumerate(KINDS):
            cells = [cell(row.measured) for row in rows if (row.model, row.kind) == (model, kind)]
            lines.append(f"| {f'{model}, {whole}' if not place else ''} | {kind} | {' | '.join(cells)} |")
    lines += ["", f"| AdaLN's parameters removed | {heads} |", "|---" * (1 + len(widths)) + "|"]
    for kind in KINDS:
        shares = [[row.adaln_removed for row in rows if (row.kind, row.most) == (kind, most)] for most in widths]
        lines.append(f"| {kind} | {' | '.join(_span(each) for each in shares)} |")
    return "\n".join(lines)


def _span(shares: Sequence[float]) -> str:
    """The least and the greatest of some shares, in per cent; one number where they are equal."""
    least, most = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least}–{most} %"


def _greatest(whole: Whole, of: Of) -> Tensor:
    """The greatest magnitude of each component in any covered vector -> (d,)."""
    system = whole.system
    parts = [system.embed_inputs(system.all_inputs())]
    if whole.guided:
        parts.append(system.embed_inputs(system.null_inputs(1)))
    vectors = system.embed_time(whole.times.flatten().float()).unsqueeze(1) + torch.cat(parts)
    return (vectors if of == "c" else F.silu(vectors)).abs().amax((0, 1))


def _compacted(whole: Whole, **way: object) -> Compaction:
    return compact(
        whole.system,
        times=whole.times,
        inputs=whole.system.all_inputs(),
        guided=whole.guided,
        **way,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    main()
