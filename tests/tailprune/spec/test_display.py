"""What results look like where they are printed: one short line, and a table in a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import tailprune
from jobs.results import MetricsResult, Result
from tailprune import Prune
from tailprune.spec.display import Shown, brief
from tailprune.systems import System

LABELS = {"labels": torch.arange(4)}
SHIPPED = Path(__file__).parents[3] / "models" / "shapes-sit"


@dataclass(frozen=True, repr=False)
class Noted(Shown):
    text: str
    hidden: float = field(repr=False, default=0.0)


class Cells(HTMLParser):
    """The texts of a table, in order; fails for a tag that is not a table's."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in ("table", "caption", "tbody", "tr", "th", "td")
        assert "color" not in str(attributes)  # the notebook's theme decides, light or dark

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def results(system: System) -> dict[str, Any]:
    """Each kind of result, by its name."""
    times = tailprune.sampling_times(system, steps=50)
    c = system.condition(0.0, LABELS)
    y, t = system.embed_inputs(system.all_inputs()), system.embed_time(times.flatten())
    return {
        "Description": tailprune.describe(c),
        "DescriptionOverTime": tailprune.describe_over_time(y, t, [0.01, 0.05]),
        "Removal": tailprune.measure_removal(system, LABELS, Prune("tail", 0.1), times),
        "ConditionTable": tailprune.ConditionTable(system, LABELS, times),
        "Compaction": tailprune.compact(system, times=times[:2], inputs=LABELS, keep=8),
        "Comparison": tailprune.prune_and_compare(SHIPPED, [1, 2], Prune("tail", 0.05), steps=2),
    }


def test_every_result_is_one_line_that_names_the_most_important_numbers(sit: System) -> None:
    for name, result in results(sit).items():
        assert repr(result).startswith(f"{name}(")
        assert "\n" not in repr(result)
        assert len(repr(result)) < 800
        assert "tensor(" not in repr(result)
    description = tailprune.describe(sit.condition(0.0, LABELS))
    assert f"npr={description.npr:.4g}" in repr(description)
    assert f"mean={description.cosine.mean:.4g}" in repr(description)


def test_every_result_and_a_system_is_a_small_table_in_a_notebook(sit: System) -> None:
    for name, result in {"SiT": sit, **results(sit)}.items():
        html = result._repr_html_()
        cells = Cells(html).texts
        assert cells[0] == name
        assert len(html) < 6_000


def test_the_table_of_a_system_has_its_family_and_as_many_parameters_as_inspect_counts() -> None:
    system, found = tailprune.load(SHIPPED), tailprune.inspect(SHIPPED)
    cells = Cells(system._repr_html_()).texts
    assert cells[cells.index("family") + 1] == "sit"
    assert cells[cells.index("parameters") + 1] == str(found.parameters)
    assert cells[cells.index("condition_dim") + 1] == "128"
    assert "(blocks)" in repr(system)  # torch's tree of modules


def test_text_in_a_table_is_escaped() -> None:
    html = Noted("<script>alert(1)</script> & more")._repr_html_()
    assert "<script>" not in html
    assert Cells(html).texts[1:] == ["text", "<script>alert(1)</script> & more"]


def test_a_field_that_is_left_out_of_the_repr_is_left_out_of_the_table() -> None:
    assert repr(Noted("a", 5.0)) == "Noted(text='a')"
    assert "hidden" not in Noted("a", 5.0)._repr_html_()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456789, "0.1235"),
        (12, "12"),
        (None, "None"),
        ([1, 2, 3], "[1, 2, 3]"),
        (list(range(50)), "[0, 1, …, 49; 50 in all]"),
        ({0.9: 3}, "{0.9: 3}"),
        (torch.tensor([[0.0, 2.5]]), "<1 x 2, from 0 to 2.5>"),
        (torch.zeros(0, 3), "<0 x 3>"),
        ([Noted("a"), Noted("b")], "<2 x Noted>"),
        ("a" * 200, "'" + "a" * 78 + "…"),
    ],
)
def test_a_value_is_shown_in_a_few_words(value: Any, text: str) -> None:
    assert brief(value) == text


def test_the_result_of_a_job_is_short_too() -> None:
    result = MetricsResult.model_validate(
        {
            "model": {"name": "shapes-sit", "digest": "0" * 64},
            "part": "c",
            "timestep": 0.0,
            "count": 100,
            "dim": 128,
            "cosine": {"mean": 0.5, "min": 0.25, "max": 1.0},
            "pr": 8.0,
            "npr": 0.0625,
            "norm": 9.0,
            "sparsity": [{"threshold": 0.01, "fraction": 0.25}],
            "histogram": {"edges": [float(n) for n in range(71)], "counts": [*range(70)]},
            "variance": {"components": [0.5] * 128, "components_for": {"0.9": 12}},
        }
    )
    assert isinstance(result, Result)
    assert repr(result) == str(result)
    assert len(repr(result)) < 800
    assert "npr=0.0625" in repr(result)
    assert Cells(result._repr_html_()).texts[0] == "MetricsResult"
