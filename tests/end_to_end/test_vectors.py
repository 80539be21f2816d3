"""Condition vectors through the front door, as tensors and as figures: real service, worker and checkpoints."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from jobs.requests.fields import FigureName
from tailprune import load_condition
from tests.end_to_end.stack import Stack, running
from tests.reference_models import BY_FEATURES, FAMILIES, case, write_reference_models
from tests.tailprune.parity import given, inputs_of

FIGURES = get_args(FigureName)
SCALES = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker, whose models are the reference cases."""
    folder = tmp_path_factory.mktemp("vectors")
    registry = write_reference_models(folder / "models")
    with running(folder / "stack", TAILPRUNE_REGISTRY=str(registry)) as stack:
        yield stack


def features(family: str) -> dict[str, torch.Tensor]:
    """Five conditions of a family: the inputs of its case, and smaller ones."""
    first = {name: value[:1] for name, value in inputs_of(case(family)).items()}
    return {name: value * SCALES.view(-1, *[1] * (value.ndim - 1)) for name, value in first.items()}


def conditions(stack: Stack, family: str) -> dict[str, str]:
    """What names the conditions of a family that takes them; nothing for one of labels."""
    if family not in BY_FEATURES:
        return {}
    answer = stack.http.post("/conditions", content=save({n: v.contiguous() for n, v in features(family).items()}))
    assert answer.status_code in (200, 201), answer.text
    return {"conditions": answer.json()["id"]}


def figure(stack: Stack, model: str, name: str, media_type: str, **query: Any) -> bytes:
    headers = {"Accept": media_type, "Prefer": "wait=60"}
    answer = stack.http.get(f"/metrics/{model}/figures/{name}", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media_type
    return answer.content


def check_png(stack: Stack, model: str, name: str, **query: Any) -> None:
    picture = Image.open(io.BytesIO(figure(stack, model, name, "image/png", **query)))
    assert picture.format == "PNG"
    assert np.asarray(picture).std() > 0


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_tiny_model_is_png_and_svg(stack: Stack, name: str) -> None:
    check_png(stack, "tiny", name)
    drawing = ElementTree.fromstring(figure(stack, "tiny", name, "image/svg+xml"))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    url = f"/metrics/tiny/figures/{name}"
    known = stack.http.get(url, headers={"Prefer": "wait=60"})
    assert stack.http.get(url, headers={"If-None-Match": known.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("family", FAMILIES)
def test_every_figure_of_every_system_is_drawn(systems: Stack, family: str) -> None:
    named = conditions(systems, family)
    few = {"removal": {"classes": 2, "threshold": 0.1}}  # samples; as many as by default are drawn of the tiny model
    for name in FIGURES:
        if name not in ("training", "attribution"):  # no record, and no names of classes
            check_png(systems, family, name, **named, **few.get(name, {}))


def test_a_model_without_a_record_of_its_training_says_what_is_missing(systems: Stack) -> None:
    answer = systems.http.get("/metrics/dit/figures/training")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")


@pytest.mark.parametrize("family", ["lightningdit", "mg", "x-mdpt"])
def test_the_vectors_of_labels_and_of_conditions_are_extracted(systems: Stack, family: str) -> None:
    named = conditions(systems, family)
    chosen, subjects = ("rows", [4, 0]) if named else ("labels", [3, 0, 1])
    first, last = (999.0, 0.0) if family == "x-mdpt" else (0.0, 1.0)
    body = {"model": family, "timesteps": [first, last], chosen: subjects, **named}
    job = systems.http.post("/extract", json=body, headers={"Prefer": "wait=60"}).json()
    assert job["status"] == "succeeded", job["problem"]
    assert job["kind"] == "extract"
    assert job["progress"] == {"done": 2, "total": 2, "unit": "timesteps", "phase": None, "eta_seconds": None}
    found = load(systems.artifact(job, job["result"]["artifact"]))

    content = case(family)
    checkpoint = systems.folder.parent / "models" / f"{family}.pt"
    condition = load_condition(checkpoint, family=family, **given(content))
    inputs = (
        {name: value[subjects] for name, value in features(family).items()}
        if named
        else {"labels": torch.tensor(subjects)} | ({"scale": torch.ones(3)} if condition.takes_guidance else {})
    )
    with torch.no_grad():
        expected = [condition.condition(torch.full((len(subjects),), time), inputs) for time in (first, last)]
    # the same float32 operations, in batches of other sizes
    torch.testing.assert_close(found["c"], torch.stack(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["t"].unsqueeze(1) + found["y"], found["c"])
    assert found["conditions" if named else "labels"].tolist() == subjects
    assert found["timesteps"].tolist() == [first, last]
    assert job["result"]["shapes"] == {name: list(tensor.shape) for name, tensor in found.items()}
