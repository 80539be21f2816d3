"""What is raised: the same whenever it is found out, kept when it is copied, and without what is secret."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import httpx
import pytest

from jobs.problems import Slug, problem
from jobs.records import JOBS
from tailprune_client import (
    BadAddress,
    Client,
    InternalError,
    JobFailed,
    ProblemError,
    ServiceAway,
    TailpruneError,
    UnexpectedAnswer,
    WorkerLost,
)
from tailprune_client.answers import OtherJob
from tailprune_client.errors import job_error
from tests.tailprune_client.stand_in import client_of, job, refused

FAILED = job("failed", problem=problem("worker-lost", "three were lost").public())
ERRORS: dict[str, TailpruneError] = {
    "address": BadAddress("nowhere"),
    "away": ServiceAway("http://127.0.0.1:1", "refused"),
    "strange": UnexpectedAnswer("is this tailprune?"),
    "problem": ProblemError(problem("unknown-model", "no model is named 'x'")),
    "job": job_error(JOBS["extract"].model_validate(FAILED)),
    "other job": job_error(OtherJob.model_validate(FAILED | {"kind": "paint"})),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_same_after_they_were_pickled_or_copied(name: str) -> None:
    error = ERRORS[name]
    error.retry_after = 7.0
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (type(other), str(other), other.retry_after) == (type(error), str(error), 7.0)
        assert getattr(other, "job", None) == getattr(error, "job", None)


@pytest.mark.parametrize(
    ("slug", "kind"), [("internal", InternalError), ("worker-lost", WorkerLost), ("failed", JobFailed)]
)
def test_a_computation_that_fails_raises_the_same_however_long_it_took(slug: Slug, kind: type[ProblemError]) -> None:
    failed = job("failed", problem=problem(slug, "it broke").public())
    under_way = [httpx.Response(202, json=job("running")), httpx.Response(204), httpx.Response(200, json=failed)]
    raised = []
    for answers in ([refused(slug, "it broke")], under_way):
        with client_of(lambda _, rest=answers: rest.pop(0)) as client, pytest.raises(ProblemError) as caught:  # type: ignore[misc]
            client.metrics("tiny")
        raised.append((type(caught.value), caught.value.type, caught.value.detail))
    assert raised == [(kind, slug, "it broke")] * 2


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://me:secret@127.0.0.1:1/prefix", "http://127.0.0.1:1/prefix"),
        ("http://me:sec/ret@127.0.0.1:1", ""),
        ("ftp://me:secret@there", "ftp://there"),
    ],
)
def test_a_password_in_the_address_is_sent_and_never_shown(given: str, shown: str) -> None:
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        if request.url.path.endswith("/away"):
            raise httpx.ReadError("cut")
        if request.url.path.endswith("/problem"):
            return refused("not-found")
        if request.url.path.endswith("/jobs/1"):
            return httpx.Response(200, json=job("running"))
        return httpx.Response(200, text="<p>hello</p>")

    said: list[str] = []
    try:
        with client_of(answer, given, patience=0) as client:
            said += [
                repr(client),
                client.url,
                client.job("1").url,
                repr(client.job("1").artifacts["vectors.safetensors"]),
            ]
            for ask in (
                client.models,
                lambda: client.request("GET", "/away"),
                lambda: client.request("GET", "/problem"),
            ):
                with pytest.raises(TailpruneError) as raised:
                    ask()
                said += [str(raised.value), repr(raised.value)]
        assert set(sent) == {httpx.BasicAuth("me", "secret")._auth_header}
    except BadAddress as error:
        said += [str(error), repr(error)]
    assert all(shown in one for one in said[:2])
    assert not any("sec" in one or "me:" in one for one in said)


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_KEY", " of a file\n")
    with Client() as client:
        assert client._session.headers["Authorization"] == "Bearer of a file"
    for key in ("sec\nret", "sécret"):
        with pytest.raises(ValueError, match="use printable ASCII") as raised:
            Client(key=key)
        assert key not in str(raised.value)
