"""How many cached `GET /metrics/{model}` a second does one service process answer, beside a bare FastAPI route?

The other side is a route that returns the same JSON from memory, and does nothing else, under uvicorn
itself. The same loop requests both, alternately. The service has the answer in memory too; at
every request it checks whether the model's files have changed, and writes a line to its log. A second service does the
same with keys and limits: each request has a key, and is counted.
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
from service.keys import KeyFile

ROUNDS, SECONDS, CONNECTIONS = 5, 4.0, 8
PATH = "/metrics/shapes-sit"
KEYS, RATE = 20, 10_000_000
"""Of the service that has keys and limits."""
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
    rates: dict[str, list[float]] = {"bare": [], "ours": [], "guarded": []}
    with tempfile.TemporaryDirectory() as folder, stack() as ours:
        keys = KeyFile(Path(folder) / "keys.toml")
        key = [keys.add(f"key-{n}", "read") for n in range(KEYS)][-1]
        limits = {"TAILPRUNE_KEYS": str(keys.path), "TAILPRUNE_RATE": str(RATE), "TAILPRUNE_MAX_CONCURRENT": "100"}
        answer = httpx.get(ours.url + PATH, timeout=90.0, trust_env=False).raise_for_status().content
        with bare_service(answer) as bare_url, stack(1, **limits) as guarded:
            urls = {"bare": bare_url + PATH, "ours": ours.url + PATH, "guarded": guarded.url + PATH}
            for url in urls.values():
                found = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=90.0, trust_env=False)
                assert found.content == answer, "all return the same JSON"
                asyncio.run(_rate(url, SECONDS / 4, key))  # the first requests of a process are slower
            for _ in range(ROUNDS):
                for side, url in urls.items():
                    rates[side].append(asyncio.run(_rate(url, SECONDS, key)))
    bare, *both = (1000 / statistics.median(rates[side]) for side in ("bare", "ours", "guarded"))
    more = [f"{each - bare:.2f} ms" for each in both]
    text = (
        "## Cached `GET /metrics/{model}`, against a bare FastAPI route\n\n"
        f"{len(answer) / 1000:.1f} kB of JSON, one process each, {CONNECTIONS} connections that stay open, asked "
        f"from the same machine; median of {ROUNDS} rounds of {SECONDS:g} s (least to most).\n\n"
        f"With keys and limits the service knows {KEYS} keys, and counts requests a minute and at a time.\n\n"
        "| | answers | ratio | more time a request |\n|---|---|---|---|\n"
        f"| a bare route | {shown(rates['bare'], _a_second)} | | |\n"
        f"| `GET /metrics` | {shown(rates['ours'], _a_second)} | {ratio(rates['ours'], rates['bare'])} | {more[0]} |\n"
        f"| with keys and limits | {shown(rates['guarded'], _a_second)} | {ratio(rates['guarded'], rates['bare'])} "
        f"| {more[1]} |\n"
    )
    return Section(
        text,
        [
            at_least("cached `GET /metrics`, against a bare route", rates["ours"], rates["bare"], 0.6),
            at_least("the same with keys and limits", rates["guarded"], rates["bare"], 0.6),
        ],
    )


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


async def _rate(url: str, seconds: float, key: str) -> float:
    """Answered requests a second; each connection sends the next request as soon as it has an answer.

    HTTP is parsed no further than needed, so that the client takes less of the machine than what it measures.
    """
    at = httpx.URL(url)
    head = f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nAuthorization: Bearer {key}\r\n\r\n"
    request = head.encode()
    begun = time.perf_counter()

    async def ask() -> int:
        reader, writer = await asyncio.open_connection(at.host, at.port)
        count = 0
        while time.perf_counter() < begun + seconds:
            writer.write(request)
            answered = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", answered)
            if not answered.startswith(b"HTTP/1.1 200 ") or length is None:
                raise SystemExit(f"{url} answers {answered.decode()}")
            await reader.readexactly(int(length[1]))
            count += 1
        writer.close()
        await writer.wait_closed()
        return count

    answered = sum(await asyncio.gather(*(ask() for _ in range(CONNECTIONS))))
    return answered / (time.perf_counter() - begun)


def _a_second(value: float) -> str:
    return f"{value:.0f}/s"
