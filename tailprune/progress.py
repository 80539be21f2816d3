"""A progress bar around a call that reports its steps: in a notebook a widget, in a terminal a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tailprune.spec import InputError

__all__ = ["OnStep", "reporting"]

OnStep = Callable[[int, int], None]
"""Called with (done, total); may raise to stop."""


@contextmanager
def reporting(progress: bool, on_step: OnStep | None, unit: str) -> Iterator[OnStep]:
    """What a call reports its steps to: a progress bar, which is closed at the end, and the caller's function.

    progress: whether a bar is drawn, on stderr
    on_step: the caller's function, called after the bar has moved; None for none
    unit: what is counted, such as `step`
    """
    if on_step is not None and not callable(on_step):
        raise InputError(f"a function that takes (done, total) is needed to report steps to, not {on_step!r}")
    bar: Any = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if progress:
            if bar is None:
                from tqdm.auto import tqdm  # it looks for a notebook when it is imported

                bar = tqdm(total=total, unit=unit, unit_scale=unit == "B")
            bar.update(done - bar.n)
        if on_step is not None:
            on_step(done, total)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
