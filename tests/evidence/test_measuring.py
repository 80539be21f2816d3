"""Tables of documents that commands write anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from demo import ROOT
from evidence import compaction, learned_masks
from evidence.compaction import KINDS, Row, table
from evidence.measuring import Measured, cell, replaced, with_others
from tailprune.quality.images import Interval

MEASURED = Measured(Interval(0.0961, 0.0902, 0.1003, 0.95), Interval(0.993, 0.976, 0.998, 0.95))


def test_a_cell_has_drift_and_accuracy_with_their_intervals() -> None:
    assert cell(MEASURED) == "0.096 ± 0.005, 99 % (98–100)"


def test_a_table_takes_its_place_again_and_again() -> None:
    document = "Before.\n\n<!-- begin: python -m evidence.x -->\nold\n<!-- end: python -m evidence.x -->\n\nAfter.\n"
    once = replaced(document, "evidence.x", "\\1 new\n")
    assert once == document.replace("old", "\\1 new")
    assert replaced(once, "evidence.x", "old") == document
    with pytest.raises(ValueError, match="has no place between"):
        replaced(document, "evidence.y", "new")


def test_the_table_of_compactions_has_every_kind_at_every_width() -> None:
    rows = [
        Row(model, kind, MEASURED, most, most, 0.7 + 0.01 * place)
        for place, model in enumerate(("shapes-sit", "shapes-dit"))
        for most in (32, 20)
        for kind in KINDS
    ]
    lines = table(rows, {"shapes-sit": "100 % (99–100)", "shapes-dit": "94 % (91–96)"}).splitlines()
    assert lines[0] == "| model, whole | kind | width 32 | width 20 |"
    assert lines[2].startswith("| shapes-sit, 100 % (99–100) | threshold of c, zero | 0.096 ± 0.005")
    assert len(lines) == 2 + 2 * len(KINDS) + 1 + 2 + len(KINDS)
    assert lines[-1] == "| directions | 70–71 % | 70–71 % |"


@pytest.mark.parametrize(("document", "module"), [("compaction.md", compaction), ("pruning.md", learned_masks)])
def test_each_document_has_a_place_for_its_table(document: str, module: Any) -> None:
    text = replaced((ROOT / "docs" / document).read_text(), module.__spec__.name, "| the table |")
    assert f"<!-- begin: python -m {module.__spec__.name} -->\n| the table |\n<!-- end" in text


def test_the_table_of_learned_masks_has_every_rule_at_every_share() -> None:
    rows = [
        learned_masks.Row("shapes-sit", kind, MEASURED, share)
        for share in learned_masks.SHARES
        for kind in learned_masks.KINDS
    ]
    lines = learned_masks.table(rows, {"shapes-sit": "100 % (99–100)"}).splitlines()
    assert lines[0] == "| model, whole | kept by, fill | 40 % removed | 66 % removed | 80 % removed | 90 % removed |"
    assert len(lines) == 2 + len(learned_masks.KINDS)
    assert all(line.count("0.096 ± 0.005") == 4 for line in lines[2:])


def test_what_is_kept_of_models_that_are_not_measured_is_of_their_weights_and_measured_alike(tmp_path: Path) -> None:
    weights = hashlib.sha256((ROOT / "models" / "shapes-sit" / "model.safetensors").read_bytes()).hexdigest()
    kept = [learned_masks.Row(model, "learned, mean", MEASURED, 0.4) for model in ("shapes-sit", "shapes-mg")]
    accuracies = {"shapes-sit": "99 % (98–100)", "shapes-mg": "97 % (94–98)"}
    found = {"steps": 10, "whole": accuracies, "weights": {"shapes-sit": weights, "shapes-mg": "of before"}}
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps(found | {"rows": [asdict(row) for row in kept]}))
    new = [learned_masks.Row("shapes-dit", "learned, mean", MEASURED, 0.4)]
    whole = {"shapes-dit": "93 % (90–95)"}
    rows, of_all = with_others(numbers, {"steps": 10}, learned_masks.Row, new, whole)
    assert rows == [*new, kept[0]]
    assert of_all == whole | {"shapes-sit": "99 % (98–100)"}
    assert with_others(numbers, {"steps": 12}, learned_masks.Row, new, whole) == (new, whole)
    assert with_others(tmp_path / "none.json", {"steps": 10}, learned_masks.Row, new, whole) == (new, whole)
