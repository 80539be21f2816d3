"""How much does the service take: cached requests, thousands of followers of one job, and a flood of jobs?

`wrk` asks one URL over 64 connections for `--seconds`; followers and flood are clients of this process, each with a
connection of its own. The service is one process, then two, with two workers; the bare FastAPI route of
`cached_metrics` has as many. Memory is the resident memory of all processes of a part, before and after.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.cached_metrics import PATH, bare_service
from benchmarks.processes import Processes, processes
from benchmarks.report import Aim, Section, not_run

COUNTS = (1, 2)
"""Processes of the service."""
CONNECTIONS = 64
FOLLOWERS, FLOOD, FLOOD_CONNECTIONS = 2000, 5000, 50
DESCRIPTORS = 2 * FOLLOWERS + 1000
WAIT_SECONDS = 30
FOLLOW_SECONDS = 60
SCRIPT = Path(__file__).with_name("load.lua")
NO_WRK = "`wrk` is not installed: `apt install wrk`, `brew install wrk`, or https://github.com/wg/wrk."


@dataclass
class _Phase:
    """What one kind of request was answered."""

    name: str
    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    memory: tuple[dict[str, int], dict[str, int]] = ({}, {})
    """Resident bytes of each part, before and after."""
    note: str = ""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


@dataclass
class _Followed:
    """What the followers of a job got."""

    first_event: list[float] = field(default_factory=list)
    """Seconds from the request to the first event, follower by follower."""
    complete: int = 0
    """How many got every status up to the last, and progress."""
    waited: str = "no answer"
    """What another client's `Prefer: wait` was answered meanwhile."""


def run(seconds: float = 60.0) -> Section:
    """A table for one and for two processes of the service. seconds: how long each cached request is asked for."""
    title = "## Load: cached requests, followers, and a flood of jobs\n\n"
    if shutil.which("wrk") is None:
        aims = [not_run(*question, "no `wrk`") for count in COUNTS for question in _questions(count)]
        return Section(f"{title}Not run. {NO_WRK}\n", aims)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:  # inherited by the service, which needs one for each follower
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    lines, aims = [], []
    for count in COUNTS:
        phases, followed = _measured(count, seconds)
        lines += [f"### {_processes(count)} of the service\n", _table(phases), ""]
        lines += [
            f"{followed.complete} of {FOLLOWERS} followers were told every status of a job, and progress, to the end; "
            f"meanwhile another client's `Prefer: wait` was answered {followed.waited}.\n"
        ]
        errors, untold = sum(phase.errors for phase in phases), FOLLOWERS - followed.complete
        found = (str(errors), errors == 0), (str(untold), untold == 0), (followed.waited, followed.waited == "200")
        aims += [Aim(*question, *figure) for question, figure in zip(_questions(count), found, strict=True)]
    head = (
        f"`wrk` with {CONNECTIONS} connections for {seconds:g} s each, from the same machine; {FLOOD} distinct jobs "
        f"over {FLOOD_CONNECTIONS} connections. Ratio: requests a second to those of the bare route. Memory: before "
        "and after.\n"
    )
    return Section("\n".join([f"{title}{head}", *lines]) + "\n", aims)


def _measured(count: int, seconds: float) -> tuple[list[_Phase], _Followed]:
    """All phases with so many processes of the service, the bare route first."""
    small = {"model": "shapes-sit", "labels": [0], "samples_per_label": 1, "threshold": 0.05, "steps": 10, "seed": 0}
    with processes() as stack:
        stack.start(workers=2, service=count)
        answer = stack.http.get(PATH, headers={"Prefer": "wait=60"}).raise_for_status().content
        done = stack.http.post("/prune-sample", json=small, headers={"Prefer": "wait=60"}).raise_for_status().json()
        assert done["status"] == "succeeded", done
        with bare_service(answer, count) as bare_url:
            bare = _wrk("a bare FastAPI route", bare_url + PATH, seconds)
        phases = [bare]
        for name, path, body in (
            ("`GET /metrics/{model}`", PATH, None),
            ("`GET /jobs/{id}`", f"/jobs/{done['id']}", None),
            ("`POST /prune-sample`, done before", "/prune-sample", small),
        ):
            phases.append(_with_memory(stack, lambda n=name, p=path, b=body: _wrk(n, stack.url + p, seconds, b)))  # type: ignore[misc]
        before = _memory(stack)
        followed = asyncio.run(_follow(stack, small))
        first = followed.first_event
        phases.append(
            _Phase(
                f"{FOLLOWERS} followers, to their first event", len(first), max(first, default=1.0),
                float(np.median(first or [0])), float(np.percentile(first or [0], 99)), FOLLOWERS - followed.complete,
                (before, _memory(stack)),
            )
        )  # fmt: skip
        phases.append(_with_memory(stack, lambda: asyncio.run(_flood(stack, small))))
    return phases, followed


def _wrk(name: str, url: str, seconds: float, body: dict[str, Any] | None = None) -> _Phase:
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(1, round(seconds))}s"]
    command += ["--timeout", "30s", "--script", str(SCRIPT), url, "--", *([json.dumps(body)] if body else [])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return _Phase(name, **json.loads(printed.strip().rpartition("\n")[2]))


def _with_memory(stack: Processes, measure: Callable[[], _Phase]) -> _Phase:
    before = _memory(stack)
    phase = measure()
    phase.memory = before, _memory(stack)
    return phase


def _memory(stack: Processes) -> dict[str, int]:
    workers = sum(worker.memory for worker in stack.workers)
    return {"service": stack.service.memory, "workers": workers, "Redis": stack.redis.memory}


async def _follow(stack: Processes, small: dict[str, Any]) -> _Followed:
    """Have all followers follow one long job; another client waits for a small one; then the long one is cancelled."""
    found, events = _Followed(), Counter[tuple[str, ...]]()
    async with httpx.AsyncClient(base_url=stack.url, timeout=60.0, trust_env=False) as http:
        long = small | {"labels": list(range(64)), "samples_per_label": 4, "steps": 1000, "seed": 1}
        job_id = (await http.post("/prune-sample", json=long)).raise_for_status().json()["id"]

        async def follower() -> None:
            with_events: list[str] = []
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(2 * FOLLOW_SECONDS):  # whatever the server sends to keep a stream open
                    async for event in _events(stack.url, f"/jobs/{job_id}/events"):
                        if not with_events:
                            found.first_event.append(time.perf_counter() - begun)
                        if "status" in event or not with_events or "status" in with_events[-1]:
                            with_events.append(event)  # of progress in a row those that are slower get less
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                pass
            events[tuple("progress" if "done" in event else event for event in with_events)] += 1

        followers = [asyncio.create_task(follower()) for _ in range(FOLLOWERS)]
        ended = time.perf_counter() + FOLLOW_SECONDS
        while (
            len(found.first_event) < FOLLOWERS and time.perf_counter() < ended and not all(t.done() for t in followers)
        ):
            await asyncio.sleep(0.1)
        try:
            headers = {"Prefer": f"wait={WAIT_SECONDS}"}
            answer = await http.post("/prune-sample", json=small | {"seed": 2}, headers=headers)
            found.waited = str(answer.status_code)
        except httpx.TransportError as error:
            found.waited = type(error).__name__
        await http.delete(f"/jobs/{job_id}")
        await asyncio.gather(*followers)
    everything = max(events, key=len)  # whoever connects later is told of all that happened before, too
    if everything and "cancelled" in everything[-1]:
        found.complete = events[everything]
    return found


async def _events(url: str, path: str) -> Any:
    """The events of a stream: their data, one after another, until the server ends it."""
    at = httpx.URL(url)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            return
        while line := await reader.readline():
            if line.startswith(b"data:"):
                yield line.decode().removeprefix("data:").strip()
    finally:
        writer.close()


async def _flood(stack: Processes, small: dict[str, Any]) -> _Phase:
    """Post distinct jobs over several connections, each the next one as soon as it has an answer."""
    at = httpx.URL(stack.url)
    seeds, taken, statuses = iter(range(10, 10 + FLOOD)), list[float](), Counter[str]()

    async def post() -> None:
        reader, writer = await asyncio.open_connection(at.host, at.port)
        for seed in seeds:
            body = json.dumps(small | {"seed": seed}).encode()
            begun = time.perf_counter()
            writer.write(
                f"POST /prune-sample HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0]))
            taken.append(time.perf_counter() - begun)
            statuses[head.split()[1]] += 1
        writer.close()

    begun = time.perf_counter()
    outcomes = await asyncio.gather(*(post() for _ in range(FLOOD_CONNECTIONS)), return_exceptions=True)
    seconds = time.perf_counter() - begun
    unanswered = sum(isinstance(outcome, BaseException) for outcome in outcomes)
    # 429 and 503 with Retry-After are the answers of a service that is full, and no errors.
    errors = unanswered + sum(times for status, times in statuses.items() if status not in ("202", "429", "503"))
    note = ", ".join(f"{times} x {status}" for status, times in sorted(statuses.items()))
    return _Phase(
        f"`POST /prune-sample`, {FLOOD} new ones", len(taken), seconds, float(np.median(taken)),
        float(np.percentile(taken, 99)), errors, note=note,
    )  # fmt: skip


def _table(phases: list[_Phase]) -> str:
    bare = phases[0].rate
    rows = ["| request | a second | ratio | p50 | p99 | errors | service | workers | Redis |", "|---" * 9 + "|"]
    for phase in phases:
        ratio = f"{phase.rate / bare:.2f}" if phase.name.startswith("`GET /metrics") else ""
        memory = [
            f"{phase.memory[0][part] / 1e6:.0f} to {phase.memory[1][part] / 1e6:.0f} MB" if phase.memory[0] else ""
            for part in ("service", "workers", "Redis")
        ]
        name = f"{phase.name}: {phase.note}" if phase.note else phase.name
        rows.append(
            f"| {name} | {phase.rate:.0f}/s | {ratio} | {1000 * phase.p50:.1f} ms | {1000 * phase.p99:.1f} ms "
            f"| {phase.errors} | {' | '.join(memory)} |"
        )
    return "\n".join(rows)


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def _questions(count: int) -> list[tuple[str, str]]:
    """What is to be reached with so many processes of the service, and the marks."""
    of = f"load, {_processes(count)}"
    return [
        (f"{of}: requests answered with an error, or not", "at most 0"),
        (f"{of}: followers that were not told all to the end", "at most 0"),
        (f"{of}: `Prefer: wait` beside them", "200"),
    ]
