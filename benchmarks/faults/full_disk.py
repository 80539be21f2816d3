"""A full disk: data folder, Redis and logs on a small file system in memory, filled while jobs run and are posted.

The file system is mounted in a mount namespace of this script's own (`unshare`, on Linux; without root, in a user
namespace, where the kernel permits these), so that nothing of it is left.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.faults.report import Answers, end
from benchmarks.processes import Processes, processes

SIZE = "96m"
FULL_SECONDS = 30.0
INSIDE = "BENCHMARK_DISK"
"""The environment variable that is set in the namespace."""
JOBS, STEPS = 6, 100


def main() -> None:
    if INSIDE not in os.environ:
        if shutil.which("unshare") is None:
            raise SystemExit("a small file system needs unshare, which Linux has (util-linux)")
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", "--mount", *as_root, sys.executable, "-m", "benchmarks.faults.full_disk"]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "yes"})
    with tempfile.TemporaryDirectory(prefix="tailprune-disk-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
        try:
            with processes(folder=Path(folder)) as stack:
                stack.start(workers=2)
                _fill_and_free(stack)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _fill_and_free(stack: Processes) -> None:
    answers, wrong = Answers(), list[str]()
    known = stack.post(0, wait=60).raise_for_status().json()
    artifact = known["links"]["artifacts"]["grid.png"]
    content = stack.http.get(artifact).raise_for_status().content
    stack.http.get("/metrics/shapes-sit", headers={"Prefer": "wait=30"}).raise_for_status()
    pids = [worker.process.pid for worker in stack.workers]
    posted = [stack.post(seed, steps=STEPS).raise_for_status().json()["id"] for seed in range(1, JOBS)]
    filler = stack.folder / "filler"
    _fill(filler)
    upload = io.BytesIO()
    np.savez(upload, video=np.zeros((4, 32, 512), np.float32))
    refused, full_until = 0, time.monotonic() + FULL_SECONDS
    seed = 100
    with answers.probing(stack.url, ["/health/live", "/health/ready", f"/jobs/{known['id']}", "/metrics"]):
        while time.monotonic() < full_until:
            _fill(filler)  # what else is freed meanwhile
            answer = answers.ask(
                stack.http, "POST /prune-sample", "POST", "/prune-sample",
                json={"model": "shapes-sit", "labels": [0], "threshold": 0.05, "steps": 10, "seed": seed},
            )  # fmt: skip
            if answer is not None and answer.is_success:
                posted.append(answer.json()["id"])
            else:
                refused += 1
            answers.ask(stack.http, "POST /conditions", "POST", "/conditions", content=upload.getvalue())
            answers.ask(stack.http, "GET /metrics/{model}, kept", "GET", "/metrics/shapes-sit")
            answers.ask(stack.http, "GET /metrics/{model}, new", "GET", f"/metrics/shapes-sit?timestep={1 / seed}")
            served = answers.ask(stack.http, "GET an artifact", "GET", artifact)
            if served is not None and served.is_success and served.content != content:
                wrong.append("an artifact is served with wrong bytes")
            seed += 1
            time.sleep(0.5)
    dead = [worker.name for worker in stack.workers if not worker.runs]
    filler.unlink()
    freed = time.monotonic()
    well, last = None, None
    while well is None and time.monotonic() < freed + 120:
        last = answers.ask(
            stack.http,
            "POST, with room again",
            "POST",
            "/prune-sample",
            headers={"Prefer": "wait=20"},
            json={"model": "shapes-sit", "labels": [1], "threshold": 0.05, "steps": 10, "seed": seed},
        )
        if last is not None and last.is_success and last.json()["status"] == "succeeded":
            well = time.monotonic() - freed
        seed += 1
        time.sleep(0.5)
    statuses = stack.await_finished(posted, seconds=180)
    wrong += [f"job {job_id} is {status}" for job_id, status in statuses.items() if status != "succeeded"]
    wrong += [f"{name} died" for name in dead]
    if not stack.service.runs:
        wrong.append("the service died")
    wrong += [
        f"{what} is answered 500, {len(taken)} times"
        for (what, said), taken in answers.seconds.items()
        if said == "500"
    ]
    if well is None:
        wrong.append("no job succeeds within two minutes after there is room again")
    left = [path for path in (stack.data_dir / "artifacts").rglob("*") if path.is_file() and "incoming" in str(path)]
    if left:
        wrong.append(f"{len(left)} files that were begun are left")
    facts = {
        "full for": f"{FULL_SECONDS:g} s",
        "jobs accepted, refused": f"{len(posted)}, {refused}",
        "workers before, and alive at its end": f"{len(pids)}, {len(pids) - len(dead)}",
        "from room to a job that succeeds": "never" if well is None else f"{well:.1f} s",
    }
    end("A full disk", facts, wrong, answers)


def _fill(filler: Path) -> None:
    """Write until the file system is full."""
    try:
        with filler.open("ab", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
    except OSError:
        return


if __name__ == "__main__":
    main()
