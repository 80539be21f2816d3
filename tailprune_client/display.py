"""How jobs look in a notebook: their pictures, and what was measured, as a table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from jobs.edit_results import EditResult
from jobs.figure_results import FigureTransformerResult
from jobs.records import FINISHED, JobView
from jobs.results import CompactResult, FigureResult, PruneSampleResult
from jobs.study_results import Score, StudyResult
from tailprune.spec.display import brief

__all__ = ["html_of", "line_of", "table"]

MOST_PICTURE_BYTES = 8 * 2**20
"""Larger pictures are left out: they become a part of the notebook."""
LEFT = 'style="text-align: left"'


def line_of(job: JobView) -> str:
    """A job in a line: what it is of, how it is, and its id."""
    done = ""
    if job.progress is not None and job.status not in FINISHED:
        done = f", {job.progress.done}/{job.progress.total} {job.progress.unit}"
    return f"{job.title or job.kind}: {job.status}{done}, id={job.id}"


def html_of(job: JobView, picture: Callable[[str], bytes | None]) -> str:
    """A job as HTML. picture: the bytes of an artifact; None if it cannot be read, or has over MOST_PICTURE_BYTES."""
    parts = [
        f"<p><strong>{escape(job.title or job.kind)}</strong>: {escape(_status(job))}<br><code>{job.id}</code></p>"
    ]
    name = _picture_of(job.result)
    content = picture(name) if name in job.links.artifacts else None
    if content is not None:
        data = b64encode(content).decode()
        parts.append(f'<img alt="{escape(name)}" style="max-width: 100%" src="data:image/png;base64,{data}">')
    if job.result is not None:
        parts.append(_table_of(job.result))
    return "".join(parts)


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as HTML, without colours of its own."""
    head = "".join(f"<th {LEFT}>{escape(each)}</th>" for each in headings)
    body = "".join(f"<tr>{''.join(f'<td {LEFT}>{escape(_cell(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _status(job: JobView) -> str:
    if job.problem is not None:
        return f"{job.status}: {job.problem.detail}"
    if job.progress is not None and job.status not in FINISHED:
        return f"{job.status}, {job.progress.done}/{job.progress.total} {job.progress.unit}"
    return job.status


def _picture_of(result: Any) -> str:
    """The name of the artifact that shows a result best; empty if none does."""
    match result:
        case (
            PruneSampleResult(grid=name)
            | EditResult(grid=name)
            | FigureResult(png=name)
            | FigureTransformerResult(png=name)
            | CompactResult(samples=name)
        ):
            return str(name)
        case StudyResult(exports=exports) if exports is not None:
            return exports.png or ""
    return ""


def _table_of(result: Any) -> str:
    if isinstance(result, PruneSampleResult):
        headings = ["variant", "removed", "nPR", "cosine", "drift", "PSNR", "SSIM"]
        return table(headings, [_variant_row(variant) for variant in result.variants])
    if isinstance(result, EditResult):
        headings = ["variant", "drift", "of the source", "of the target"]
        return table(
            headings,
            [[each.name, each.drift and each.drift.latent, each.source, each.target] for each in result.variants],
        )
    if isinstance(result, StudyResult):
        names = [used.measure for used in result.measures]
        rows = [[each.name, _share(each.removed), *_values(each.scores, names)] for each in result.variants]
        return table(["variant", "removed", *(used.title for used in result.measures)], rows)
    return str(result._repr_html_()) if hasattr(result, "_repr_html_") else f"<pre>{escape(repr(result))}</pre>"


def _variant_row(variant: Any) -> list[Any]:
    after, drift = variant.embedding, variant.drift
    return [
        variant.name,
        _share(variant.removed),
        after and after.npr_after,
        after and after.cosine_after,
        drift and drift.latent,
        drift and drift.psnr,
        drift and drift.ssim,
    ]


def _values(scores: Mapping[Any, Score], names: Sequence[str]) -> list[float | None]:
    return [scores[name].value if name in scores else None for name in names]


def _share(removed: Any) -> str:
    return "" if removed is None else f"{removed.fraction:.1%}"


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else brief(value)
