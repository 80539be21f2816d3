"""Agreement with the official implementations, over every case of a folder.

REFERENCE_CASES names the folder (default: tests/reference). Each case prints one line with its worst error.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch

from tailprune.systems import kernels
from tailprune.systems.choices import Choice, Layer
from tests.choices import has_form
from tests.tailprune.parity import CONDITION_TOLERANCE, TOLERANCE, Case, read

FOLDER = Path(os.environ.get("REFERENCE_CASES", Path(__file__).parents[1] / "reference"))
CASES = sorted(FOLDER.glob("*.pt.xz"))


def test_the_folder_holds_cases() -> None:
    assert CASES, f"no *.pt.xz in {FOLDER}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".pt.xz"))
def test_agrees_with_the_official_implementation(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read(path)
    errors = dict(Case(content, tmp_path).errors())
    worst = max(errors, key=lambda name: errors[name])
    with capsys.disabled():
        print(
            f"\n{content['family']}-{content['tag']}: {len(errors)} outputs, worst {errors[worst]:.1e} ({worst}), "
            f"condition {errors['condition']:.1e}"
        )
    check(content, errors)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["convolution", "packed"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".pt.xz"))
def test_agrees_in_any_form_of_its_layers(
    path: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forced(layer: Layer, names: Collection[str], forms_of: Any) -> Choice:
        chosen = form if form in names else list(names)[-1]  # products, and GELU by its sigmoid
        return Choice(chosen, {chosen: 1.0}, samples=1)

    if not has_form(form, torch.float32):
        pytest.skip(f"this CPU has no {form} layer")
    monkeypatch.setattr(kernels, "choice_of", forced)
    content = read(path)
    check(content, dict(Case(content, tmp_path).errors()))


def check(content: dict[str, Any], errors: dict[str, float]) -> None:
    """Check that every output of a case is there, and near enough."""
    wrong = {
        name: error
        for name, error in errors.items()
        if not error <= (CONDITION_TOLERANCE if name == "condition" else TOLERANCE)
    }
    assert not wrong
    assert errors.keys() == content["outputs"].keys()
