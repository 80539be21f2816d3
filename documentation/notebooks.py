"""Notebooks: run one in a folder, and as a page of the site.

`python -m documentation.notebooks [NAME ...]` runs all, or those named, and writes their outputs into them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

from demo import running
from documentation.pages import ROOT

__all__ = ["NOTEBOOKS", "as_page", "executed", "reader"]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 900
OF_A_SERVICE = ("client.ipynb",)
"""Notebooks that call a running service."""


@contextmanager
def reader(folder: Path) -> Iterator[Path]:
    """Where a notebook runs: a folder of its own beside a copy of the shipped models, as in a clone."""
    shutil.copytree(ROOT / "models", folder / "models")
    place = folder / "notebooks"
    place.mkdir()
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"  # with other numbers of threads, sums are rounded otherwise
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        yield place
    finally:
        os.environ.clear()
        os.environ.update(before)


def executed(notebook: Path, place: Path) -> Any:
    """A notebook, run in a folder from its beginning, without the times and names of this run."""
    document = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        document,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": place}},
    )
    client.execute()
    for cell in document.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"].pop("image/jpeg", None)  # of a Pillow image there are both
    document.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return document


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar, which ends with a rate."""
    return "it/s]" in output.get("data", {}).get("text/plain", "")


def as_page(notebook: Path, target: Path) -> str:
    """Write a notebook as Markdown, its pictures beside it; the text."""
    document = nbformat.read(notebook, as_version=4)
    body, resources = MarkdownExporter().from_notebook_node(document, {"unique_key": notebook.stem})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page := body.replace(".ipynb)", ".md)"))
    for name, content in resources["outputs"].items():
        (target.parent / name).write_bytes(content)
    return page


def main() -> None:
    """Run notebooks, and write their outputs into them."""
    names = sys.argv[1:]
    for notebook in NOTEBOOKS:
        if names and notebook.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, reader(Path(folder)) as place:
            if notebook.name in OF_A_SERVICE:
                with running(Path(folder) / "data") as url:
                    os.environ["TAILPRUNE_URL"] = url
                    document = executed(notebook, place)
            else:
                document = executed(notebook, place)
        nbformat.write(document, notebook)
        sys.stderr.write(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
