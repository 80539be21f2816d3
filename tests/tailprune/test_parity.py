"""Agreement with the official implementations, over every case of a folder.

REFERENCE_CASES names the folder (default: tests/reference). Each case prints one line with its worst error.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
    wrong = {
        name: error
        for name, error in errors.items()
        if not error <= (CONDITION_TOLERANCE if name == "condition" else TOLERANCE)
    }
    assert not wrong
    assert errors.keys() == content["outputs"].keys()
