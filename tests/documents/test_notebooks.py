"""The notebooks run, in a folder of their own, and what they print is what is committed, up to rounding."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from demo import running
from documentation.notebooks import NOTEBOOKS, OF_A_SERVICE, executed, reader

MOST_BYTES = 300_000
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
PLACES = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|usr|var|Users)/")

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)


def outputs(document: Any) -> list[list[Any]]:
    """What each cell puts out: texts without their digits, and the types of everything else."""
    return [[shown(output) for output in cell.get("outputs", [])] for cell in document.cells]


def shown(output: Any) -> Any:
    if "text" in output:
        return NUMBER.sub("0", output["text"])
    return sorted(output.get("data", {})) or output["output_type"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@each_notebook
def test_a_notebook_runs_and_puts_out_what_is_committed(notebook: Path, tmp_path: Path, processes: None) -> None:
    with reader(tmp_path) as place:
        if notebook.name in OF_A_SERVICE:
            with running(tmp_path / "data") as url:
                os.environ["TAILPRUNE_URL"] = url
                document = executed(notebook, place)
        else:
            document = executed(notebook, place)
    assert outputs(document) == outputs(nbformat.read(notebook, as_version=4)), "run `make notebooks`"


@each_notebook
def test_a_notebook_is_small_and_names_no_place_or_time_of_the_machine_that_ran_it(notebook: Path) -> None:
    assert notebook.stat().st_size < MOST_BYTES
    document = nbformat.read(notebook, as_version=4)
    nbformat.validate(document)
    assert PLACES.findall("\n".join(text for cell in document.cells for text in texts(cell))) == []
    assert [cell.metadata for cell in document.cells if cell.metadata] == []
    assert all(cell.get("outputs") or cell.cell_type == "markdown" or is_quiet(cell) for cell in document.cells)


def texts(cell: Any) -> list[str]:
    """The texts that a cell puts out."""
    found = []
    for output in cell.get("outputs", []):
        found.append(output.get("text", ""))
        found += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def is_quiet(cell: Any) -> bool:
    """Whether a cell puts nothing out: it was run, and its last line is no expression that shows something."""
    return cell.execution_count is not None
