"""A long run pressed into minutes: mixed work, with files kept so briefly that they are collected all the time.

What may not be: that the disk grows beyond its limits, or that a file is gone whose job is still known or has just
finished, a compacted model, or an upload of a moment ago.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.faults.report import end
from benchmarks.processes import Processes, processes

COLLECT_SECONDS, GRACE_SECONDS = 5.0, 25.0
LIMITS = {"results": 12e6, "shards": 5e5, "uploads": 4e6}
YOUNG_SECONDS = GRACE_SECONDS + 2 * COLLECT_SECONDS
"""What was made for so long may be there besides: it is within the grace, or between two collections."""
FRESH_SECONDS = 20.0
"""How long the files of a finished job have to be there in any case; less than the grace."""
CHECK_ROUNDS = 10
"""After so many rounds all jobs in the list are checked."""
SETTINGS = {
    "TAILPRUNE_KEEP_DAYS": "results=0.001,shards=0.001",  # 86 s
    "TAILPRUNE_KEEP_BYTES": ",".join(f"{name}={size:.0f}" for name, size in LIMITS.items()),
    "TAILPRUNE_COLLECT_SECONDS": f"{COLLECT_SECONDS:g}",
    "TAILPRUNE_COLLECT_GRACE_SECONDS": f"{GRACE_SECONDS:g}",
    "TAILPRUNE_JOB_HISTORY": "100",
    "TAILPRUNE_SHARD_SAMPLES": "4",
}


class _Sizes:
    """The bytes of each class of artifacts, as they are noted now and then: the last, the most, and all ever made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[Path] = set()
        self.made, self.most, self.last = Counter[str](), Counter[str](), Counter[str]()

    def note(self) -> None:
        self.last = Counter[str]()
        for name in LIMITS:
            for path in (self._folder / name).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # collected meanwhile
                    size = path.stat().st_size if path.is_file() else 0
                    self.last[name] += size
                    self.made[name] += size if path not in self._seen else 0
                    self._seen.add(path)
        self.most |= self.last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=4.0)
    minutes = parser.parse_args().minutes
    wrong, done, answered = list[str](), Counter[str](), Counter[str]()
    with processes(SETTINGS) as stack:
        stack.start(workers=2)
        compacted = _compacted(stack)
        sizes, begun, round_number = _Sizes(stack.data_dir / "artifacts"), time.monotonic(), 0
        finished: dict[str, float] = {}
        uploads: dict[str, float] = {}
        while time.monotonic() < begun + 60 * minutes:
            round_number += 1
            _work(stack, round_number, finished, uploads, done, wrong)
            _check_fresh(stack, finished, uploads, wrong)
            if round_number % CHECK_ROUNDS == 0:
                _check_named(stack, answered, wrong)
            sizes.note()
        time.sleep(YOUNG_SECONDS)
        sizes.note()
        _check_named(stack, answered, wrong)
        again = stack.post(1, wait=60, model=compacted, steps=4, threshold=None)
        if not again.is_success or again.json()["status"] != "succeeded":
            wrong.append(f"the compacted model cannot be sampled any more: {again.status_code} {again.text[:200]}")
        wrong += [f"{worker.name} died" for worker in stack.workers if not worker.runs]
        redis_bytes = stack.store.info("memory")["used_memory"]
        listed = len(stack.http.get("/jobs?limit=200").raise_for_status().json()["jobs"])
    facts: dict[str, object] = {
        "time": f"{minutes:g} minutes, {round_number} rounds",
        "jobs": ", ".join(f"{count} x {what}" for what, count in sorted(done.items())),
    }
    for name, limit in LIMITS.items():
        made = sizes.made[name] / (time.monotonic() - begun)
        most, last = sizes.most[name], sizes.last[name]
        facts[f"{name}, MB"] = (
            f"limit {limit / 1e6:g}, made {sizes.made[name] / 1e6:.0f}, most {most / 1e6:.1f}, last {last / 1e6:.1f}"
        )
        bound = limit + 2 * made * YOUNG_SECONDS  # work is faster at some times than at others
        if most > bound:
            wrong.append(f"{name} have up to {most / 1e6:.1f} MB, more than {bound / 1e6:.1f} MB")
        if last > limit:
            wrong.append(f"{name} have {last / 1e6:.1f} MB in the end, more than {limit / 1e6:g} MB")
    facts |= {
        "files of jobs in the list": ", ".join(f"{count} x {said}" for said, count in sorted(answered.items())),
        "jobs in the list, Redis, at the end": f"{listed}, {redis_bytes / 1e6:.1f} MB",
    }
    end("A long run", facts, wrong)


def _work(
    stack: Processes, number: int, finished: dict[str, float], uploads: dict[str, float], done: Counter[str],
    wrong: list[str],
) -> None:  # fmt: skip
    """One round of mixed work, all of it new."""
    video = io.BytesIO()
    np.savez(video, video=np.random.default_rng(number).standard_normal((8, 32, 512), dtype=np.float32))
    uploaded = stack.http.post("/conditions", content=video.getvalue())
    if uploaded.is_success:
        uploads[uploaded.json()["links"]["self"]] = time.monotonic()
    else:
        wrong.append(f"POST /conditions is answered {uploaded.status_code}")
    model, seed = "shapes-sit", number
    study = {"model": model, "labels": [0, 1], "samples_per_label": 4, "steps": 4, "seed": seed, "measures": ["drift"]}
    bodies: dict[str, dict[str, Any]] = {
        "/prune-sample": {"model": model, "labels": [0, 1], "samples_per_label": 4, "threshold": 0.05, "steps": 4,
                          "seed": seed},
        "/studies": study | {"grid": {"thresholds": [0.05]}},
        "/extract": {"model": model, "timesteps": [number / 1e6 + each / 100 for each in range(50)]},
    }  # fmt: skip
    ids = {}
    for path, body in bodies.items():
        answer = stack.http.post(path, json=body)
        if answer.is_success:
            ids[answer.json()["id"]] = path
        else:
            wrong.append(f"POST {path} is answered {answer.status_code}: {answer.text[:100]}")
    for job_id, status in stack.await_finished(ids, 120).items():
        done[ids[job_id].removeprefix("/")] += 1
        finished[job_id] = time.monotonic()
        if status != "succeeded":
            wrong.append(f"a job of {ids[job_id]} is {status}")
    stack.http.get(f"/metrics/{model}?timestep={number / 1000}", headers={"Prefer": "wait=20"})


def _check_fresh(stack: Processes, finished: dict[str, float], uploads: dict[str, float], wrong: list[str]) -> None:
    """Note what is gone of what was made a moment ago."""
    latest = time.monotonic() - FRESH_SECONDS
    for job_id in [job_id for job_id, at in finished.items() if at > latest]:
        answer = stack.http.get(f"/jobs/{job_id}")
        paths = answer.json()["links"]["artifacts"].values() if answer.is_success else [f"/jobs/{job_id}"]
        gone = [path for path in paths if not stack.http.get(path).is_success]
        if gone:
            wrong.append(f"{len(gone)} files of a job are gone within {FRESH_SECONDS:g} s, such as {gone[0]}")
    for path in [path for path, at in uploads.items() if at > latest]:
        if not stack.http.get(path).is_success:
            wrong.append(f"{path} is gone within {FRESH_SECONDS:g} s")


def _check_named(stack: Processes, answered: Counter[str], wrong: list[str]) -> None:
    """Ask for files of all jobs in the list; only those of a job that was deleted meanwhile may be gone."""
    for job in stack.http.get("/jobs?limit=200").raise_for_status().json()["jobs"]:
        links = stack.http.get(f"/jobs/{job['id']}")
        paths = list(links.json()["links"].get("artifacts", {}).values())[:3] if links.is_success else []
        for said in [str(stack.http.get(path).status_code) for path in paths]:
            if said != "200" and stack.http.get(f"/jobs/{job['id']}").status_code == httpx.codes.NOT_FOUND:
                said = f"{said}, its job deleted meanwhile"
            elif said != "200":
                wrong.append(f"a file of job {job['id']} is answered {said}, and the job is still known")
            answered[said] += 1
        if not links.is_success and links.status_code != httpx.codes.NOT_FOUND:
            wrong.append(f"job {job['id']} of the list is answered {links.status_code}")


def _compacted(stack: Processes) -> str:
    """Compact a model; the name of the compacted one."""
    body = {"model": "shapes-sit", "keep": 32, "steps": 4, "labels": [0, 1, 2, 3]}
    answer = stack.http.post("/compact", json=body)
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise SystemExit(f"POST /compact is answered {answer.text}")
    job_id = answer.json()["id"]
    if (status := stack.await_finished([job_id], 120)[job_id]) != "succeeded":
        raise SystemExit(f"the compaction is {status}")
    return str(stack.job(job_id)["result"]["compacted"]["name"])


if __name__ == "__main__":
    main()
