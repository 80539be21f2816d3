"""What the command line says of a running service; what it does there, tests/tailprune_client has."""

from __future__ import annotations

import io
from threading import Event

import httpx
import pytest
from rich.console import Console

from jobs.problems import problem
from service.cli.client import Client
from service.cli.terminal import errors_shown
from tailprune_client import JobCancelled, ServiceAway
from tests.tailprune_client.stand_in import JOB, URL, Answer, job


def client_of(answer: Answer, console: Console | None = None) -> Client:
    """A client of the service that answers so."""
    return Client(URL, console or Console(file=io.StringIO()), transport=httpx.MockTransport(answer))


def test_a_service_that_does_not_answer_is_said_to_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.client.SILENT_SECONDS", 0)
    said = Said()

    def answer(request: httpx.Request) -> httpx.Response:
        assert said.anything.wait(timeout=60)
        return httpx.Response(200, json={"models": []})

    with client_of(answer, Console(file=said, width=80)) as client:
        client.models()
    assert said.getvalue() == "waiting for an answer from http://127.0.0.1:1\n"


class Said(io.StringIO):
    """A stream that tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        self.anything.set()
        return written


def test_a_job_that_is_no_longer_waited_for_is_said_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            raise KeyboardInterrupt
        return httpx.Response(200, json=job("running"))

    with client_of(answer) as client, pytest.raises(KeyboardInterrupt):
        client.job("0" * 26).wait()
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"job {JOB['id']} continues to run" in said
    assert f"`tailprune jobs cancel {JOB['id']} --url {URL}` stops it" in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("refused"), "no service answers at http://127.0.0.1:1 (refused): start one with "
         "`tailprune serve`, or give its address with --url"),
        (httpx.Response(404, json=problem("not-found", "nothing is here").public()),
         "http://127.0.0.1:1/models: nothing is here"),
        (httpx.Response(503, json=problem("unavailable", "try again in 5 seconds").public()),
         "The service cannot do this now: try again in 5 seconds"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_now_is_said_at_once(
    capsys: pytest.CaptureFixture[str], answer: httpx.Response | Exception, said: str
) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(Exception, match="1"), errors_shown(), client_of(answers) as client:
        client.models()
    assert capsys.readouterr().err == f"tailprune: {said}\n"


def test_a_service_is_waited_for_while_a_job_is_followed_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tailprune_client.drivers.time.sleep", pauses.append)
    answers = [httpx.Response(200, json=job("running")), httpx.Response(502), httpx.Response(502)]

    def answer(_: httpx.Request) -> httpx.Response:
        return answers.pop(0) if answers else httpx.Response(200, json=job("cancelled"))

    with client_of(answer) as client:
        found = client.job("0" * 26)
        with pytest.raises(JobCancelled):
            found.wait()
        assert len(pauses) == 1
        answers.append(httpx.Response(502))
        with pytest.raises(ServiceAway):
            client.models()
    assert len(pauses) == 1


def test_a_password_in_the_usual_address_is_in_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_URL", "http://me:secret@127.0.0.1:1")
    usual, other = Client("http://me:secret@127.0.0.1:1"), Client("http://me:secret@127.0.0.1:2")
    assert usual.command("jobs list") == "`tailprune jobs list`"
    assert other.command("jobs list") == "`tailprune jobs list --url http://127.0.0.1:2`"
