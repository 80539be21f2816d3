"""The pages that the repository has: README, and every document that one of them links to.

They are copied below one folder, laid out as in the repository, so that their links lead where they lead there; links
to notebooks lead to their pages.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "copy_files", "copy_pages", "tabbed"]

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
TABBED = re.compile(r"(?:^```\w+ tab=\"[^\"\n]+\"\n.*?^```\n\n?)+", re.DOTALL | re.MULTILINE)
TAB = re.compile(r"^```(\w+) tab=\"([^\"\n]+)\"\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def copy_pages(target: Path, *starts: Path) -> None:
    """Copy documents, and what they link to, below a folder."""
    copied: set[Path] = set()
    waiting = list(starts)
    while waiting:
        source = waiting.pop()
        page = source.relative_to(ROOT)
        if page in copied:
            continue
        copied.add(page)
        place = target / page
        place.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text()
        place.write_text(tabbed(text).replace(".ipynb)", ".md)"))
        copy_files(target, source.parent, text)
        waiting += [linked for linked in _linked(source.parent, text) if linked.suffix == ".md"]


def copy_files(target: Path, folder: Path, text: str) -> None:
    """Copy the files that a text in a folder links to, such as pictures, below another; documents are no such files."""
    for linked in _linked(folder, text):
        if linked.suffix not in (".md", ".ipynb") and linked.is_relative_to(ROOT):
            copy = target / linked.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(linked, copy)


def _linked(folder: Path, text: str) -> Iterator[Path]:
    """The files that a text in a folder links to."""
    for link in LINK.findall(text):
        linked = (folder / link).resolve()
        if linked.is_file():
            yield linked


def tabbed(text: str) -> str:
    """Blocks of code that follow each other and have a title, ```sh tab="curl", as tabs of one block."""
    return TABBED.sub(lambda run: TAB.sub(_as_tab, run[0]), text)


def _as_tab(block: re.Match[str]) -> str:
    lines = [f'=== "{block[2]}"', "", f"    ```{block[1]}", *(f"    {line}".rstrip() for line in block[3].splitlines())]
    return "\n".join([*lines, "    ```"])
