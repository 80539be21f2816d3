"""The table of the trained transformer."""

from __future__ import annotations

import json

from demo import ROOT
from evidence.measuring import Measured, replaced
from evidence.transformer import WAYS, Row, table
from tailprune.quality.images import Interval

MEASURED = Measured(Interval(0.0123, 0.01, 0.014, 0.95), Interval(0.993, 0.976, 0.998, 0.95))


def test_the_table_has_the_whole_model_and_every_way() -> None:
    rows = [Row(way, 11, 0.9, 0.0012, 0.0034, MEASURED, MEASURED) for way in WAYS]
    lines = table(rows, {"alone": "99 % (98–100)", "with the LoRA": "97 % (95–99)"}).splitlines()
    assert lines[2] == "| SiLU(c), whole | | | | | 99 % (98–100) | 97 % (95–99) |"
    assert lines[3] == (
        "| exact table of 12 steps | 11 | 90 % | 0.001 | 0.003 | 0.012, 99 % (98–100) | 0.012, 99 % (98–100) |"
    )
    assert len(lines) == 3 + len(WAYS)


def test_the_document_has_the_table_of_the_numbers_that_are_kept() -> None:
    text = (ROOT / "docs" / "large-transformers.md").read_text()
    assert "| the table |" in replaced(text, "evidence.transformer", "| the table |")
    kept = json.loads((ROOT / "docs" / "evidence" / "transformer.json").read_text())
    rows = []
    for row in kept["rows"]:
        measured = {
            name: Measured(**{what: Interval(**interval) for what, interval in row[name].items()})
            for name in ("alone", "with_lora")
        }
        rows.append(Row(**{**row, **measured}))
    assert table(rows, kept["whole"]) in text
