"""Trying again while Redis is away."""

from __future__ import annotations

import contextlib
import gc
import time
import weakref
from collections.abc import Callable

import pytest
import redis

from jobs.store.connection import retry_while_unavailable

GONE = redis.ConnectionError("gone")


def failing(errors: list[Exception]) -> Callable[[], str]:
    """A call that raises each of these, and then answers."""

    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "answer"

    return call


def test_a_call_is_tried_again_after_pauses_that_double_up_to_the_longest() -> None:
    pauses: list[float] = []
    errors: list[Exception] = [GONE, redis.OutOfMemoryError("full"), redis.TimeoutError("slow"), GONE]
    answer = retry_while_unavailable(
        failing(errors), lambda _, pause: pauses.append(pause), pauses=(0.01, 0.03), seconds=10
    )
    assert answer == "answer"
    assert pauses == pytest.approx([0.01, 0.02, 0.03, 0.03])


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_no_pause_begins_that_would_end_too_late(seconds: float) -> None:
    seen: list[float] = []
    begun = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        retry_while_unavailable(
            failing([GONE] * 100), lambda _, pause: seen.append(pause), pauses=(0.04, 0.04), seconds=seconds
        )
    assert time.monotonic() - begun < seconds + 0.1
    assert len(seen) <= seconds / 0.04


@pytest.mark.parametrize("error", [redis.ResponseError("WRONGTYPE"), ValueError("wrong"), KeyboardInterrupt()])
def test_another_error_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        retry_while_unavailable(failing([error]), lambda *_: pytest.fail("no pause"), pauses=(0.01, 0.01))


def test_what_is_raised_before_a_pause_ends_it() -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        retry_while_unavailable(failing([GONE, GONE]), stop, pauses=(0.01, 0.01))


def test_an_error_keeps_nothing_in_memory_that_the_call_had() -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def call() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError("broken")

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            retry_while_unavailable(call, lambda *_: None, pauses=(0.01, 0.01))
        assert kept[0]() is None
    finally:
        gc.enable()
