"""Bytes that flip: 500 of them, one at a time, in artifacts, their hot copies, kept shards and uploaded conditions.

A damaged file may be answered as gone or be made again; what may not be is that wrong bytes are served, or computed
with.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis

from benchmarks.faults.report import Answers, end
from benchmarks.processes import Processes, processes
from jobs.store.scripts import PREFIX

SHARES = {"artifact": 0.4, "hot copy": 0.3, "shard": 0.2, "upload": 0.1}
STUDY: dict[str, Any] = {
    "model": "shapes-sit", "labels": list(range(10)), "samples_per_label": 4, "steps": 8,
    "grid": {"thresholds": [0.02, 0.05, 0.1]}, "measures": ["drift", "accuracy"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=500)
    flips = parser.parse_args().flips
    generator, answers, wrong = random.Random(0), Answers(), list[str]()
    counts = {what: round(share * flips) for what, share in SHARES.items()}
    with processes({"TAILPRUNE_SHARD_SAMPLES": "4"}) as stack:
        stack.start(workers=2)
        links = _artifacts(stack)
        contents = {path: stack.http.get(path).raise_for_status().content for path in links}
        for what in ("artifact", "hot copy"):
            for _ in range(counts[what]):
                path = generator.choice(links)
                _check_served(stack, what, path, contents[path], generator, answers, wrong)
        upload, files = _upload(stack)
        for _ in range(counts["upload"]):
            _check_upload(stack, upload, generator.choice(files), generator, answers, wrong)
        scores = _check_shards(stack, counts["shard"], generator, wrong)
    facts: dict[str, object] = {f"flips, {what}": count for what, count in counts.items()}
    facts["wrong bytes served"] = sum("served" in each for each in wrong)
    facts["scores of two studies on damaged shards"] = scores
    end("Flipped bytes", facts, wrong, answers)


def _artifacts(stack: Processes) -> list[str]:
    """The paths of the artifacts of some jobs."""
    found: list[str] = []
    for seed in range(4):
        job = stack.post(seed, wait=60).raise_for_status().json()
        found += job["links"]["artifacts"].values()
    return found


def _check_served(
    stack: Processes, what: str, path: str, right: bytes, generator: random.Random, answers: Answers, wrong: list[str]
) -> None:
    """Flip a byte of an artifact on disk or in Redis, ask for it, and put it back."""
    digest = hashlib.sha256(right).hexdigest()
    key = f"{PREFIX}hot:{digest}"
    with _raw(stack) as store:
        (file,) = [each for each in (stack.data_dir / "artifacts").rglob(digest) if each.is_file()]
        if what == "artifact":
            store.delete(key)
            file.write_bytes(_flipped(right, generator))
        else:
            store.set(key, _flipped(right, generator), ex=600)
        answer = answers.ask(stack.http, f"GET an artifact, its {what} damaged", "GET", path)
        if answer is not None and answer.is_success and answer.content != right:
            wrong.append(f"wrong bytes of {path} are served, a byte of its {what} flipped")
        if answer is not None and answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            wrong.append(f"{path} is answered {answer.status_code}, a byte of its {what} flipped")
        store.delete(key)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(right)


def _upload(stack: Processes) -> tuple[bytes, list[Path]]:
    """Upload conditions; their bytes, and the files that came."""
    before = {path for path in stack.data_dir.rglob("*") if path.is_file()}
    content = io.BytesIO()
    np.savez(content, video=np.random.default_rng(0).standard_normal((2, 32, 512), dtype=np.float32))
    stack.http.post("/conditions", content=content.getvalue()).raise_for_status()
    files = [path for path in stack.data_dir.rglob("*") if path.is_file() and path not in before]
    return content.getvalue(), [path for path in files if path.stat().st_size > 10_000]


def _check_upload(
    stack: Processes, content: bytes, file: Path, generator: random.Random, answers: Answers, wrong: list[str]
) -> None:
    """Flip a byte of stored conditions, and upload them again: the stored ones are then right."""
    right = file.read_bytes()
    file.write_bytes(_flipped(right, generator))
    answer = answers.ask(stack.http, "POST /conditions, stored ones damaged", "POST", "/conditions", content=content)
    if answer is None or not answer.is_success:
        wrong.append("conditions whose stored file is damaged cannot be uploaded again")
    if not file.is_file() or file.read_bytes() != right:
        wrong.append("damaged conditions stay damaged when they are uploaded again")
    file.write_bytes(right)


def _check_shards(stack: Processes, flips: int, generator: random.Random, wrong: list[str]) -> str:
    """Flip bytes of the shards of a study, and do two that build on them; their scores beside the right ones."""
    first = _study(stack, STUDY)
    right = _scores(first)
    shards = _shards(stack)
    for number in range(flips):
        file = shards[number % len(shards)]
        file.write_bytes(_flipped(file.read_bytes(), generator))
    with _raw(stack) as store:
        for key in store.scan_iter(f"{PREFIX}hot:*"):
            store.delete(key)
    # One needs the latents for another measure, the other what was measured of them: for scores of another grid.
    others: list[dict[str, Any]] = [
        {"measures": ["drift", "accuracy", "psnr"]},
        {"grid": {"thresholds": [0.02, 0.05, 0.1, 0.2]}},
    ]
    found = [_scores(_study(stack, STUDY | other)) for other in others]
    different = [name for scores in found for name, value in right.items() if scores.get(name) != value]
    if different:
        wrong.append(f"{len(different)} scores are computed with damaged shards, such as {different[0]}")
    count = len(found) * len(right)
    return f"{count - len(different)} of {count} as before; {min(flips, len(shards))} of {len(shards)} shards damaged"


def _shards(stack: Processes) -> list[Path]:
    """The files of all shards."""
    with _raw(stack) as store:
        notes = [store.get(key) or b"" for key in store.scan_iter(f"{PREFIX}shard:*")]
    digests = {note.decode().partition('"digest":"')[2][:64] for note in notes}
    return [path for path in (stack.data_dir / "artifacts").rglob("*") if path.name in digests]


def _study(stack: Processes, body: dict[str, Any]) -> dict[str, Any]:
    job_id = stack.http.post("/studies", json=body).raise_for_status().json()["id"]
    status = stack.await_finished([job_id], 300)[job_id]
    job = stack.job(job_id)
    if status != "succeeded":
        raise SystemExit(f"the study is {status}: {job['problem']}")
    return job


def _scores(job: dict[str, Any]) -> Counter[str]:
    variants = job["result"]["variants"]
    return Counter(
        {
            f"{name} of {variant['name']}": score["value"]
            for variant in variants
            for name, score in variant["scores"].items()
            if name in ("drift", "accuracy")
        }
    )


def _flipped(content: bytes, generator: random.Random) -> bytes:
    """Bytes of which one is another: half of the time the highest bit, the sign of a float, else any bit."""
    place = generator.randrange(len(content))
    bit = 0x80 if generator.random() < 0.5 else 1 << generator.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _raw(stack: Processes) -> Any:
    """A client of the stack's Redis that decodes nothing."""

    return redis.Redis.from_url(stack.redis_url)


if __name__ == "__main__":
    main()
