"""`make demo`, as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from demo.__main__ import LABELS, PICTURE

ROOT = Path(__file__).parents[2]
README_ROW = re.compile(
    r"^\| (tail|head), (?:below|above) ([\d.]+) \| ([\d.]+)[^|]*\| ([\d.]+) \| (\d+) %",
    re.MULTILINE,
)
"""A row of README's table: threshold, components removed, drift, and the share that is right."""


def test_the_demo_ends_well_and_leaves_its_picture() -> None:
    PICTURE.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("baseline", "tail 0.", "head 0.", "class accuracy", "curl -s"):
        assert said in done.stdout
    in_readme = README_ROW.findall((ROOT / "README.md").read_text())
    assert len(in_readme) == 3
    for side, threshold, *numbers in in_readme:
        (row,) = [line for line in done.stdout.splitlines() if f"{side} {threshold}" in line and "│" in line]
        shown = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", row)]
        for number in numbers:  # as in the README, but for the last digit
            assert any(abs(float(number) - one) <= 1.5 * 10.0 ** -len(number.partition(".")[2]) for one in shown), row
    with Image.open(PICTURE) as picture:
        assert picture.width > len(LABELS) * 128
