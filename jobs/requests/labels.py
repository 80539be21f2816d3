"""Class labels of requests: numbers, or names of classes, which are resolved to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize

from pydantic import AfterValidator, Discriminator, Field, Tag

from jobs.requests.fields import UNIQUE, all_different, number_or_word

if TYPE_CHECKING:
    from jobs.registry.models import ModelEntry

__all__ = ["ClassName", "Label", "Labels", "class_numbers", "label_faults", "subjects_of"]

ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Label = Annotated[
    Annotated[int, Field(ge=0), Tag("one")] | Annotated[ClassName, Tag("word")], Discriminator(number_or_word)
]
"""The number of a class, from 0, or its name."""
Labels = Annotated[
    list[Label], Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE), AfterValidator(all_different)
]

MOST_SUGGESTIONS = 5
"""For how many unknown names of a request the closest name is looked for, which takes a while among many names."""


def class_numbers(labels: Sequence[int | str] | None, entry: ModelEntry) -> list[int] | None:
    """The numbers of the classes that a request names; None for None.

    labels: numbers, and names: as the model has them, or in other letters, upper or lower case.
    entry: the model.

    Names that no class or several classes have are left out: `label_faults` reports them.
    """
    if labels is None:
        return None
    classes = _Classes(labels, entry)
    return [found[0] for found in map(classes.places, labels) if len(found) == 1]


def label_faults(labels: Sequence[int | str], entry: ModelEntry) -> list[tuple[int, str]]:
    """What is wrong with the labels of a request for a model that has classes, as pairs of place and message."""
    classes, faults, seen = _Classes(labels, entry), list[tuple[int, str]](), set[int]()
    for place, label in enumerate(labels):
        found = classes.places(label)
        if len(found) != 1:
            faults.append((place, classes.fault(str(label))))
            continue
        (number,) = found
        if entry.classes is not None and number >= entry.classes:
            outside = f"label {number} is outside 0 to {entry.classes - 1}, the classes of {entry.name}"
            faults.append((place, outside))
        elif number in seen:
            faults.append((place, f"label {label!r} is the class {number}, which is given twice; give it once"))
        seen.add(number)
    return faults


def subjects_of(resolved: Sequence[int | str] | None) -> list[int]:
    """The labels or rows of a resolved request, which has numbers alone; none for None."""
    return [number for number in resolved or [] if isinstance(number, int)]


class _Classes:
    """The classes of a model by name. Names are read only if a label is one."""

    def __init__(self, labels: Sequence[int | str], entry: ModelEntry) -> None:
        self._entry = entry
        self._names = entry.names if any(isinstance(label, str) for label in labels) else []
        self._exact: dict[str, list[int]] = {}
        self._folded: dict[str, list[int]] = {}
        for number, name in enumerate(self._names):
            self._exact.setdefault(name, []).append(number)
            self._folded.setdefault(_folded(name), []).append(number)
        self._suggestions = 0

    def places(self, label: int | str) -> list[int]:
        """The numbers of the classes that a label may mean."""
        if isinstance(label, int):
            return [label]
        return self._exact.get(label) or self._folded.get(_folded(label), [])

    def fault(self, name: str) -> str:
        """What is wrong with a name that not exactly one class has."""
        model, found = self._entry.name, self.places(name)
        if found:
            numbers = ", ".join(map(str, found))
            return f"{name!r} is the name of several classes of {model}; give the number of one of them: {numbers}"
        if not self._names:
            return f"the classes of {model} have no names; give the number of a class instead of {name!r}"
        unknown = f"no class of {model} is named {name!r}"
        if name.isdecimal():
            return f"{unknown}; write the number of a class without quotes"
        self._suggestions += 1
        if self._suggestions > MOST_SUGGESTIONS:
            return f"{unknown}; GET /models/{model} lists the names"
        closest = self._closest(name)
        return f"{unknown}; the closest name is {self._names[closest]!r}, label {closest}"

    def _closest(self, name: str) -> int:
        """The number of the class whose name is most like this one; a name that contains it comes first."""
        wanted = _folded(name)

        def likeness(number: int) -> tuple[bool, float]:
            other = _folded(self._names[number])
            return wanted in other, SequenceMatcher(None, wanted, other).ratio()

        return max(range(len(self._names)), key=likeness)


def _folded(name: str) -> str:
    """A name without what may differ: case, spaces, and how an accented letter is made up."""
    return " ".join(normalize("NFC", name).split()).casefold()
