"""The evidence of editing: the target class is held out, and what was measured becomes tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evidence.editing import ATTRIBUTES, MOVED, Accuracy, ModelEditing, held_out, write
from tailprune.shapes.dataset import CLASS_NAMES

RIGHT = Accuracy.of(torch.tensor([True] * 299 + [False]))
FOUND = ModelEditing(
    model="shapes-sit",
    weights="ab" * 32,
    shares={kind: {"colour": 0.5, "shape": 0.4, "interaction": 0.1} for kind in ("plain", "weighted")},
    unedited=RIGHT,
    additive=RIGHT,
    exchanged={attribute: dict.fromkeys(MOVED, RIGHT) for attribute in ATTRIBUTES},
    seconds=1.0,
)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("target", [0, 37, 99])
def test_nothing_of_the_target_class_is_used(attribute: str, target: int) -> None:
    begin, source, towards = held_out(attribute, target)
    assert target not in {begin, *source, *towards}
    assert begin not in {*source, *towards}
    place = ATTRIBUTES.index(attribute)
    words = [CLASS_NAMES[label].split() for label in (target, begin)]
    assert words[0][1 - place] == words[1][1 - place], "the other attribute stays"
    pairs = [(CLASS_NAMES[one].split(), CLASS_NAMES[other].split()) for one, other in zip(source, towards, strict=True)]
    assert len(pairs) == 9
    assert {(one[place], other[place]) for one, other in pairs} == {(words[1][place], words[0][place])}
    assert all(one[1 - place] == other[1 - place] for one, other in pairs)


def test_a_model_is_measured_again_beside_what_is_known_of_others(tmp_path: Path) -> None:
    write(tmp_path, FOUND, 3)
    write(tmp_path, replace(FOUND, model="shapes-dit", weights="cd" * 32), 3)
    known = json.loads((tmp_path / "editing.json").read_text())
    assert [each["model"] for each in known["models"]] == ["shapes-dit", "shapes-sit"]
    text = (tmp_path / "editing.md").read_text()
    assert "| shapes-sit | 1.00 (0.98–1.00) | 1.00 (0.98–1.00) |" in text
    assert text.count("| shapes-dit |") == 4
    write(tmp_path, FOUND, 4)
    assert len(json.loads((tmp_path / "editing.json").read_text())["models"]) == 1, "other numbers of samples differ"
