from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch

import tailprune
from jobs.requests.metrics import MetricsRequest
from tests.tiny_model import CONDITION_ONLY, NAME
from workers.handler import Context
from workers.handlers.metrics import handler
from workers.lease import Run
from workers.model_pool import ModelPool

Ask = Callable[..., dict[str, object]]


@pytest.fixture
def ask(context: Context) -> Ask:

    def ask(part: str = "c", timestep: float | None = None, model: str = NAME) -> dict[str, object]:
        return _ask(context, part, timestep, model)

    return ask


def _ask(context: Context, part: str, timestep: float | None, model: str) -> dict[str, object]:
    request = MetricsRequest.model_validate(
        {"model": model, "part": part, "timestep": timestep, "thresholds": [0.1, 1.0]}
    )
    source = context.models.source(model, "condition")
    return handler.handle(cast(Run, None), request, source, context).result.model_dump()


@pytest.mark.parametrize(("part", "timestep"), [("c", 0.25), ("y", None), ("t", None)])
def test_the_statistics_are_those_of_the_vectors_of_the_part(
    models: ModelPool, part: str, timestep: float | None, ask: Ask
) -> None:
    system = models.systems.get(models.source(NAME, "model"))
    classes = {"labels": torch.arange(4)}
    with torch.no_grad():
        vectors = {
            "c": system.condition(torch.full((4,), 0.25), classes),
            "y": system.embed_inputs(classes),
            "t": system.embed_time(torch.linspace(0, 1, 1000)),
        }[part]
    expected = tailprune.describe(vectors)
    found = ask(part, timestep)
    assert (found["count"], found["dim"]) == vectors.shape
    # the same float32 vectors, summed in doubles
    assert found["npr"] == pytest.approx(expected.npr, rel=1e-6)
    assert found["cosine"] == pytest.approx(vars(expected.cosine), rel=1e-6)
    assert found["sparsity"] == [
        {"threshold": tau, "fraction": pytest.approx(expected.sparsity(tau))} for tau in (0.1, 1.0)
    ]
    assert set(found["variance"]["components_for"]) == {"0.9", "0.95", "0.99"}  # type: ignore[index]


def test_a_single_vector_has_no_cosine(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an unconditional model, whose only class is compared with nothing."""
    condition = context.models.conditions.get(context.models.source(NAME, "condition"))
    monkeypatch.setattr(condition, "num_classes", 1)
    found = _ask(context, "c", 0.25, NAME)
    assert (found["count"], found["cosine"]) == (1, None)
    assert 0 < cast(float, found["npr"]) < 1


def test_no_tensor_but_the_conditions_is_needed(ask: Ask) -> None:
    whole, condition_only = ask("y"), ask("y", model=CONDITION_ONLY)
    assert {**whole, "model": None} == {**condition_only, "model": None}
