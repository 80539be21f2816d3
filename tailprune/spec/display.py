"""How results look where they are printed: a line as `repr`, and a table in a notebook.

`Shown` gives both to a class, from its fields; a dataclass with it has `repr=False`, and `field(repr=False)` leaves a
field out of both. Tables have no colours of their own, so that they follow the notebook's theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

__all__ = ["Shown", "brief"]

MOST_ITEMS = 6
"""Of longer lists, the first two and the last item are shown."""
MOST_CHARACTERS = 80
"""Longer texts are cut."""
LEFT = 'style="text-align: left"'


class Shown:
    """An object with a short `repr`, and a table of two columns in a notebook."""

    def shown(self) -> Mapping[str, Any]:
        """What is shown, by name: the fields of a dataclass; other classes have their own."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.repr}  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return _line(self)

    def _repr_html_(self) -> str:
        rows = []
        for name, value in self.shown().items():
            text = value if isinstance(value, str) else brief(value)
            rows.append(f"<tr><th {LEFT}>{escape(name)}</th><td {LEFT}>{escape(text)}</td></tr>")
        title = escape(type(self).__name__)
        return f"<table><caption {LEFT}>{title}</caption><tbody>{''.join(rows)}</tbody></table>"


def brief(value: Any) -> str:
    """A value in a few words: numbers with four digits, the size of long lists, shape and range of tensors."""
    if isinstance(value, Shown):
        return _line(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, Mapping):
        return _few([f"{brief(key)}: {brief(item)}" for key, item in value.items()], "{}")
    if isinstance(value, (list, tuple)):
        return _items(value)
    text = repr(value)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _line(value: Shown) -> str:
    return f"{type(value).__name__}({', '.join(f'{name}={brief(item)}' for name, item in value.shown().items())})"


def _items(values: Sequence[Any]) -> str:
    if values and isinstance(values[0], Shown):
        return f"<{len(values)} x {type(values[0]).__name__}>"
    return _few([brief(value) for value in values], "[]" if isinstance(values, list) else "()")


def _few(items: Sequence[str], brackets: str) -> str:
    if len(items) > MOST_ITEMS:
        items = [*items[:2], "…", f"{items[-1]}; {len(items)} in all"]
    return f"{brackets[0]}{', '.join(items)}{brackets[1]}"


def _array(array: Any) -> str:
    """Shape and range of a tensor or an array."""
    shape = " x ".join(map(str, array.shape)) or "a number"
    if not all(array.shape):
        return f"<{shape}>"
    return f"<{shape}, from {float(array.min()):.4g} to {float(array.max()):.4g}>"
