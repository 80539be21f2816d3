"""What the command line writes of a running service."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest
from rich.console import Console

from jobs.problems import problem
from jobs.records import JobView
from service.cli.api import ClientError
from service.cli.client import Client

JOB = {
    "id": "0" * 26,
    "kind": "extract",
    "status": "succeeded",
    "progress": None,
    "created": "2025-01-01T00:00:00Z",
    "started": None,
    "finished": None,
    "request": {"model": "tiny"},
    "result": None,
    "problem": None,
    "links": {"self": "/jobs/0", "events": "/jobs/0/events", "artifacts": {"vectors.safetensors": "/vectors"}},
}


def client_of(pieces: Iterator[bytes], digest: str = "") -> Client:
    """A client of a service that answers everything with these bytes, said to be of a digest."""
    client = Client("http://127.0.0.1:1", Console(file=io.StringIO()))
    tag = {"ETag": f'"{digest}"'} if digest else {}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers=tag, content=pieces))
    client._http = httpx.Client(base_url="http://127.0.0.1:1", transport=answer)
    return client


def broken() -> Iterator[bytes]:
    yield b"the first half"
    raise httpx.ReadError("the connection broke")


def test_a_model_is_removed_by_its_whole_name_whatever_is_in_it() -> None:
    asked: list[tuple[str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.raw_path))
        return httpx.Response(204)

    with client_of(iter([])) as client:
        client._http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
        client.remove_model("tiny-compact-0/1?2")
    assert asked == [("DELETE", b"/models/tiny-compact-0%2F1%3F2")]


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "vectors.safetensors"
    with client_of(iter([b"both ", b"halves"])) as client:
        assert client.save_as(JobView.model_validate(JOB), path.name, path) == path
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [(path.name, b"both halves")]


def test_a_file_that_does_not_arrive_whole_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    path.write_bytes(b"as it was")
    with client_of(broken()) as client, pytest.raises(ClientError, match="the connection broke"):
        client.save_as(JobView.model_validate(JOB), path.name, path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"as it was")]


def test_a_file_with_another_digest_than_the_service_names_is_not_kept(tmp_path: Path) -> None:
    path, digest = tmp_path / "vectors.safetensors", hashlib.sha256(b"as sent").hexdigest()
    with client_of(iter([b"as", b" sent"]), digest) as client:
        client.save_as(JobView.model_validate(JOB), path.name, path)
    with client_of(iter([b"as received"]), digest) as client, pytest.raises(ClientError, match="arrived damaged"):
        client.save_as(JobView.model_validate(JOB), path.name, path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"as sent")]


def test_a_service_that_does_not_answer_is_said_to_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.client.PATIENCE_SECONDS", 0)
    said = Said()

    def answer(request: httpx.Request) -> httpx.Response:
        assert said.anything.wait(timeout=60)
        return httpx.Response(200, json={"models": []})

    with Client("http://127.0.0.1:1", Console(file=said, width=80)) as client:
        client._http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
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


def test_an_address_with_nothing_of_the_service_is_named() -> None:
    nothing = problem("not-found", "nothing is at this path; /docs lists all paths").model_dump(mode="json")
    answer = httpx.MockTransport(lambda _: httpx.Response(404, json=nothing))
    with client_of(iter([])) as client:
        client._http = httpx.Client(base_url="http://127.0.0.1:1/prefix", transport=answer)
        with pytest.raises(ClientError, match=r"^http://127.0.0.1:1/prefix/models: nothing is at this path"):
            client.models()
