"""What clients that follow one job cost: `python -m benchmarks.faults.followers [HOW_MANY]`, 2000 by default.

Starts a stack without a worker, so that the job stays queued; lets all follow it, and plays the worker: progress, then
the end. Prints how many streams were served to the end, how long the last event took to reach the last of them, the
connections to Redis, and what another client gets meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import httpx
import psutil
import redis

from benchmarks.faults.processes import cpu_seconds, raise_descriptor_limit, service_process
from benchmarks.stacks import stack
from jobs.settings import Settings
from jobs.store.leases import LeaseStore

PROGRESS = 20


async def measure(url: str, how_many: int) -> int:
    """Follow a job, do it, and print what came of it; the exit status."""
    at = urlsplit(url)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        job = (await http.post("/prune-sample", json={"model": "shapes-sit", "threshold": 0.05})).json()
        service = service_process(url)
        before = cpu_seconds(service)
        opened = asyncio.Semaphore(0)
        ends: list[float] = []

        async def follow() -> list[str]:
            events: list[str] = []
            name = ""
            reader, writer = await asyncio.open_connection(at.hostname, at.port)  # httpx is slow with this many
            writer.write(f"GET {job['links']['events']} HTTP/1.0\r\nHost: {at.netloc}\r\n\r\n".encode())
            async for line in reader:
                if line.startswith(b"event: "):
                    if not events:
                        opened.release()
                    name = line.decode().strip()
                elif line.startswith(b"data: "):  # of progress in a row those that are slower get less
                    if "progress" in name and events and "progress" in events[-1]:
                        events.pop()
                    events.append(f"{name} {line.decode().strip()}")
            writer.close()
            if not events:
                opened.release()
            ends.append(time.perf_counter())
            return events

        began = time.perf_counter()
        following = [asyncio.create_task(follow()) for _ in range(how_many)]
        for _ in following:
            await opened.acquire()
        print(f"{how_many} followers, all with their first event after {time.perf_counter() - began:.1f} s")
        print(f"connections of the service to Redis: {await asyncio.to_thread(redis_connections, service)}")
        began = time.perf_counter()
        waited = await http.post(
            "/prune-sample", json={"model": "shapes-sit", "threshold": 0.07}, headers={"Prefer": "wait=1"}
        )
        print(
            f"another client that prefers to wait 1 s: {waited.status_code} after {time.perf_counter() - began:.2f} s"
        )
        ended = await asyncio.to_thread(do, service, job["id"])
        found = await asyncio.gather(*following)
        told = Counter(map(tuple, found))
        alike, whole = told.most_common(1)[0]
        print(f"streams served to the end: {whole}, each the same {len(alike)} events: {', '.join(alike)}")
        print(f"the last ended {max(ends) - ended:.2f} s after the job")
        resident = service.memory_info().rss / 1e6
        print(f"CPU of the service {cpu_seconds(service) - before:.1f} s, resident {resident:.0f} MB")
        return 0 if whole == how_many and len(alike) == 4 else 1


def do(service: psutil.Process, job_id: str) -> float:
    """Play the worker of a job; when it had ended."""
    settings = Settings(redis_url=redis_url(service))
    with redis.Redis.from_url(settings.redis_url) as client:
        leases = LeaseStore(client, settings)
        held = leases.claim(job_id, "benchmark")
        assert held is not None
        for done in range(1, PROGRESS + 1):
            leases.report(held, done, done, "steps")
            time.sleep(0.2)
        leases.cancelled(held)
    return time.perf_counter()


def redis_url(service: psutil.Process) -> str:
    """The Redis of a service."""
    return service.environ()["REDIS_URL"]


def redis_connections(service: psutil.Process) -> int:
    """How many connections a service has to its Redis."""
    port = int(redis_url(service).rpartition(":")[2].partition("/")[0])
    return sum(bool(at.raddr) and at.raddr.port == port for at in service.net_connections("tcp"))


def main() -> int:
    """Measure; the exit status is 1 if a stream was not served to its end."""
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    raise_descriptor_limit()
    with stack(workers=0) as running:
        return asyncio.run(measure(running.url, how_many))


if __name__ == "__main__":
    sys.exit(main())
