"""The examples of a document: its fenced blocks, and whether an answer is as the document prints it."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

__all__ = ["ANY", "Block", "blocks_of", "commands_of", "differences", "is_printed", "printed_by"]

FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
ANY = "…"
"""In a document's JSON: any value, any further fields or elements, any end of a text."""
OF_THE_MACHINE = ("timing",)
"""Objects whose numbers depend on the machine: only their names are compared."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
PRINTS = re.compile(r"^ *print\(.*\)  # ((?=[\d(]).*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, empty if none is named, its text, and the line of the document where it begins."""

    language: str
    text: str
    line: int


def blocks_of(document: Path) -> list[Block]:
    """The fenced blocks of a Markdown file, in order, those in lists included."""
    text = document.read_text()
    return [
        Block(found[2], textwrap.dedent(found[4]), text[: found.start()].count("\n") + 1)
        for found in FENCE.finditer(text)
    ]


def commands_of(text: str) -> list[str]:
    """The commands of a shell block: its lines, joined where a quote is open or a line ends with a backslash."""
    commands: list[str] = []
    begun = ""
    for line in text.splitlines(keepends=True):
        begun += line
        if begun.rstrip("\n").endswith("\\"):
            continue
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quote is open
            continue
        if words:
            commands.append(begun)
        begun = ""
    assert not begun.strip(), f"an unfinished command: {begun}"
    return commands


def printed_by(text: str) -> list[str]:
    """What a Python block says that its lines `print(...)  # 12.3` print: the comments that begin with a number."""
    return PRINTS.findall(text)


def is_printed(printed: str, line: str) -> bool:
    """Whether a line is what a document prints; decimals may differ by one in their last digit."""
    if NUMBER.sub("0", printed) != NUMBER.sub("0", line):
        return False
    pairs = zip(map(Decimal, NUMBER.findall(printed)), map(Decimal, NUMBER.findall(line)), strict=True)
    return all(one == other or ("." in str(one) and _is_close(one, other)) for one, other in pairs)


def _is_close(printed: Decimal, value: Decimal) -> bool:
    return abs(value - printed) <= Decimal(1).scaleb(int(printed.as_tuple().exponent))


def differences(printed: str, answer: Any) -> list[str]:
    """Where an answer is not as the JSON of a document says; numbers may differ by one in their last printed digit."""
    return list(_differences(json.loads(printed, parse_float=Decimal), answer, "", is_compared=True))


def _differences(printed: Any, answer: Any, at: str, is_compared: bool) -> Iterator[str]:
    if printed == ANY:
        return
    if isinstance(printed, dict) and isinstance(answer, dict):
        for name, value in printed.items():
            if name == ANY:
                continue
            if name in answer:
                yield from _differences(value, answer[name], f"{at}.{name}", is_compared and name not in OF_THE_MACHINE)
            else:
                yield f"{at}.{name} is not in the answer"
    elif isinstance(printed, list) and isinstance(answer, list):
        shown = printed[:-1] if printed and printed[-1] == ANY else printed
        if len(shown) > len(answer) or (shown is printed and len(shown) < len(answer)):
            yield f"{at} has {len(answer)} elements, not {len(shown)}"
        for index, (value, other) in enumerate(zip(shown, answer, strict=False)):
            yield from _differences(value, other, f"{at}.{index}", is_compared)
    elif is_compared and not _is_as_printed(printed, answer):
        yield f"{at} is {answer!r}, not {printed}"


def _is_as_printed(printed: Any, answer: Any) -> bool:
    if isinstance(printed, str) and isinstance(answer, str):
        return fnmatchcase(answer, printed.replace("[", "[[]").replace(ANY, "*"))
    if isinstance(printed, Decimal) and isinstance(answer, int | float):
        return _is_close(printed, Decimal(answer))
    return type(printed) is type(answer) and bool(printed == answer)
