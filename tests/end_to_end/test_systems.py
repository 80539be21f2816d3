"""Every system through the front door: real service, worker and checkpoints, decoders of the real classes."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from tests.end_to_end.stack import Stack, running
from tests.reference_models import (
    BY_FEATURES,
    FAMILIES,
    RATE,
    SAMPLES,
    STEPS,
    case,
    conditions_file,
    write_reference_models,
)

SCHEDULES = ({"when": "every"}, {"when": "first"}, {"when": "last", "count": 2})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker, whose models are the reference cases."""
    folder = tmp_path_factory.mktemp("systems")
    registry = write_reference_models(folder / "models")
    with running(folder / "stack", TAILPRUNE_REGISTRY=str(registry)) as stack:
        yield stack


def subjects(stack: Stack, family: str) -> dict[str, Any]:
    """What a request samples of a family: two labels, or two uploaded conditions."""
    if family not in BY_FEATURES:
        return {"labels": [0, 3]}
    answer = stack.http.post("/conditions", content=conditions_file(family))
    assert answer.status_code in (200, 201), answer.text
    return {"conditions": answer.json()["id"]}


def sampled(stack: Stack, family: str, **body: Any) -> dict[str, Any]:
    job = stack.post(wait=60, model=family, **{**subjects(stack, family), **body}).json()
    assert job["status"] == "succeeded", job["problem"]
    return dict(job)


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_are_answered(stack: Stack, family: str) -> None:
    asked = subjects(stack, family)
    query = {"conditions": asked["conditions"]} if "conditions" in asked else {}
    answer = stack.http.get(f"/metrics/{family}", params=query, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    config = case(family)["config"]
    assert found["count"] == (2 if query else config["num_classes"])
    assert found["dim"] == config["hidden_size"]
    assert 0 < found["npr"] <= 1
    again = stack.http.get(f"/metrics/{family}", params=query, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_pruned_at_tail_and_head_at_every_first_and_last_steps(stack: Stack, family: str) -> None:
    settings = case(family)["settings"]
    for side in ("tail", "head"):
        threshold = settings["tau_tail_1"] if side == "tail" else settings["tau_head"]
        latents = []
        for schedule in SCHEDULES:
            job = sampled(stack, family, threshold=threshold, side=side, schedule=schedule)
            baseline, pruned = job["result"]["variants"]
            active = [removed > 0 for removed in pruned["removed"]["by_step"]]
            count = {"every": STEPS, "first": 1, "last": 2}[schedule["when"]]
            expected = [False] * (STEPS - count) + [True] * count
            assert active == (expected[::-1] if schedule["when"] == "first" else expected)
            assert pruned["drift"]["latent"] > 0
            latents.append(load(stack.artifact(job, pruned["latents"]))["latents"])
            assert latents[-1].shape[1:] == case(family)["inputs"]["z"].shape[1:]
            assert len(baseline["images"]) == len(latents[-1]) == 2
        assert not any(torch.equal(a, b) for a, b in ((latents[0], latents[1]), (latents[1], latents[2])))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mdsgen"])
def test_samples_are_decoded_to_images(stack: Stack, family: str) -> None:
    result = sampled(stack, family, threshold=0.01)["result"]
    job = sampled(stack, family, threshold=0.01)
    decoder = "va-vae" if family == "lightningdit" else "sd-vae"
    assert result["pictures"] == {"show": "image", "decoder": decoder, "note": None}
    picture = Image.open(io.BytesIO(stack.artifact(job, result["variants"][1]["images"][0]["artifact"])))
    rows, columns = case(family)["inputs"]["z"].shape[2:]
    assert picture.size == (2 * columns, 2 * rows)  # the tiny decoders have two levels
    assert np.asarray(picture).std() > 0
    assert Image.open(io.BytesIO(stack.artifact(job, result["grid"]))).height > 2 * picture.height


def test_mdsgen_samples_are_decoded_to_sound_and_its_spectrogram(stack: Stack) -> None:
    job = sampled(stack, "mdsgen", threshold=0.5)
    result = job["result"]
    assert result["pictures"] == {"show": "spectrogram", "decoder": "audioldm", "note": None}
    for variant in result["variants"]:
        assert [(sound["condition"], sound["seconds"]) for sound in variant["sounds"]] == [(0, 8.16), (1, 8.16)]
        answer = stack.http.get(job["links"]["artifacts"][variant["sounds"][0]["artifact"]])
        assert answer.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(answer.content)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
            assert file.getnframes() == SAMPLES
            assert np.frombuffer(file.readframes(SAMPLES), dtype="<i2").std() > 0
        picture = Image.open(io.BytesIO(stack.artifact(job, variant["images"][0]["artifact"])))
        assert picture.size == (816, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_with_model_and_threshold_alone_samples_as_the_authors_do(stack: Stack, family: str) -> None:
    body = {} if family not in BY_FEATURES else subjects(stack, family)
    job = stack.post(wait=60, model=family, **body).json()
    assert job["status"] == "succeeded", job["problem"]
    said = job["request"]
    expected = {
        "dit": ("ddpm", 1.5, None, None, 3, None),
        "sit": ("sde", 1.5, None, None, 3, None),
        "mdt": ("ddpm", 3.8, 4.0, None, 3, None),
        "lightningdit": ("euler", 6.7, None, [0.125, 1.0], 3, 0.3),
        "repa": ("sde", 1.8, None, [0.0, 0.7], "all", None),
        "mg": ("sde", 1.0, None, None, "all", None),
        "x-mdpt": ("ddim", 2.0, 0.01, None, "all", None),
        "mdsgen": ("dpmpp", 5.0, 0.01, None, "all", None),
    }[family]
    names = ("sampler", "guidance_scale", "guidance_power", "guidance_interval", "guided_channels", "timestep_shift")
    assert tuple(said[name] for name in names) == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", [{"fill": "zero"}, {"fill": "mean"}, {"by": "directions"}], ids=str)
def test_every_system_is_compacted_and_served(stack: Stack, family: str, way: dict[str, Any]) -> None:
    asked = subjects(stack, family)
    body = {"model": family, "keep": 8, "steps": STEPS, **({} if "labels" in asked else asked), **way}
    job = stack.http.post("/compact", json=body, headers={"Prefer": "wait=60"}).json()
    assert job["status"] == "succeeded", job["problem"]
    made = job["result"]
    assert made["parameters"]["after"] < made["parameters"]["before"]
    assert made["compared"]["drift"]["latent"] > 0
    served = stack.post(wait=60, model=made["compacted"]["name"], threshold=None, **asked).json()
    assert served["status"] == "succeeded", served["problem"]
    (baseline,) = served["result"]["variants"]
    assert len(baseline["images"]) == 2


def test_one_row_of_the_conditions_is_the_same_sample_alone_as_among_others(stack: Stack) -> None:
    both = sampled(stack, "x-mdpt", threshold=0.5, seed=3)
    one = sampled(stack, "x-mdpt", threshold=0.5, seed=3, rows=[1])
    (together, alone) = (load(stack.artifact(job, job["result"]["variants"][1]["latents"])) for job in (both, one))
    assert alone["conditions"].tolist() == [1]
    first, second = alone["latents"][0], together["latents"][1]
    assert ((first - second).norm() / second.norm()).item() < 1e-4


def test_keep_ranks_components_over_the_uploaded_conditions(stack: Stack) -> None:
    result = sampled(stack, "mdsgen", keep=8)["result"]
    assert result["variants"][1]["removed"]["mean"] == 24  # of 32


def test_a_model_without_its_decoder_shows_its_latents_and_says_so(stack: Stack) -> None:
    decoder = stack.folder.parent / "models" / "decoders" / "sd-vae"
    decoder.rename(decoder.with_name("away"))
    try:
        view = stack.http.get("/models/x-mdpt").json()
        assert view["ready"]
        assert view["decoder"] == {"name": "sd-vae", "ready": False, "missing": ["decoders/sd-vae"]}
        result = sampled(stack, "x-mdpt", threshold=0.01)["result"]
    finally:
        decoder.with_name("away").rename(decoder)
    assert (result["pictures"]["show"], result["pictures"]["decoder"]) == ("latents", "latents")
    assert "files of the decoder sd-vae are missing (decoders/sd-vae)" in result["pictures"]["note"]
    assert sampled(stack, "x-mdpt", threshold=0.01)["result"]["pictures"]["show"] == "image"


def test_latents_of_many_channels_are_shown_and_not_compared_by_their_colours(stack: Stack) -> None:
    statistics = stack.folder.parent / "models" / "decoders" / "latents_stats.pt"
    statistics.rename(statistics.with_suffix(".away"))
    try:
        result = sampled(stack, "lightningdit", threshold=0.01)["result"]
    finally:
        statistics.with_suffix(".away").rename(statistics)
    drift = result["variants"][1]["drift"]
    assert result["pictures"]["show"] == "latents"
    assert drift["latent"] > 0
    assert (drift["psnr"], drift["ssim"]) == (None, None)


@pytest.mark.parametrize(
    ("family", "body", "location", "message"),
    [
        ("x-mdpt", {}, "body.conditions", "takes conditions of pose 257 x 768, image 257 x 1536, latents 4 x 32 x 32"),
        ("mdsgen", {"labels": [0]}, "body.labels", "mdsgen has no classes"),
        ("dit", {"conditions": "video"}, "body.conditions", "dit takes labels, not conditions"),
        ("x-mdpt", {"conditions": "video"}, "body.conditions", "these are conditions of video"),
        ("mdsgen", {"conditions": "video", "rows": [0, 2]}, "body.rows.1", "row 2 is outside 0 to 1"),
        ("dit", {"rows": [0]}, "body.rows", "dit takes labels"),
        ("dit", {"timestep_shift": 0.3}, "body.timestep_shift", "applies only to the samplers 'euler' and 'heun'"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_request(
    stack: Stack, family: str, body: dict[str, Any], location: str, message: str
) -> None:
    if body.get("conditions") == "video":
        body = body | subjects(stack, "mdsgen")
    answer = stack.http.post("/prune-sample", json={"model": family, "threshold": 0.1, **body})
    assert answer.status_code == 422
    faults = {fault["location"]: fault["message"] for fault in answer.json()["errors"]}
    assert message in faults[location]


def test_conditions_that_were_never_uploaded_are_unknown(stack: Stack) -> None:
    answer = stack.http.post("/prune-sample", json={"model": "mdsgen", "threshold": 0.1, "conditions": "0" * 64})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-conditions")
    assert stack.http.get("/metrics/mdsgen", params={"conditions": "0" * 64}).status_code == 404


def test_a_single_condition_is_measured_and_not_compared(stack: Stack) -> None:
    one = {name: value[:1] for name, value in load(conditions_file("mdsgen")).items()}
    from safetensors.torch import save

    uploaded = stack.http.post("/conditions", content=save({name: value.clone() for name, value in one.items()}))
    asked_of = {"conditions": uploaded.json()["id"]}
    answer = stack.http.get("/metrics/mdsgen", params=asked_of, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert (answer.json()["count"], answer.json()["cosine"]) == (1, None)
    assert 0 < answer.json()["npr"] < 1
    compared = stack.http.get("/metrics/mdsgen/figures/cosine", params=asked_of)
    assert compared.status_code == 422
    assert "compares vectors, and there is only one" in compared.json()["errors"][0]["message"]
    parts = stack.http.get("/metrics/mdsgen", params={"part": "t"})
    assert parts.status_code == 200
    for asked in ({"keep": 4}, {"threshold": 0.1, "fill": "mean"}):
        body = {"model": "mdsgen", "conditions": uploaded.json()["id"], **asked}
        answer = stack.http.post("/prune-sample", json=body)
        assert answer.status_code == 422
        assert "depends on all conditions of the file, and this file has one" in answer.json()["errors"][0]["message"]


def test_a_job_that_fails_tells_no_path_of_the_machine(stack: Stack) -> None:
    models = stack.folder.parent / "models"
    weights = models / "decoders" / "sd-vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"damaged")
    try:
        job = stack.post(wait=60, model="dit", labels=[0], seed=77).json()
    finally:
        weights.write_bytes(whole)
    assert job["status"] == "failed"
    assert "decoders/sd-vae" in job["problem"]["detail"]
    assert str(models) not in job["problem"]["detail"]
