"""How many cached `GET /metrics/{model}` a second does one service process answer, beside a bare FastAPI route?

The other side is a route that returns the same JSON from memory, and does nothing else, under uvicorn
itself. The same loop requests both, alternately. The service has the answer in memory too; at
every request it checks whether the model's files have changed, and writes a line to its log.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from benchmarks.report import Section, at_least, ratio, shown
from benchmarks.stacks import stack
from demo import ROOT

ROUNDS, SECONDS, CONNECTIONS = 5, 4.0, 8
PATH = "/metrics/shapes-sit"
HOST = "127.0.0.1"
ANSWER = "BENCHMARK_ANSWER"
"""The environment variable with the path of the bare application's answer."""
START_SECONDS = 30.0


def bare() -> FastAPI:
    """The other side: `uvicorn --factory benchmarks.cached_metrics:bare`."""
    app = FastAPI()
    answer = json.loads(Path(os.environ[ANSWER]).read_text())

    @app.get("/metrics/{model}")
    async def metrics(model: str) -> JSONResponse:
        return JSONResponse(answer)

    return app


def run() -> Section:
    """One table: requests a second of both, in turn."""
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    with stack() as ours:
        answer = httpx.get(ours.url + PATH, timeout=90.0, trust_env=False).raise_for_status().content
        with bare_service(answer) as bare_url:
            urls = {"bare": bare_url + PATH, "ours": ours.url + PATH}
            for url in urls.values():
                assert httpx.get(url, trust_env=False).content == answer, "both return the same JSON"
                asyncio.run(_rate(url, SECONDS / 4))  # the first requests of a process are slower
            for _ in range(ROUNDS):
                for side, url in urls.items():
                    rates[side].append(asyncio.run(_rate(url, SECONDS)))
    milliseconds = 1000 / statistics.median(rates["ours"]) - 1000 / statistics.median(rates["bare"])
    text = (
        "## Cached `GET /metrics/{model}`, against a bare FastAPI route\n\n"
        f"{len(answer) / 1000:.1f} kB of JSON, one process each, {CONNECTIONS} connections that stay open, asked "
        f"from the same machine; median of {ROUNDS} rounds of {SECONDS:g} s (least to most).\n\n"
        "| a bare route | `GET /metrics` | ratio | more time a request |\n|---|---|---|---|\n"
        f"| {shown(rates['bare'], _a_second)} | {shown(rates['ours'], _a_second)} "
        f"| {ratio(rates['ours'], rates['bare'])} | {milliseconds:.2f} ms |\n"
    )
    return Section(text, [at_least("cached `GET /metrics`, against a bare route", rates["ours"], rates["bare"], 0.6)])


@contextmanager
def bare_service(answer: bytes, count: int = 1) -> Iterator[str]:
    """Run the other side; its URL.

    answer: what it returns, JSON.
    count: how many processes.
    """
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "uvicorn", "benchmarks.cached_metrics:bare", "--factory"),
        *("--host", HOST, "--port", str(port), "--no-access-log", "--log-level", "warning"),
    ]
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(answer)
        file.flush()
        environment = {**os.environ, ANSWER: file.name}
        processes = ["--workers", str(count)] if count > 1 else []
        process = subprocess.Popen([*command, *processes], cwd=ROOT, env=environment)
        try:
            _await(f"http://{HOST}:{port}{PATH}", process)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
            process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"the bare application does not answer at {url}")


async def _rate(url: str, seconds: float) -> float:
    """Answered requests a second; each connection sends the next request as soon as it has an answer.

    HTTP is parsed no further than needed, so that the client takes less of the machine than what it measures.
    """
    at = httpx.URL(url)
    request = f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc.decode()}\r\n\r\n".encode()
    begun = time.perf_counter()

    async def ask() -> int:
        reader, writer = await asyncio.open_connection(at.host, at.port)
        count = 0
        while time.perf_counter() < begun + seconds:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
            if not head.startswith(b"HTTP/1.1 200 ") or length is None:
                raise SystemExit(f"{url} answers {head.decode()}")
            await reader.readexactly(int(length[1]))
            count += 1
        writer.close()
        await writer.wait_closed()
        return count

    answered = sum(await asyncio.gather(*(ask() for _ in range(CONNECTIONS))))
    return answered / (time.perf_counter() - begun)


def _a_second(value: float) -> str:
    return f"{value:.0f}/s"
