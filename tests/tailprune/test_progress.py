"""The progress bar of a call: drawn where it is asked for, and beside the caller's own function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tailprune
from tailprune.systems import System

LABELS = {"labels": torch.tensor([1, 2])}

CALLS: dict[str, Callable[[System, bool], object]] = {
    "sample": lambda system, progress: tailprune.sample(system, LABELS, seeds=[0, 1], steps=3, progress=progress),
    "sample_each": lambda system, progress: tailprune.sample_each(
        system, LABELS, prunes=[[None]] * 2, seeds=[0, 1], steps=3, progress=progress
    ),
    "compact": lambda system, progress: tailprune.compact(
        system, times=torch.tensor([0.0, 0.5, 1.0]), inputs=LABELS, keep=4, progress=progress
    ),
    "prune_and_compare": lambda system, progress: tailprune.prune_and_compare(
        "models/shapes-sit", [1], tailprune.Prune("tail", 0.05), steps=3, progress=progress
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_bar_counts_to_the_end_on_stderr_and_none_is_drawn_by_default(
    sit: System, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    CALLS[call](sit, False)
    assert capsys.readouterr() == ("", "")
    CALLS[call](sit, True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err


def test_dopri5_counts_samples(sit: System, capsys: pytest.CaptureFixture[str]) -> None:
    tailprune.sample(sit, LABELS, seeds=[0, 1], sampler="dopri5", progress=True)
    assert "2/2" in capsys.readouterr().err


def test_the_callers_function_is_called_beside_the_bar_and_may_stop(
    sit: System, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tailprune.sample(sit, LABELS, seeds=[0, 1], steps=3, progress=True, on_step=stop_after_two)
    assert heard == [(1, 3), (2, 3)]
    assert "2/3" in capsys.readouterr().err
