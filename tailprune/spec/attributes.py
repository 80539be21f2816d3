"""Attributes of classes, such as colour and shape, each with a value for every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from tailprune.spec import InputError

__all__ = ["INTERACTION", "WITHIN", "attributes_of_names", "check_attributes", "read_attributes", "rest_of"]

INTERACTION, WITHIN = "interaction", "within"
"""The names of the variance that no attribute alone has: between several attributes; within the values of one."""


def rest_of(attributes: int) -> str:
    """The name of the variance that none of so many attributes has by itself."""
    return WITHIN if attributes == 1 else INTERACTION


def attributes_of_names(names: Sequence[str], attributes: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The words of the names of classes as attributes: `red circle` has two.

    names: of all classes, as many words each
    attributes: what to call the first word, the second, and so on; `word 1`, `word 2` by default

    Raises InputError for names of different numbers of words, or another number of attributes.
    """
    if not names:
        raise InputError("the classes have no names whose words would be attributes: give a value for every class")
    split = [name.split() for name in names]
    count = len(split[0])
    for name, words in zip(names, split, strict=True):
        if len(words) != count:
            raise InputError(
                f"the words of class names are attributes only where each has as many: {names[0]!r} has {count} and "
                f"{name!r} {len(words)}; give a value for every class"
            )
    called = [f"word {place}" for place in range(1, count + 1)] if attributes is None else list(attributes)
    if len(called) != count:
        raise InputError(
            f"the names of the classes have {count} words, such as {names[0]!r}, and {len(called)} attributes are "
            "named: name as many"
        )
    return {attribute: [words[place] for words in split] for place, attribute in enumerate(called)}


def check_attributes(attributes: Mapping[str, Sequence[str]], classes: int) -> None:
    """Raise InputError unless the variance of so many classes can be told apart by these attributes.

    attributes: the value of every class, by attribute. Of two attributes each value of one has to occur with each value
        of the other as often as by chance, n_ab = n_a n_b / N, as it does where every combination is a class: otherwise
        their shares of the variance overlap
    """
    if not attributes:
        raise InputError("there is no attribute: give at least one")
    for name, values in attributes.items():
        if name in (INTERACTION, WITHIN):
            raise InputError(f"{name!r} is the name of what is left: call the attribute otherwise")
        if len(values) != classes:
            raise InputError(f"the attribute {name!r} has {len(values)} values, and there are {classes} classes")
        if len(set(values)) < 2:
            raise InputError(f"the attribute {name!r} has one value for all classes: give attributes that differ")
    for (first, ones), (second, others) in combinations(attributes.items(), 2):
        of_one, of_other = Counter(ones), Counter(others)
        both = Counter(zip(ones, others, strict=True))
        for one, count in of_one.items():
            for other, times in of_other.items():
                if both[one, other] * classes != count * times:
                    raise InputError(
                        f"{first} and {second} do not cross: {both[one, other]} of {classes} classes are {one!r} and "
                        f"{other!r}, and {count * times / classes:g} would be needed to tell their shares apart"
                    )


def read_attributes(texts: Sequence[str] | None, names: Sequence[str], classes: int) -> dict[str, list[str]]:
    """The attributes of a model's classes, as a request names them: the value of every class, by attribute.

    texts: `colour=red,red,blue`, the value of every class in order, for each attribute; or `colour`, what to call each
        word of the names; None to number the words
    names: of the classes
    classes: how many there are

    Raises InputError as `attributes_of_names` and `check_attributes` do, for values of some attributes alone, and for
    an attribute that is named twice.
    """
    parted = [text.partition("=") for text in texts or []]
    called = [name.strip() for name, _, _ in parted]
    if len(set(called)) < len(called) or "" in called:
        raise InputError("each attribute has a name of its own: colour, shape")
    valued = [mark for _, mark, _ in parted if mark]
    if not valued:
        found = attributes_of_names(names, called or None)
    elif len(valued) < len(parted):
        raise InputError("give the values of all attributes (colour=red,red,blue), or the names of all (colour)")
    else:
        found = {name.strip(): [value.strip() for value in values.split(",")] for name, _, values in parted}
    check_attributes(found, classes)
    return found
