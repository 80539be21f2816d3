"""`make docs`: the documentation as a site, in site/.

The pages are laid out below build/documentation, as they are in the repository, with those that are made of code beside
them: reference/ and notebooks/. Zensical then makes the site, and any warning fails it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from documentation.http_reference import http_page
from documentation.notebooks import NOTEBOOKS, as_page
from documentation.pages import ROOT, copy_files, copy_pages
from service.cli import app

__all__ = ["lay_out", "main"]

PAGES = ROOT / "build" / "documentation"
"""What `zensical.toml` names as its folder."""


def lay_out(target: Path) -> None:
    """Write every page below a folder."""
    shutil.rmtree(target, ignore_errors=True)
    copy_pages(target, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")))
    for notebook in NOTEBOOKS:
        page = as_page(notebook, target / "notebooks" / f"{notebook.stem}.md")
        copy_files(target, notebook.parent, page)
    reference = target / "reference"
    reference.mkdir()
    (reference / "http.md").write_text(http_page(ROOT / "openapi.yaml"))
    (reference / "commands.md").write_text(_commands())
    assets = target / "documentation"
    assets.mkdir()
    for name, place in (("python.md", reference), ("style.css", assets), ("iframe-worker.js", assets)):
        shutil.copyfile(Path(__file__).with_name(name), place / name)


def _commands() -> str:
    """Every command with its options, as `--help` has them."""
    command = typer.main.get_command(app)
    page = get_docs_for_click(obj=command, ctx=typer.Context(command), name="tailprune", title="Command-line reference")
    return str(page)


def main() -> None:
    """Make the site; the exit status is that of Zensical."""
    lay_out(PAGES)
    zensical = Path(sys.executable).with_name("zensical")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the extensions in this package
    sys.exit(subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
