"""`tailprune edit` and `tailprune attribution`: what they send, and the tables that they show."""

from __future__ import annotations

import pytest

from jobs.attribution_results import AttributionResult
from jobs.edit_results import EditResult
from jobs.requests.edit import EditRequest
from service.cli.options import body_of
from service.cli.tables import files_of, sheets_of
from tests.service.cli.test_options import context_of
from tests.service.results import ATTRIBUTION, EDITED


def test_the_options_of_an_edit_are_the_fields_of_its_request() -> None:
    context = context_of("edit")
    context.params.update(
        {
            "model": "shapes-sit",
            "source": ["red circle", 3],
            "target": [7],
            "strength": [0.0, 1.0],
            "schedule_when": "last",
            "schedule_count": 3,
            "modulation_weight": 0.5,
            "modulation_minus": "blue star",
        }
    )
    assert body_of(context, EditRequest) == {
        "model": "shapes-sit",
        "source": ["red circle", 3],
        "target": [7],
        "strength": [0.0, 1.0],
        "schedule": {"when": "last", "count": 3},
        "modulation": {"weight": 0.5, "minus": "blue star"},
    }


def test_an_edit_is_a_table_of_strengths() -> None:
    result = EditResult.model_validate(EDITED)
    (sheet,) = sheets_of(result)
    assert [row[0] for row in sheet.rows] == ["strength 0.0", "strength 0.75"]
    assert [row[-1] for row in sheet.rows] == ["0.00", "0.75"]
    assert "shapes-classifier" in (sheet.caption or "")
    assert files_of(result) == ["grid.png"]


@pytest.mark.parametrize("place", [1, 2])
def test_attribution_is_a_table_of_shares_and_the_largest(place: int) -> None:
    sheets = list(sheets_of(AttributionResult.model_validate(ATTRIBUTION)))
    assert sheets[0].rows[0] == ["colour", "50.0%", "60.0%"]
    assert sheets[place].headings[2:] == ["colour", "shape", "interaction"]
    assert sheets[1].rows[0] == ["1", "70.0%", "90%", "10%", "0%"]


def test_a_table_says_how_fast_bfloat16_is_on_a_cpu() -> None:
    engine = EDITED["engine"] | {"dtype": "bfloat16", "bfloat16_speed": 0.744}
    (sheet,) = sheets_of(EditResult.model_validate(EDITED | {"engine": engine}))
    assert "on cpu in bfloat16 (0.74 times float32's speed)" in (sheet.caption or "")
    (sheet,) = sheets_of(EditResult.model_validate(EDITED))
    assert "on cpu, " in (sheet.caption or "")
