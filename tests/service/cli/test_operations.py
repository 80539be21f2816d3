import re
from pathlib import Path

from jobs.settings import Settings

DOCUMENT = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def test_every_setting_is_documented_and_nothing_else() -> None:
    named = set(re.findall(r"^\| `(?:TAILPRUNE_)?([A-Z_]+)` \|", DOCUMENT, re.MULTILINE))
    assert named == {name.upper() for name in Settings.model_fields}
