"""`make demo`, as a newcomer runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from demo.__main__ import LABELS, PICTURE

ROOT = Path(__file__).parents[2]


def test_the_demo_ends_well_and_leaves_its_picture() -> None:
    PICTURE.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("baseline", "tail 0.", "head 0.", "class accuracy", "curl -s"):
        assert said in done.stdout
    with Image.open(PICTURE) as picture:
        assert picture.width > len(LABELS) * 128
