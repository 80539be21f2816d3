"""The colours of the views that notebooks have, against those of the pages, which have the same views."""

from __future__ import annotations

import json
import re
import subprocess

from tests.tailprune.widget.test_statistics import NODE, WIDGET

STYLE = WIDGET.parents[1] / "service" / "static" / "style.css"
PROGRAM = "const { LIGHT, DARK } = await import(process.argv[1]); console.log(JSON.stringify([LIGHT, DARK]));"


def test_a_view_has_the_same_colours_in_a_notebook_as_on_a_page(processes: None) -> None:
    command = [NODE, "--input-type=module", "-e", PROGRAM, f"{WIDGET}/colours.js"]
    light, dark = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    tokens = re.findall(r"--([a-z]+): light-dark\((#\w+), (#\w+)\)", STYLE.read_text())
    pages = {name: pair for name, *pair in tokens if name in light}
    assert pages == {name: [light[name], dark[name]] for name in light}
