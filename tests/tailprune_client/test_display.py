"""How jobs and figures look where they are printed, and the progress of jobs."""

from __future__ import annotations

import builtins
import io
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from jobs.records import JOBS, KINDS, JobView
from tailprune_client import Picture
from tailprune_client.display import MOST_PICTURE_BYTES
from tailprune_client.following import Update
from tailprune_client.progress import shown_by
from tests.service.results import (
    ANATOMY,
    ATTRIBUTION,
    COMPACT,
    COMPACT_TRANSFORMER,
    EDITED,
    EXTRACT,
    FIGURE,
    FIGURE_TRANSFORMER,
    METRICS,
    METRICS_TRANSFORMER,
    OVER_TIME,
    OVER_TIME_TRANSFORMER,
    PAIRS,
    PRUNE_SAMPLE,
    REGISTERED,
    REMOVAL,
    STUDY,
)
from tests.tailprune_client.stand_in import client_of, job, refused

PRUNED = PRUNE_SAMPLE["variants"][0] | {
    "name": "tail 0.5",
    "removed": STUDY["variants"][1]["removed"],
    "embedding": STUDY["variants"][1]["embedding"],
    "drift": {"latent": 0.125, "psnr": 31.5, "ssim": None},
}
DESCRIBED = ("family", "parameters", "condition_dim", "latent_shape", "classes")
ADDED = {name: REGISTERED[name] for name in DESCRIBED} | {
    "model": {"name": "new", "digest": "d"}, "size": None, "null_condition": True, "assumptions": []
}  # fmt: skip
RESULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prune-sample": ({"threshold": 0.5}, PRUNE_SAMPLE | {"variants": [*PRUNE_SAMPLE["variants"], PRUNED]}),
    "edit": ({"source": [0], "target": [1]}, EDITED),
    "anatomy": ({}, ANATOMY),
    "attribution": ({}, ATTRIBUTION),
    "study": ({}, STUDY),
    "compact": ({"keep": 3}, COMPACT),
    "compact-transformer": ({"steps": 28}, COMPACT_TRANSFORMER),
    "extract": ({}, EXTRACT),
    "metrics": ({}, METRICS),
    "figure": ({"figure": "cosine"}, FIGURE),
    "figure-transformer": ({"figure": "rank"}, FIGURE_TRANSFORMER),
    "over-time": ({}, OVER_TIME),
    "metrics-transformer": ({}, METRICS_TRANSFORMER),
    "over-time-transformer": ({}, OVER_TIME_TRANSFORMER),
    "removal": ({"threshold": [0.5]}, REMOVAL),
    "cosine": ({}, PAIRS | {"artifact": "cosine.safetensors", "matrix": None}),
    "register": ({"name": "new", "source": "new.safetensors"}, ADDED),
}
"""A request and a result of each kind of job."""


def picture(size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "PNG")
    return file.getvalue()


def pictured(kind: str = "prune-sample") -> dict[str, Any]:
    """A job of a kind, with pictures."""
    asked, result = RESULTS[kind]
    model = {} if kind == "register" else {"model": "tiny"}
    names = ["grid.png", "cosine.png", "rank.png", "study.png", "samples.png"]
    made = job("succeeded", kind=kind, title=f"{kind} of <tiny>", request=model | asked, result=result)
    return made | {"links": {"self": "", "events": "", "artifacts": dict.fromkeys(names, "/")}}


def shown(kind: str = "prune-sample", content: bytes = b"", **fields: Any) -> str:
    """A job in a notebook, whose files all have this content."""
    made = pictured(kind) | fields

    def answer(request: httpx.Request) -> httpx.Response:
        if "artifacts" in request.url.path:
            return httpx.Response(200, content=content)
        return httpx.Response(200, json=made)

    with client_of(answer) as client:
        return client.job("0" * 26)._repr_html_()


def test_a_job_shows_its_picture_and_a_table_in_a_notebook() -> None:
    html = shown(content=picture())
    assert "prune-sample of &lt;tiny&gt;</strong>: succeeded" in html
    assert re.search(r'<img alt="grid.png" [^>]*src="data:image/png;base64,iVBOR', html)
    cells = re.findall(r"<t[hd] [^>]*>([^<]*)<", html)
    assert cells[:7] == ["variant", "removed", "nPR", "cosine", "drift", "PSNR", "SSIM"]
    assert cells[7:] == ["baseline", *[""] * 6, "tail 0.5", "50.0%", "0.05", "0.99", "0.125", "31.5", ""]


def test_a_study_shows_its_scores_in_a_notebook() -> None:
    html = shown("study", picture())
    assert "<img" in html
    cells = re.findall(r"<t[hd] [^>]*>([^<]*)<", html)
    assert cells[:3] == ["variant", "removed", "Fréchet distance (shapes-classifier)"]
    assert cells[-7:] == ["tail 0.1", "50.0%", "2.5", "0.75", "0.96", "0.125", ""]


@pytest.mark.parametrize("kind", RESULTS)
def test_the_result_of_every_kind_is_a_table_in_a_notebook(kind: str) -> None:
    assert KINDS.keys() == RESULTS.keys()
    assert "<table>" in shown(kind)


def test_a_picture_that_is_too_large_is_left_out() -> None:
    assert "<img" not in shown(content=bytes(MOST_PICTURE_BYTES + 1))


def test_a_picture_that_is_said_to_be_too_large_is_not_received() -> None:
    received: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            received.append(b"piece")
            yield received[-1]

    large = httpx.Response(200, content=pieces(), headers={"Content-Length": str(MOST_PICTURE_BYTES + 1)})
    made = pictured()
    answers = {f"/jobs/{'0' * 26}": httpx.Response(200, json=made)}
    with client_of(lambda request: answers.get(request.url.path, large)) as client:
        assert "<img" not in client.job("0" * 26)._repr_html_()
    assert received == []


def test_a_job_is_shown_by_a_client_that_was_closed_and_by_one_whose_service_is_away(pauses: list[float]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return refused("unavailable") if "artifacts" in request.url.path else httpx.Response(200, json=pictured())

    with client_of(answer) as client:
        found = client.job("0" * 26)
        assert "<table>" in found._repr_html_()
    assert pauses == [], "nobody waits for a picture"
    assert "<table>" in found._repr_html_()


def test_a_job_that_has_failed_says_why() -> None:
    why = {"type": "urn:tailprune:problem:failed", "title": "Failed", "status": 422, "detail": "not <finite>"}
    assert "failed: not &lt;finite&gt;" in shown(status="failed", result=None, problem=why)


def test_a_job_is_a_line_where_it_is_printed() -> None:
    running = job("running", progress={"done": 12, "total": 50, "unit": "steps"})
    client = client_of(lambda _: httpx.Response(200, json=running))
    assert repr(client.job("0" * 26)) == f"Job(extract of tiny: running, 12/50 steps, id={'0' * 26})"
    assert repr(client) == "Client('http://127.0.0.1:1')"
    assert repr(client.job("0" * 26).artifacts) == "<1 files: vectors.safetensors>"


def test_a_figure_is_shown_by_a_notebook_as_what_it_is() -> None:
    png, svg = Picture(picture(), "image/png"), Picture(b"<svg/>", "image/svg+xml")
    assert png._repr_mimebundle_()["image/png"].startswith("iVBOR")
    assert svg._repr_mimebundle_()["image/svg+xml"] == "<svg/>"
    assert png.image().size == (8, 8)


def view(status: str, done: int | None = None) -> JobView:
    progress = None if done is None else {"done": done, "total": 9, "unit": "steps"}
    return JOBS["extract"].model_validate(job(status, progress=progress))


def test_a_bar_moves_with_the_job_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with shown_by(True)(view("queued")) as show:
        for update in (view("running"), view("running", 3), view("running", 9), view("succeeded")):
            show(Update(update))
    said = stream.getvalue()
    assert "extract queued" in said
    assert "extract: 100%" in said or "9/9" in said or "3/9" in said


def test_without_tqdm_and_where_nobody_looks_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # which another test may have imported
    with shown_by(None)(view("queued")) as show:
        show(Update(view("running", 3)))
    real = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    with shown_by(True)(view("queued")) as show:
        show(Update(view("running", 3)))
    assert stream.getvalue() == ""
