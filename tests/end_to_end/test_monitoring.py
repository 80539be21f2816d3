"""The board and the alarms ask for series of a real stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.store.telemetry import WEBHOOK_CALLS
from tests.end_to_end.stack import Stack

ROOT = Path(__file__).parents[2]
SERIES = re.compile(r"\b(tailprune_\w+)(?:\{([^}]*)\})?")


def expressions(document: Any) -> Iterator[str]:
    """Every query of a board or of rules."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "expr":
                yield value
            else:
                yield from expressions(value)
    elif isinstance(document, list):
        for each in document:
            yield from expressions(each)


@pytest.mark.parametrize("file", ["grafana/tailprune.json", "prometheus/rules.yaml"])
def test_every_series_and_label_of_board_and_alarms_is_one_of_a_stack(stack: Stack, file: str) -> None:
    stack.finished(stack.post(labels=[0], steps=2).json()["id"])
    there: dict[str, set[str]] = {}
    for each in stack.series():
        name, _, labels = each.partition("{")
        there.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    there[f"{WEBHOOK_CALLS.name}_total"] = set(WEBHOOK_CALLS.labels)  # begins with the first call: here is none
    text = (ROOT / "deploy" / file).read_text()
    asked = [match for query in expressions(yaml.safe_load(text)) for match in SERIES.findall(query)]
    assert len(asked) > 5
    for name, labels in asked:
        assert name in there, name
        assert set(re.findall(r"(\w+)=", labels)) <= there[name], name
