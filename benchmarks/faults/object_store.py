"""An object store that goes away: artifacts on S3 (moto), which hangs half a minute, then refuses connections as long.

Needs the packages s3fs and moto[server].
"""

from __future__ import annotations

import io
import json
import select
import signal
import socket
import sys
import threading
import time
from importlib.util import find_spec

import httpx
import numpy as np

from benchmarks.faults.report import Answers, end
from benchmarks.processes import HOST, Child, Processes, free_port, processes, until
from jobs.settings import Settings

AWAY_SECONDS = 30.0
BUCKET = "tailprune"
LIVE, READY = "/health/live", "/health/ready"
VECTORS = {"model": "shapes-sit", "timesteps": [number / 100 for number in range(100)]}
"""A request whose result is too large for a copy in Redis."""
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class Door:
    """Passes connections on to a port; while it is shut, they are refused, and those that are open end."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and end those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=[client, listener], daemon=True).start()

    def _pass_on(self, client: socket.socket, listener: socket.socket) -> None:
        try:
            with client, socket.create_connection((HOST, self._target)) as server:
                while self._listener is listener:
                    for ready in select.select([client, server], [], [], 0.1)[0]:
                        if not (content := ready.recv(2**16)):
                            return
                        (server if ready is client else client).sendall(content)
        except OSError:
            return


def main() -> None:
    if find_spec("s3fs") is None or find_spec("moto") is None:
        raise SystemExit("the object store needs two packages: pip install s3fs 'moto[server]'")
    port = free_port()
    door = Door(port)
    endpoint = json.dumps({"endpoint_url": f"http://{HOST}:{door.port}"})
    settings = {"TAILPRUNE_ARTIFACTS_URL": f"s3://{BUCKET}/artifacts", "FSSPEC_S3": endpoint, **KEYS}
    with processes(settings) as stack:
        store = Child(
            "moto", [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], stack.environment,
            stack.folder / "moto.log",
        )  # fmt: skip
        try:
            until(lambda: _answers(port), "moto answers")
            httpx.put(f"http://{HOST}:{port}/{BUCKET}", trust_env=False).raise_for_status()
            stack.start(workers=2)
            _go_away(stack, store, door)
        finally:
            store.stop()


def _go_away(stack: Processes, store: Child, door: Door) -> None:
    answers, wrong, facts, uploads = Answers(), list[str](), dict[str, object](), list[str]()
    first = stack.post(0, wait=60).raise_for_status().json()
    artifact = first["links"]["artifacts"]["grid.png"]
    content, ids, seed = stack.http.get(artifact).raise_for_status().content, [first["id"]], 1
    extracted = stack.http.post("/extract", json=VECTORS, headers={"Prefer": "wait=60"}).raise_for_status().json()
    large = next(iter(extracted["links"]["artifacts"].values()))
    vectors = stack.http.get(large).raise_for_status().content
    assert len(vectors) > Settings().hot_artifact_bytes, "the store is asked for it"
    for kind in ("hangs", "refuses connections"):
        ids += [stack.post(seed + number, steps=100).raise_for_status().json()["id"] for number in range(5)]
        seed += 5
        store.send(signal.SIGSTOP) if kind == "hangs" else door.shut()
        away_until = time.monotonic() + AWAY_SECONDS
        with answers.probing(stack.url, [LIVE, READY, "/jobs?limit=10", artifact]):
            while time.monotonic() < away_until:
                body = {"model": "shapes-sit", "labels": [0], "threshold": 0.05, "steps": 10, "seed": seed}
                answer = answers.ask(stack.http, f"POST, the store {kind}", "POST", "/prune-sample", json=body)
                if answer is not None and answer.is_success:
                    ids.append(answer.json()["id"])
                got = answers.ask(stack.http, f"GET a large artifact, the store {kind}", "GET", large)
                if got is not None and got.is_success and got.content != vectors:
                    wrong.append(f"{kind}: a large artifact is served with wrong bytes")
                conditions = answers.ask(
                    stack.http, f"POST /conditions, the store {kind}", "POST", "/conditions", content=_conditions(seed)
                )
                if conditions is not None and conditions.is_success:
                    uploads.append(conditions.json()["links"]["self"])
                seed += 1
                time.sleep(1.0)
        store.send(signal.SIGCONT) if kind == "hangs" else door.open()
        back = time.monotonic()
        statuses = stack.await_finished(ids, seconds=240)
        wrong += [f"{kind}: job {job_id} is {said}" for job_id, said in statuses.items() if said != "succeeded"]
        facts[f"{kind}: jobs, all done after"] = f"{len(ids)}, {time.monotonic() - back:.1f} s"
        lost = [path for job_id in ids for path in stack.job(job_id)["links"]["artifacts"].values()
                if not stack.http.get(path).is_success]  # fmt: skip
        if lost:
            wrong.append(f"{kind}: {len(lost)} artifacts cannot be read, such as {lost[0]}")
    if stack.http.get(artifact).content != content or stack.http.get(large).content != vectors:
        wrong.append("an artifact has other bytes")
    wrong += [f"{path} was uploaded and is gone" for path in uploads if not stack.http.get(path).is_success]
    wrong += [
        f"{what} is answered 500, {len(taken)} times"
        for (what, said), taken in answers.seconds.items()
        if said == "500"
    ]
    if (longest := answers.longest(f"GET {LIVE}")) > 1.0:
        wrong.append(f"GET {LIVE} took {longest:.1f} s")
    wrong += [f"{worker.name} died" for worker in stack.workers if not worker.runs]
    end("An object store that goes away", facts, wrong, answers)


def _conditions(seed: int) -> bytes:
    """A file of conditions, each seed's its own."""
    content = io.BytesIO()
    np.savez(content, video=np.random.default_rng(seed).standard_normal((1, 32, 512), dtype=np.float32))
    return content.getvalue()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/", trust_env=False).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
