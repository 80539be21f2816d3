"""A digest means one thing: that of `GET /models/{model}` is that of every result of the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.stack import Stack
from tests.tiny_model import NAME, TINY_DIT

WAIT = {"Prefer": "wait=60"}
Used = dict[str, Any]


def posted(path: str, **body: Any) -> Callable[[Stack, str], Used]:
    """Posts a request, and returns what its result says of the model."""

    def used(stack: Stack, model: str) -> Used:
        job = stack.http.post(path, json={"model": model, **body}, headers=WAIT).json()
        assert job["status"] == "succeeded", job["problem"]
        return dict(job["result"]["model"])

    return used


def statistics(stack: Stack, model: str) -> Used:
    return dict(stack.http.get(f"/metrics/{model}", headers=WAIT).json()["model"])


def drawn(figure: str) -> Callable[[Stack, str], Used]:
    """Draws a figure, and returns what the result of its job says of the model."""

    def used(stack: Stack, model: str) -> Used:
        answer = stack.http.get(f"/metrics/{model}/figures/{figure}", headers=WAIT)
        assert answer.status_code == 200, answer.text
        jobs = stack.http.get("/jobs", params={"kind": "figure", "model": model, "limit": 200}).json()["jobs"]
        (job,) = [job for job in jobs if job["title"].startswith(f"{figure} figure")]
        return dict(stack.http.get(job["links"]["self"]).json()["result"]["model"])

    return used


OF_THE_WHOLE = {
    "prune-sample": posted("/prune-sample", threshold=0.5),
    "study": posted("/studies", prunes=[{"threshold": 0.5}], measures=["drift"]),
    "removal": drawn("removal"),
}
NONE = dict.fromkeys(("digest", "condition_digest", "modulation_digest", "training_digest"))
OF_THE_CONDITION = {"extract": posted("/extract"), "metrics": statistics, "histogram": drawn("histogram")}


def removal(stack: Stack, model: str) -> Any:
    return stack.http.get(f"/metrics/{model}/removal", params={"threshold": 0.5}).json()["model"]


def compacted(stack: Stack, model: str) -> dict[str, Any]:
    """The result of a compaction to a model that can be pruned."""
    body = {"model": model, "threshold": 0.5}
    job = stack.http.post("/compact", json=body, headers=WAIT).json()
    assert job["status"] == "succeeded", job["problem"]
    return dict(job["result"])


@pytest.mark.parametrize("model", [NAME, TINY_DIT, "compacted"])
def test_results_of_a_model_have_the_digests_that_the_model_has(stack: Stack, model: str) -> None:
    if model == "compacted":
        model = compacted(stack, NAME)["compacted"]["name"]
    view = stack.http.get(f"/models/{model}").json()
    whole, condition = view["digest"], view["condition_digest"]
    assert whole
    assert condition
    for kind, ask in OF_THE_WHOLE.items():
        assert ask(stack, model) == NONE | {"name": model, "digest": whole}, kind
    for kind, ask in OF_THE_CONDITION.items():
        assert ask(stack, model) == NONE | {"name": model, "condition_digest": condition}, kind
    assert removal(stack, model) == NONE | {"name": model, "modulation_digest": view["modulation_digest"]}


def test_a_compaction_has_the_digests_of_both_models(stack: Stack) -> None:
    result = compacted(stack, NAME)
    whole = stack.http.get(f"/models/{NAME}").json()
    made = stack.http.get(f"/models/{result['compacted']['name']}").json()
    assert result["model"]["digest"] == whole["digest"]
    assert result["compacted"]["digest"] == made["digest"] == made["condition_digest"] != whole["digest"]


def test_the_digest_of_a_model_is_that_of_its_file(stack: Stack) -> None:
    content = (stack.registry.parent / f"{NAME}.safetensors").read_bytes()
    assert stack.http.get(f"/models/{NAME}").json()["digest"] == hashlib.sha256(content).hexdigest()


def test_the_figure_of_training_has_the_digest_of_the_record_of_training(stack: Stack) -> None:
    used = drawn("training")(stack, NAME)
    record = next(stack.registry.parent.rglob("training.json")).read_bytes()
    assert used["training_digest"] == hashlib.sha256(record).hexdigest()
    assert (used["digest"], used["condition_digest"]) == (None, None)
