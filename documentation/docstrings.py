"""An extension of griffe: the parameters in a docstring of this project become a list.

A docstring has a sentence, then a line for each parameter, `name: what it is` or `name, other: what they are`,
continued by an indented line. Markdown would run these lines together.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Parameters"]

AWAITED = (("Operation[", ""), ("Stream[", "Iterator["), ("Started[", "Job["))
"""How the methods of both clients name what `Client` returns."""
ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>.*)", re.DOTALL)


class Parameters(griffe.Extension):
    """Lists in place of paragraphs, wherever each entry of a paragraph is of parameters or fields of the object."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Of a function, its parameters."""
        _rewrite(func, {parameter.name for parameter in func.parameters})
        if func.module.path.startswith("tailprune_client.") and func.returns is not None:
            func.returns = _returned(str(func.returns))

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Of a class, its fields, which are the parameters of a dataclass, or the parameters of its constructor."""
        made = cls.members.get("__init__")
        parameters = made.parameters if isinstance(made, griffe.Function) else ()
        _rewrite(cls, {*cls.members, *(parameter.name for parameter in parameters)})


def _returned(annotation: str) -> str:
    """What a method of `Client` returns."""
    for name, other in AWAITED:
        if annotation.startswith(name):
            inner = _returned(annotation.removeprefix(name).removesuffix("]"))
            return f"{other}{inner}]" if other else inner
    return annotation


def _rewrite(of: griffe.Object, names: set[str]) -> None:
    if of.docstring is not None:
        of.docstring.value = "\n\n".join(_listed(part, names) for part in of.docstring.value.split("\n\n"))


def _listed(paragraph: str, names: set[str]) -> str:
    """A paragraph as a list, if each of its entries is of these names; else the paragraph."""
    entries = [ENTRY.fullmatch(entry) for entry in re.split(r"\n(?! )", paragraph)]
    if not all(entry is not None and names.issuperset(entry["names"].split(", ")) for entry in entries):
        return paragraph
    lines = []
    for entry in entries:
        assert entry is not None
        named = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
        lines.append(f"- {named}: {' '.join(entry['text'].split())}")
    return "\n".join(lines)
