"""Schemathesis against the running service, with the contract: no server error, nothing undocumented.

`FUZZ_SECONDS` is how long it goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests.service.keys import make_keys
from tests.service.server import ROOT, Server, running_service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "30"))


@pytest.fixture
def key(settings: Settings) -> str:
    """A key that may do everything."""
    return make_keys(settings, admin="admin")["admin"]


@pytest.fixture
def service(settings: Settings, redis_client: object, key: str, tmp_path: Path) -> Iterator[Server]:
    """The service in a process of its own, which has keys and limits, and waits for no job."""
    waits = {"TAILPRUNE_MAX_WAIT_SECONDS": "0.2", "TAILPRUNE_METRICS_WAIT_SECONDS": "0.2"}
    limits = {"TAILPRUNE_RATE": "1000000", "TAILPRUNE_MAX_CONCURRENT": "100"}
    with running_service(settings, tmp_path, **waits, **limits) as server:
        yield server


@pytest.mark.usefixtures("worker")
def test_the_running_service_keeps_to_its_contract(service: Server, key: str, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(ROOT / "openapi.yaml"),
        "--url", service.url,
        "--header", f"Authorization: Bearer {key}",
        "--checks", ",".join(CHECKS),
        "--max-time", str(FUZZ_SECONDS),
        "--max-examples", "30",
        "--request-timeout", "10",
        "--seed", "1",
        "--continue-on-failure",
        "--no-color",
        "--report", "ndjson", "--report-ndjson-path", "report",
    ]  # fmt: skip
    hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.contract_hooks", "PYTHONPATH": str(ROOT)}
    timeout = FUZZ_SECONDS + 120
    done = subprocess.run(command, cwd=tmp_path, env=hooks, capture_output=True, text=True, timeout=timeout)
    log = service.log.read_text()
    assert "Traceback" not in log, log
    assert key not in log
    assert done.returncode == 0, done.stdout + done.stderr
