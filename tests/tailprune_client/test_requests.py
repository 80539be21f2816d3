"""What the client sends, and what it makes of answers: repeated requests, problems, newer services."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jobs.requests.extract import ExtractRequest
from jobs.results import PruneSampleResult
from tailprune.spec.prune import PruneSpec, Schedule
from tailprune_client import (
    AsyncClient,
    BadAddress,
    Client,
    InvalidRequest,
    JobCancelled,
    NotFound,
    ProblemError,
    ServiceAway,
    TooManyJobs,
    Unavailable,
    UnexpectedAnswer,
    UnknownJob,
)
from tailprune_client.core import pause_of
from tests.service.results import (
    ANATOMY,
    MATRIX,
    METRICS_TRANSFORMER,
    OVER_TIME,
    OVER_TIME_TRANSFORMER,
    RANK_NUMBERS,
    REMOVAL,
)
from tests.tailprune_client.stand_in import JOB, URL, Answer, client_of, job, refused

LISTED: dict[str, Any] = {
    "model": "tiny", "thresholds": None, "queue_position": None, "problem": None, "links": {"self": "", "events": ""},
}  # fmt: skip
"""What a job has in a list besides."""


class Recorded:
    """Answers with what it is given, the last of it again and again, and keeps the requests."""

    def __init__(self, *answers: Callable[[], httpx.Response] | httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(now, Exception):
            raise now
        return now if isinstance(now, httpx.Response) else now()


def test_a_request_has_the_fields_that_are_given_and_the_others_are_left_to_the_service() -> None:
    service = Recorded(httpx.Response(202, json=job("queued")))
    with client_of(service) as client:
        client.prune_sample("tiny", threshold=[0.1, 0.2], labels=range(2), schedule=Schedule("last", 3), seed=None)  # type: ignore[typeddict-item]
        client.compact("tiny", threshold=np.float32(0.5), labels=np.array([4, 5]))  # type: ignore[typeddict-item]
    assert [json.loads(request.content) for request in service.requests] == [
        {"model": "tiny", "threshold": [0.1, 0.2], "labels": [0, 1], "schedule": {"when": "last", "count": 3}},
        {"model": "tiny", "threshold": 0.5, "labels": [4, 5]},
    ]
    assert [request.url.path for request in service.requests] == ["/prune-sample", "/compact"]


def test_a_prune_is_sent_as_its_fields_that_are_given() -> None:
    service = Recorded(httpx.Response(202, json=job("queued")))
    prunes = [
        PruneSpec(keep=3, blocks=(0, "final")),
        PruneSpec(threshold_by_step=(0.1, None)),
        PruneSpec(threshold=0.1, schedule=Schedule("at", steps=(0, 3))),
    ]
    with client_of(service) as client:
        client.study("tiny", prunes=prunes)
    every = {"when": "every"}
    assert json.loads(service.requests[0].content)["prunes"] == [
        {"keep": 3, "schedule": every, "blocks": [0, "final"]},
        {"threshold_by_step": [0.1, None], "schedule": every},
        {"threshold": 0.1, "schedule": {"when": "at", "steps": [0, 3]}},
    ]


def test_steps_thresholds_by_step_and_blocks_are_repeated_in_a_query() -> None:
    service = Recorded(httpx.Response(200, json=REMOVAL))
    with client_of(service) as client:
        client.removal("tiny", threshold_by_step=[0.1, None], block=[0, "final"])
        client.removal("tiny", threshold=0.1, when="at", step=[0, 3])
    one, other = (request.url.params.multi_items() for request in service.requests)
    assert one == [("threshold_by_step", "0.1"), ("threshold_by_step", "none"), ("block", "0"), ("block", "final")]
    assert sorted(other) == [("step", "0"), ("step", "3"), ("threshold", "0.1"), ("when", "at")]


def test_a_request_of_another_job_is_sent_again() -> None:
    service = Recorded(httpx.Response(202, json=job("queued")))
    with client_of(service) as client:
        found = client.job("0" * 26)
        client.submit(found.request)
        client.submit(ExtractRequest(model="tiny", parts=["t"]), wait=30)
    assert [json.loads(request.content) for request in service.requests[1:]] == [
        {"model": "tiny"},
        {"model": "tiny", "parts": ["t"]},
    ]
    assert [request.headers.get("Prefer") for request in service.requests[1:]] == [None, "wait=30"]


def test_a_query_has_lists_and_nothing_that_is_not_given() -> None:
    service = Recorded(httpx.Response(404, json={}))
    with client_of(service, f"{URL}/prefix/") as client, pytest.raises(UnexpectedAnswer):
        client.metrics("a/b?c", part="c", threshold=(0.1, 0.2))
    assert service.requests[0].url.raw_path == b"/prefix/metrics/a%2Fb%3Fc?part=c&threshold=0.1&threshold=0.2"


def test_the_address_and_the_key_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_URL", f"{URL}/prefix")
    monkeypatch.setenv("TAILPRUNE_KEY", "secret")
    service = Recorded(httpx.Response(200, json={"status": "live"}))
    with Client(transport=httpx.MockTransport(service)) as client:
        client.health()
    with Client(URL, key="other", transport=httpx.MockTransport(service)) as client:
        client.health()
    assert [str(request.url) for request in service.requests] == [f"{URL}/prefix/health/live", f"{URL}/health/live"]
    assert [request.headers["Authorization"] for request in service.requests] == ["Bearer secret", "Bearer other"]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://there", "http://", "http://a:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadAddress, match="give one like http://127"):
        Client(url)


def test_a_job_is_found_by_its_address_too() -> None:
    service = Recorded(httpx.Response(200, json=JOB))
    with client_of(service) as client:
        for name in ("0" * 26, f"/jobs/{'0' * 26}", f"http://elsewhere/prefix/jobs/{'0' * 26}/events"):
            client.job(name)
    assert {request.url.path for request in service.requests} == {f"/jobs/{'0' * 26}"}


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_lead_to_another_path_is_no_id(name: str) -> None:
    service = Recorded(httpx.Response(200, json=JOB))
    with client_of(service) as client, pytest.raises(ValueError, match="is no name or id"):
        client.delete(name)
    assert service.requests == []


def test_a_service_that_cannot_take_a_job_is_asked_again_with_the_same_key(pauses: list[float]) -> None:
    full, away = refused("too-many-jobs", Retry_After="30"), refused("unavailable", Retry_After="5")
    service = Recorded(full, away, httpx.ReadError("cut"), httpx.Response(202, json=job("queued")))
    with client_of(service) as client:
        assert client.extract("tiny").status == "queued"
    assert pauses == [30, 5, 2]
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
    with client_of(service) as client:
        client.extract("tiny", idempotency_key="mine")
        client.extract("tiny")
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 3


def test_a_request_of_your_own_that_is_posted_has_a_key_too(pauses: list[float]) -> None:
    service = Recorded(refused("unavailable"), httpx.Response(202, json=job("queued")))
    with client_of(service) as client:
        client.request("POST", "/extract", content="{}")
        client.request("post", "/extract", content="{}")
        client.request("POST", "/extract", content="{}", headers={"idempotency-key": "mine"})
        client.request("GET", "/models")
    first, again, other, mine, read = (request.headers.get("Idempotency-Key") for request in service.requests)
    assert first == again != other
    assert (mine, read) == ("mine", None)


def test_the_time_of_a_proxy_after_which_to_ask_again_may_be_a_date(pauses: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20.5), usegmt=True)
    answers = [httpx.Response(503, headers={"Retry-After": each}) for each in (later, "soon")]
    with client_of(Recorded(*answers, httpx.Response(200, json={"models": []}))) as client:
        client.models()
    assert 15 < pauses[0] <= 20.5
    assert pauses[1] == 1


@pytest.mark.parametrize(("slug", "error"), [("too-many-jobs", TooManyJobs), ("unavailable", Unavailable)])
def test_patience_has_an_end(pauses: list[float], slug: Any, error: type[ProblemError]) -> None:
    service = Recorded(refused(slug, Retry_After="30"))
    with client_of(service, patience=20) as client, pytest.raises(error) as raised:
        client.models()
    assert (pauses, raised.value.retry_after) == ([], 30)


def test_a_service_that_never_answered_is_not_waited_for_and_one_that_did_is(pauses: list[float]) -> None:
    gone = httpx.ConnectError("connection refused")
    with client_of(Recorded(gone)) as client, pytest.raises(ServiceAway, match=r"connection refused.*tailprune serve"):
        client.models()
    assert pauses == []
    service = Recorded(httpx.Response(200, json={"models": []}), gone, gone, httpx.Response(200, json={"models": []}))
    with client_of(service) as client:
        assert client.models() == client.models() == []
    assert pauses == [0.5, 1]


def test_what_a_proxy_answers_for_a_service_that_is_away_is_waited_for(pauses: list[float]) -> None:
    service = Recorded(httpx.Response(502, text="<p>bad gateway</p>"), httpx.Response(200, json={"models": []}))
    with client_of(service) as client:
        assert client.models() == []
    with client_of(Recorded(httpx.Response(504)), patience=0) as client, pytest.raises(ServiceAway, match="504"):
        client.models()


@pytest.mark.parametrize(
    ("status", "state", "goes_on"), [(200, "running", True), (202, "running", False), (200, "cancelled", False)]
)
def test_a_job_that_was_cancelled_says_whether_it_goes_on_for_others(status: int, state: str, goes_on: bool) -> None:
    cancelled = httpx.Response(status, json=job(state))
    with client_of(Recorded(cancelled)) as client:
        assert client.cancel("0" * 26).goes_on == goes_on
    with client_of(Recorded(httpx.Response(200, json=job("running")), cancelled)) as client:
        found = client.job("0" * 26)
        assert not found.goes_on
        assert found.cancel().goes_on == found.goes_on == goes_on


def test_a_webhook_is_sent_with_a_request() -> None:
    service = Recorded(httpx.Response(202, json=job("queued")))
    with client_of(service) as client:
        client.extract("tiny", webhook="https://hooks.example.com/7", webhook_events=["started", "failed"])
    (request,) = service.requests
    assert json.loads(request.content) == {
        "model": "tiny",
        "webhook": "https://hooks.example.com/7",
        "webhook_events": ["started", "failed"],
    }


def test_what_a_lost_request_has_already_done_is_no_problem(pauses: list[float]) -> None:
    lost = httpx.ReadError("cut")
    with client_of(Recorded(lost, refused("unknown-model"))) as client:
        client.delete_model("tiny-compact-0")
    with client_of(Recorded(lost, refused("unknown-job"))) as client:
        client.delete("0" * 26)
    with client_of(Recorded(lost, refused("job-finished"), httpx.Response(200, json=job("cancelled")))) as client:
        assert client.cancel("0" * 26).status == "cancelled"
    with client_of(Recorded(httpx.Response(504), refused("unknown-job"))) as client:  # of a proxy, after the service
        client.delete("0" * 26)
    with client_of(Recorded(refused("unknown-job"))) as client, pytest.raises(UnknownJob):
        client.delete("0" * 26)
    never_sent = Recorded(
        httpx.Response(200, json={"models": []}), httpx.ConnectTimeout("late"), refused("unknown-job")
    )
    with client_of(never_sent) as client:
        client.models()
        with pytest.raises(UnknownJob):
            client.delete("0" * 26)


def test_an_address_that_leads_elsewhere_is_no_answer() -> None:
    elsewhere = Recorded(httpx.Response(308, headers={"Location": "https://127.0.0.1:1/jobs"}, text="<p>moved</p>"))
    with client_of(elsewhere) as client:
        for ask in (client.models, lambda: client.delete("0" * 26), lambda: client.figure("tiny", "cosine")):
            with pytest.raises(UnexpectedAnswer, match=r"leads to https://127\.0\.0\.1:1/jobs: give that address"):
                ask()


def test_a_pause_is_never_shorter_than_the_first_nor_too_long_to_compute(pauses: list[float]) -> None:
    busy = refused("unavailable", Retry_After="0")
    with client_of(Recorded(busy, httpx.Response(200, json={"models": []}))) as client:
        client.models()
    assert pauses == [0.5]
    assert pause_of(2000, None) >= 10


def test_a_request_that_cannot_be_sent_is_not_repeated(pauses: list[float]) -> None:
    service = Recorded(httpx.Response(200, json={"models": []}), httpx.LocalProtocolError("Illegal header value"))
    with client_of(service) as client:
        client.models()
        with pytest.raises(ServiceAway, match="Illegal header value"):
            client.models()
    assert pauses == []


def test_an_invalid_request_says_all_that_is_wrong() -> None:
    problem = {
        "type": "urn:tailprune:problem:invalid-request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "one thing is wrong",
        "errors": [{"location": "body.threshold", "message": "must not be negative", "code": "of a newer service"}],
        "instance": "/of/a/newer/service",
    }
    with client_of(Recorded(httpx.Response(422, json=problem))) as client, pytest.raises(InvalidRequest) as raised:
        client.prune_sample("tiny", threshold=-1)
    assert [(each.location, each.message) for each in raised.value.errors] == [
        ("body.threshold", "must not be negative")
    ]
    assert "body.threshold: must not be negative" in str(raised.value)


def test_a_problem_of_an_unknown_type_is_still_a_problem() -> None:
    problem = {"type": "urn:tailprune:problem:too-late", "title": "Too late", "status": 418, "detail": "it is over"}
    late = pytest.raises(ProblemError, match="Too late: it is over")
    with client_of(Recorded(httpx.Response(418, json=problem))) as client, late as raised:
        client.models()
    assert (raised.value.type, raised.value.status) == ("too-late", 418)


def test_an_address_with_nothing_of_the_service_is_named() -> None:
    nothing = pytest.raises(NotFound, match=f"{URL}/prefix/models: nothing is here")
    with client_of(Recorded(refused("not-found", "nothing is here")), f"{URL}/prefix") as client, nothing:
        client.models()


def test_fields_and_kinds_of_a_newer_service_are_taken() -> None:
    known = JOB | {"request": {"model": "tiny", "mood": "new"}, "priority": 7}
    unknown = JOB | {"kind": "paint", "request": {"model": "tiny", "brush": {"size": 3}}, "result": {"strokes": 4}}
    summary = {name: JOB[name] for name in ("id", "status", "progress", "created", "started", "finished", "problem")}
    listed = summary | LISTED | {"kind": "paint", "title": "t", "new": 1}
    service = Recorded(
        httpx.Response(200, json=known),
        httpx.Response(200, json=unknown),
        httpx.Response(200, json={"jobs": [listed], "next_cursor": None, "total": 1}),
    )
    with client_of(service) as client:
        assert client.job("0" * 26).request.model == "tiny"
        painted = client.job("0" * 26)
        assert (painted.kind, painted.request.brush, painted.result.strokes) == ("paint", {"size": 3}, 4)  # type: ignore[union-attr]
        assert [each.kind for each in client.jobs()] == ["paint"]


def test_what_an_older_service_does_not_have_yet_is_not_known() -> None:
    """With answers of a service of before jobs had thresholds and a place in their queue."""
    older = json.loads((Path(__file__).parent / "older_answers.json").read_text())
    with client_of(lambda request: httpx.Response(200, json=older[request.url.path])) as client:
        listed, found = list(client.jobs()), client.job("ID")
        assert [each.kind for each in listed] == ["metrics", "prune-sample"]
        assert (listed[1].thresholds, listed[1].queue_position, listed[1].title) == (None, None, found.title)
        assert isinstance(found.result, PruneSampleResult)
        assert client.metrics("shapes-sit").count == 100
        assert client.models()[0].ready == client.model("shapes-sit").ready
        assert client.ready().queued == 0


def test_an_answer_without_what_must_be_there_is_none_of_the_service() -> None:
    lacking = {name: value for name, value in JOB.items() if name != "created"}
    said = pytest.raises(UnexpectedAnswer, match=r"such as created \(Field required\)")
    with client_of(Recorded(httpx.Response(200, json=lacking))) as client, said:
        client.job("0" * 26)
    lacking = {name: value for name, value in JOB.items() if name != "finished"}
    with client_of(Recorded(httpx.Response(200, json=lacking))) as client:
        assert client.job("0" * 26).finished is None


def test_an_answer_that_is_not_of_the_service_is_said_to_be_none() -> None:
    for answer in (httpx.Response(200, text="<p>hello</p>"), httpx.Response(200, json=[]), httpx.Response(404)):
        with client_of(Recorded(answer)) as client, pytest.raises(UnexpectedAnswer, match="is this tailprune"):
            client.job("0" * 26)


def test_lists_are_read_page_by_page_as_far_as_they_are_wanted() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("cursor", 0))
        count = min(int(request.url.params["limit"]), 2)
        one = {name: JOB[name] for name in ("kind", "title", "status", "progress", "created", "started", "finished")}
        page = [one | LISTED | {"id": str(number) * 26} for number in range(first, first + count)]
        return httpx.Response(
            200, json={"jobs": page, "next_cursor": str(first + count) if first + count < 6 else None}
        )

    service = Recorded(lambda: answer(service.requests[-1]))
    with client_of(service) as client:
        assert [each.id[0] for each in client.jobs(status="succeeded", model="tiny")] == list("012345")
        assert [each.id[0] for each in client.jobs(limit=3)] == list("012")
        assert next(client.jobs()).id[0] == "0"
    assert [dict(request.url.params).get("limit") for request in service.requests] == ["200"] * 3 + ["3", "1", "200"]
    assert service.requests[0].url.params["status"] == "succeeded"


def test_what_a_job_computes_is_waited_for_and_asked_for_again(pauses: list[float]) -> None:
    service = Recorded(
        httpx.Response(202, json=job("running")),
        httpx.Response(204),
        httpx.Response(200, json=job("succeeded")),
        httpx.Response(200, content=b"<svg/>", headers={"Content-Type": "image/svg+xml"}),
    )
    with client_of(service) as client:
        picture = client.figure("tiny", "cosine", format="svg", range=[0.9, 1])
    assert picture == b"<svg/>"
    asked = [request.url.path.rpartition("/")[2] for request in service.requests]
    assert asked == ["cosine", "events", "0" * 26, "cosine"]
    assert service.requests[0].headers["Accept"] == "image/svg+xml"
    with client_of(Recorded(httpx.Response(202, json=job("cancelled")))) as client, pytest.raises(JobCancelled):
        client.metrics("tiny")


@pytest.mark.parametrize(("options", "wait"), [({}, 25), ({"timeout": 6}, 3), ({"progress": True}, 2)])
def test_an_answer_waits_for_what_is_computed_as_long_as_that_shows_nothing(options: Any, wait: int) -> None:
    service = Recorded(httpx.Response(200, json=OVER_TIME))
    with client_of(service, **{"progress": False} | options) as client:
        client.over_time("tiny")
    assert service.requests[0].headers["Prefer"] == f"wait={wait}"


def test_cosines_of_any_number_of_vectors_arrive_as_arrays() -> None:
    from safetensors.numpy import save

    content = save({"cosine": np.eye(300, dtype=np.float16), "labels": np.arange(300)})
    service = Recorded(httpx.Response(200, content=content))
    with client_of(service) as client:
        found = client.cosines("tiny", part="y", order="likeness")
    assert (found["cosine"].dtype, found["cosine"].shape, found["labels"][-1]) == (np.float16, (300, 300), 299)
    assert service.requests[0].url.raw_path == b"/metrics/tiny/cosine?part=y&order=likeness"
    assert service.requests[0].headers["Accept"] == "application/octet-stream"


def test_large_transformers_are_listed_apart_and_an_older_service_has_none() -> None:
    listed = {"name": "flux", "title": "FLUX", "ready": True, "missing": [], "obtain": None, "licence": "own"}
    listed |= {
        "source": "not stated",
        "links": {"anatomy": "/models/flux/anatomy", "rank": "/metrics/flux/figures/rank"},
    }
    for answer, names in (({"models": [], "transformers": [listed]}, ["flux"]), ({"models": []}, [])):
        with client_of(Recorded(httpx.Response(200, json=answer))) as client:
            assert [each.name for each in client.transformers()] == names


TSNE = {"names": ["a"], "labels": [0], "x": [0.5], "y": [0.5]}
NUMBERS: dict[str, tuple[Callable[[Client], Any], dict[str, Any]]] = {
    "/metrics/tiny/over-time?points=5&threshold=0.1": (
        lambda client: client.over_time("tiny", points=5, threshold=0.1),
        OVER_TIME,
    ),
    "/metrics/tiny/removal?threshold=0.1&when=last&count=2": (
        lambda client: client.removal("tiny", threshold=0.1, when="last", count=2),
        REMOVAL,
    ),
    "/models/flux/anatomy": (
        lambda client: client.anatomy("flux"),
        ANATOMY,
    ),
    "/metrics/flux?steps=28&resolution=64x32&guidance=1&guidance=3.5": (
        lambda client: client.transformer_metrics("flux", steps=28, resolution="64x32", guidance=[1, 3.5]),
        METRICS_TRANSFORMER,
    ),
    "/metrics/flux/over-time?points=5": (
        lambda client: client.transformer_over_time("flux", points=5),
        OVER_TIME_TRANSFORMER,
    ),
    "/metrics/flux/figures/rank": (
        lambda client: client.figure_data("flux", "rank"),
        RANK_NUMBERS,
    ),
    "/metrics/tiny/cosine?order=likeness": (
        lambda client: client.cosine("tiny", order="likeness"),
        MATRIX,
    ),
    "/metrics/tiny/figures/tsne?seed=3": (
        lambda client: client.figure_data("tiny", "tsne", seed=3),
        {"figure": "tsne", "caption": "c", "model": {"name": "tiny"}, "data": TSNE},
    ),
}
"""Of each address the method that asks for it, and an answer."""


@pytest.mark.parametrize("path", NUMBERS)
def test_numbers_are_asked_for_as_json(path: str) -> None:
    method, answer = NUMBERS[path]
    service = Recorded(httpx.Response(200, json=answer | {"of_a_newer_service": 1}))
    with client_of(service) as client:
        read = method(client)
    assert service.requests[0].url.raw_path.decode() == path
    assert service.requests[0].headers["Accept"] == "application/json"
    assert read.model.name == answer["model"]["name"]


def test_the_record_of_a_training_is_json_data() -> None:
    service = Recorded(httpx.Response(200, json={"steps": 200, "curve": []}))
    with client_of(service) as client:
        assert client.training("tiny") == {"steps": 200, "curve": []}
    assert service.requests[0].url.path == "/models/tiny/training"


def test_vectors_arrive_as_arrays() -> None:
    from safetensors.numpy import save

    content = save({"c": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "timesteps": np.zeros(1, np.float32)})
    service = Recorded(httpx.Response(200, content=content))
    with client_of(service) as client:
        vectors = client.vectors("tiny", part=["c", "y"], label=[0, 1])
    assert vectors["c"].shape == (1, 2, 3)
    assert service.requests[0].url.query == b"part=c&part=y&label=0&label=1"
    assert service.requests[0].headers["Accept"] == "application/octet-stream"


def test_conditions_are_uploaded_as_a_path_as_bytes_or_as_arrays(tmp_path: Path) -> None:
    info = {
        "id": "0" * 64,
        "count": 1,
        "inputs": {"video": [32, 512]},
        "family": "mdsgen",
        "bytes": 1,
        "links": {"self": ""},
    }
    service = Recorded(httpx.Response(201, json=info))
    path = tmp_path / "conditions.npz"
    path.write_bytes(b"of a file")
    with client_of(service) as client:
        assert client.upload(path).family == client.upload(str(path)).family == "mdsgen"
        client.upload(b"as bytes")
        client.upload({"video": np.ones((32, 512))})
    bodies = [request.content for request in service.requests]
    assert bodies[:3] == [b"of a file", b"of a file", b"as bytes"]
    assert np.load(io.BytesIO(bodies[3]))["video"].shape == (32, 512)


def test_the_methods_of_the_asynchronous_client_are_awaited() -> None:
    answers: dict[str, Answer] = {
        "/models": lambda _: httpx.Response(200, json={"models": []}),
        "/jobs": lambda _: httpx.Response(200, json={"jobs": [], "next_cursor": None}),
        "/extract": lambda _: httpx.Response(202, json=job("queued")),
        f"/jobs/{'0' * 26}": lambda _: httpx.Response(200, json=job("succeeded")),
        f"/jobs/{'0' * 26}/events": lambda _: httpx.Response(204),
        f"/jobs/{'0' * 26}/artifacts/vectors.safetensors": lambda _: httpx.Response(200, content=b"content"),
    }

    async def ask() -> None:
        transport = httpx.MockTransport(lambda request: answers[request.url.path](request))
        async with AsyncClient(URL, transport=transport) as client:
            assert await client.models() == []
            assert [each async for each in client.jobs()] == []
            started = await client.extract("tiny")
            assert await started.wait() is started
            assert started.status == "succeeded"
            assert [each async for each in started.events()] == []
            assert await started.artifacts["vectors.safetensors"].bytes() == b"content"
            with pytest.raises(KeyError, match="it has vectors"):
                started.artifacts["grid.png"]

    asyncio.run(ask())
