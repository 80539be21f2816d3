"""Checks that the public functions share: each returns the value in the form that is used, or raises InputError."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from reprlib import repr as shortened
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = [
    "as_device",
    "as_number",
    "as_numbers",
    "as_tensor",
    "as_tensors",
    "as_times",
    "as_whole",
    "closest",
    "of_kind",
    "sequence_of",
]


def as_number(name: str, value: object, *, least: float | None = None, above: float | None = None) -> float:
    """A finite number of at least `least`, or above `above`."""
    limit = "" if least is None else f" of at least {least:g}"
    limit += "" if above is None else f" above {above:g}"
    fits = isinstance(value, Real) and not isinstance(value, bool)
    try:
        fits = fits and math.isfinite(value)  # type: ignore[arg-type]
        number = float(value) if fits else math.nan  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond every float
        fits, number = False, math.nan
    if not fits or (least is not None and number < least) or (above is not None and number <= above):
        raise InputError(f"{name} must be a finite number{limit}, not {shortened(value)}")
    return number


def as_numbers(name: str, values: Iterable[float], *, least: float | None = None) -> list[float]:
    """Finite numbers of at least `least`."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be numbers in a list, such as [0.01, 0.05], not {shortened(values)}")
    numbers = values.tolist() if isinstance(values, (Tensor, np.ndarray)) else list(values)
    return [as_number(name, value, least=least) for value in numbers]


def as_whole(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    limit = f"of at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or number < least or (most is not None and number > most):
        raise InputError(f"{name} must be a whole number {limit}, not {shortened(value)}")
    return number


def as_device(device: str | int | torch.device) -> torch.device:
    """A device that tensors can be put on here."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        raise InputError(f"there is no device {device!r}: give 'cpu', 'cuda', 'cuda:1' or the like") from None
    if found.type == "meta":
        raise InputError("the device 'meta' has no numbers: give 'cpu', 'cuda', 'cuda:1' or the like")
    try:
        torch.empty(0, device=found)
    except (AssertionError, RuntimeError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"the device {str(found)!r} cannot be used here ({reason}): give device='cpu'") from error
    return found


def as_tensor(name: str, value: Any) -> Tensor:
    """A tensor of numbers, from a tensor, an array, a number, or lists of numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        # A copy, since torch takes neither arrays that are read-only nor ones whose strides are negative.
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name} must be a tensor, an array or a list of numbers, not {shortened(value)}") from None


def as_times(t: Any) -> Tensor:
    """Finite times as a tensor with shape (B,), from a number, a list or a tensor of any shape."""
    times = as_tensor("times", t).flatten()
    if times.dtype == torch.bool or times.is_complex() or not torch.isfinite(times).all():
        raise InputError(f"times must be finite numbers, not {shortened(t)}")
    return times


def as_tensors(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The inputs of a condition as tensors, by name."""
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs must be named, such as {'labels': torch.tensor([3, 7])}, or the features of a system without "
            f"classes, not {shortened(inputs)}"
        )
    return {str(name): as_tensor(str(name), value) for name, value in inputs.items()}


def of_kind(kind: type, name: str, value: object, example: str) -> None:
    """Raise InputError for a value of another kind; `example` shows what would be right."""
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {example}, not {shortened(value)}")


def sequence_of(kind: Any, name: str, values: object, example: str) -> list[Any]:
    """A list of values of one kind (a class, or a union of several), or None; `example` shows what would be right."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise InputError(f"{name} must be a list, such as [{example}], not {shortened(values)}")
    for value in values:
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name} must hold values such as {example}, or None, not {shortened(value)}")
    return list(values)


def closest(value: object, names: Iterable[str]) -> str:
    """A hint at the name that `value` resembles, to end a message with; empty if there is none."""
    found = get_close_matches(value, list(names), n=1) if isinstance(value, str) else []
    return f"; did you mean {found[0]!r}?" if found else ""
