"""Schemathesis against the running service, with the contract: no server error, nothing undocumented."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.settings import Settings
from tests.redis_process import free_port

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
START_SECONDS = 20.0
FUZZ_SECONDS = 30


@pytest.fixture
def service_url(settings: Settings, redis_client: object, tmp_path: Path) -> Iterator[str]:
    """The URL of the service in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "REDIS_URL": settings.redis_url,
        "TAILPRUNE_DATA_DIR": str(settings.data_dir),
        "TAILPRUNE_REGISTRY": str(settings.registry),
        "TAILPRUNE_MAX_WAIT_SECONDS": "0.2",
        "TAILPRUNE_METRICS_WAIT_SECONDS": "0.2",
    }
    command = [sys.executable, "-m", "uvicorn", "service.app:app", "--port", str(port)]
    with (tmp_path / "service.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            assert process.poll() is None, (tmp_path / "service.log").read_text()
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.usefixtures("worker")
def test_the_running_service_keeps_to_its_contract(service_url: str, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(ROOT / "openapi.yaml"),
        "--url", service_url,
        "--checks", ",".join(CHECKS),
        "--max-time", str(FUZZ_SECONDS),
        "--max-examples", "30",
        "--request-timeout", "10",
        "--seed", "1",
        "--continue-on-failure",
        "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    log = (tmp_path / "service.log").read_text()
    assert "Traceback" not in log, log
    assert done.returncode == 0, done.stdout + done.stderr
