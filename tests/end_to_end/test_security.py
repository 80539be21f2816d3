"""Keys and limits of real processes: two of the service, the client, the command line, and other addresses."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.settings import Settings
from tailprune_client import Client, KeyNeeded, NotAllowed
from tests.end_to_end.stack import Stack
from tests.end_to_end.test_serve import COMMAND
from tests.service.keys import bearer, make_keys
from tests.tiny_model import NAME

RATE = 60


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, str]]]:
    """A stack that has keys, and the keys by name."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = make_keys(Settings(data_dir=folder / "data"), reader="read", submitter="submit", limited="read")
    stack = Stack(folder)
    stack.http.headers.update(bearer(keys["submitter"]))
    try:
        stack.start()
        yield stack, keys
    finally:
        stack.stop()


def test_the_client_sends_its_key_with_jobs_events_and_files(keyed: tuple[Stack, dict[str, str]]) -> None:
    stack, keys = keyed
    with Client(stack.url, key=keys["submitter"], progress=False) as client:
        job = client.prune_sample(NAME, threshold=0.5).wait()
        assert job.artifacts["grid.png"].bytes()[:4] == b"\x89PNG"
    with Client(stack.url, key=keys["reader"], progress=False, patience=0) as client:
        assert client.job(job.id).status == "succeeded"
        with pytest.raises(NotAllowed, match="'submit'"):
            client.prune_sample(NAME, threshold=0.4)
    with Client(stack.url, key="", progress=False, patience=0) as client, pytest.raises(KeyNeeded):
        list(client.jobs())


def test_commands_take_their_key_from_the_environment(keyed: tuple[Stack, dict[str, str]]) -> None:
    stack, keys = keyed

    def run(key: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TAILPRUNE_URL": stack.url, "TAILPRUNE_KEY": key}
        command = [*COMMAND, "metrics", NAME, "--json"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    done = run(keys["reader"])
    assert done.returncode == 0, done.stderr
    assert '"npr"' in done.stdout
    refused = run("")
    assert refused.returncode == 1
    assert "tailprune keys add" in refused.stderr


def test_a_rate_holds_over_two_processes(keyed: tuple[Stack, dict[str, str]]) -> None:
    stack, keys = keyed
    limits = {"TAILPRUNE_RATE": str(RATE)}
    with stack.another_service(**limits) as one, stack.another_service(**limits) as other:
        answers = [
            httpx.get(f"{(one, other)[n % 2]}/jobs", headers=bearer(keys["limited"]), trust_env=False)
            for n in range(RATE + 10)
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * RATE + [429] * 10
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


def test_a_service_without_keys_answers_no_address_of_a_network(tmp_path: Path) -> None:
    addresses = [each.address for of in psutil.net_if_addrs().values() for each in of if each.family == socket.AF_INET]
    outside = next((each for each in addresses if not each.startswith("127.")), None)
    if outside is None:
        pytest.skip("this machine has no address but its own")
    stack = Stack(tmp_path)
    port = httpx.URL(stack.url).port
    try:
        stack.redis.start()
        stack.service = stack._start("service", ["service.server", "--host", "0.0.0.0", "--port", str(port)], {})
        while not stack.is_ready():
            assert stack.service.process.poll() is None, stack.service.text
        assert stack.http.get("/jobs").status_code == 200
        refused = httpx.get(f"http://{outside}:{port}/jobs", trust_env=False)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:tailprune:problem:not-allowed")
        assert "tailprune keys add" in refused.json()["detail"]
    finally:
        stack.stop()
