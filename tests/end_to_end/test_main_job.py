"""The main job through the front door: a real Redis, a real worker, a real service."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from safetensors.torch import load

from tests.end_to_end.stack import Stack, eventually
from tests.tiny_model import CONDITION_ONLY

SAMPLES_MADE = 'tailprune_samples_total{model="tiny"}'
LONG = {"steps": 1000, "labels": [0, 1, 2, 3], "samples_per_label": 64}
"""A job of some ten seconds."""


def test_the_same_request_posted_twenty_times_at_once_is_one_job_sampled_once(stack: Stack) -> None:
    before = stack.series().get(SAMPLES_MADE, 0)
    body = {"seed": 1, "steps": 200, "labels": [0, 1, 2]}
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: stack.post(**body), range(20)))
    (job_id,) = {answer.json()["id"] for answer in answers}
    stack.finished(job_id)
    variants, labels = 2, 3
    assert stack.series()[SAMPLES_MADE] - before == variants * labels


def test_a_request_posted_again_is_answered_from_cache(stack: Stack) -> None:
    first = stack.post(wait=30, seed=2).json()
    before = stack.series()[SAMPLES_MADE]
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        again = stack.post(seed=2)
        seconds.append(time.perf_counter() - begun)
        assert again.status_code == 200
        assert again.json() == first
    assert stack.series()[SAMPLES_MADE] == before
    print(f"\nanswered from cache in {1000 * sorted(seconds)[5]:.1f} ms (median of 10)")


def test_a_result_says_what_was_removed_and_how_far_the_samples_moved(stack: Stack) -> None:
    job = stack.post(wait=30, threshold=[0, 0.5], labels=[0, 3], samples_per_label=2, steps=8).json()
    baseline, nothing, some = job["result"]["variants"]
    assert [variant["name"] for variant in (baseline, nothing, some)] == ["baseline", "tail 0", "tail 0.5"]
    assert baseline["prune"] is baseline["removed"] is baseline["drift"] is None
    assert nothing["removed"]["max"] == 0
    assert nothing["drift"] == {"latent": 0, "psnr": None, "ssim": None}  # equal, and of 8 x 8 pixels
    assert 0 < some["removed"]["min"] <= some["removed"]["mean"] <= some["removed"]["max"] <= 32
    assert len(some["removed"]["by_step"]) == 8
    assert some["embedding"]["npr_after"] < some["embedding"]["npr_before"]
    assert some["drift"]["latent"] > 0
    assert job["progress"] == {"done": 8, "total": 8, "unit": "steps", "phase": None, "eta_seconds": None}
    assert job["result"]["timing"]["sample"] > 0


def test_artifacts_are_the_pictures_the_grid_and_the_latents(stack: Stack) -> None:
    job = stack.post(wait=30, keep=[8], labels=[1, 2], samples_per_label=2).json()
    baseline, kept = job["result"]["variants"]
    assert [(image["class_name"], image["sample"]) for image in kept["images"]] == [
        ("square", 0),
        ("square", 1),
        ("star", 0),
        ("star", 1),
    ]
    latents = load(stack.artifact(job, baseline["latents"]))
    assert latents["latents"].shape == (4, 3, 8, 8)
    assert latents["labels"].tolist() == [1, 1, 2, 2]
    picture = np.asarray(Image.open(io.BytesIO(stack.artifact(job, baseline["images"][0]["artifact"]))))
    expected = ((latents["latents"][0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert (picture[::4, ::4] == expected).all()
    grid = Image.open(io.BytesIO(stack.artifact(job, job["result"]["grid"])))
    assert grid.width > 4 * picture.shape[1]
    assert grid.height > 2 * picture.shape[0]


def test_every_sampler_of_the_family_can_be_asked_for(stack: Stack) -> None:
    for sampler in ("euler", "heun", "dopri5", "sde"):
        job = stack.post(wait=30, sampler=sampler).json()
        assert job["status"] == "succeeded", job
        assert job["progress"]["done"] == job["progress"]["total"]


def test_the_schedule_and_guidance_of_a_request_are_applied(stack: Stack) -> None:
    last = stack.post(wait=30, steps=8, schedule={"when": "last", "count": 2}).json()
    by_step = last["result"]["variants"][1]["removed"]["by_step"]
    assert [removed > 0 for removed in by_step] == [False] * 6 + [True] * 2
    drifts = [
        stack.post(wait=30, seed=7, **guidance).json()["result"]["variants"][1]["drift"]["latent"]
        for guidance in (
            {"guidance_scale": 1},
            {"guidance_scale": 4},
            {"guidance_scale": 4, "guidance_interval": [0.5, 1]},
            {"guidance_scale": 4, "guidance_power": 2},
            {"guidance_scale": 4, "guided_channels": 1},
        )
    ]
    assert len(set(drifts)) == len(drifts)


def test_metrics_need_no_block_of_the_network(stack: Stack) -> None:
    answer = stack.http.get(f"/metrics/{CONDITION_ONLY}")
    assert answer.status_code == 200, answer.text
    assert answer.json() == stack.http.get("/metrics/tiny").json() | {"model": answer.json()["model"]}
    refused = stack.post(wait=30, model=CONDITION_ONLY).json()
    assert refused["status"] == "failed"
    assert "no tensor named" in refused["problem"]["detail"]


def test_every_part_of_the_condition_is_measured(stack: Stack) -> None:
    counts = {part: stack.http.get("/metrics/tiny", params={"part": part}).json()["count"] for part in "cyt"}
    assert counts == {"c": 4, "y": 4, "t": 1000}
    early, late = (stack.http.get("/metrics/tiny", params={"timestep": t}).json() for t in (0, 1))
    assert early["norm"] != late["norm"]


def test_a_running_job_is_cancelled_and_its_worker_takes_the_next(stack: Stack) -> None:
    job_id = stack.post(seed=3, **LONG).json()["id"]
    stack.await_progress(job_id)
    assert stack.http.delete(f"/jobs/{job_id}").status_code == 202
    took = eventually(lambda: stack.job(job_id)["status"] == "cancelled", "the job is cancelled", seconds=5)
    print(f"cancelled after {took:.2f} s")
    assert stack.post(wait=30, seed=4).json()["status"] == "succeeded"
    assert stack.job(job_id)["result"] is None


def test_a_short_metrics_job_passes_long_queues_of_samples(stack: Stack) -> None:
    ids = [stack.post(seed=seed, **LONG).json()["id"] for seed in (10, 11)]
    try:
        stack.await_progress(ids[0])
        answer = stack.http.get("/metrics/tiny", params={"timestep": 0.123}, headers={"Prefer": "wait=0"})
        assert answer.status_code == 202
        metrics_id = answer.json()["id"]
        stack.http.delete(f"/jobs/{ids[0]}")
        stack.finished(metrics_id)
        assert stack.job(ids[1])["status"] in ("queued", "running")
    finally:
        for job_id in ids:
            stack.http.delete(f"/jobs/{job_id}")
