"""Which form a layer has: how it is measured, and how it is kept. No test depends on how fast this machine is."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tailprune.systems import choices
from tailprune.systems.choices import Choice, Forms, Layer, choice_of, choices_file, keep_in, recorded

LAYER = Layer("linear", (16, 8, 8), torch.float32)
NAMES = ("own", "other", "third")


class Clock:
    """A clock that only the forms advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.undo()  # of `torchs_own`, which sets what is measured
    monkeypatch.setattr(choices, "clock", clock)
    return clock


@pytest.fixture
def forms(clock: Clock) -> Callable[..., Callable[[Layer], Forms]]:
    """Makes forms that take so many milliseconds each, one after the other for those with a list."""

    def forms(**milliseconds: float | list[float]) -> Callable[[Layer], Forms]:
        def timed(taken: float | list[float]) -> Callable[[int], Tensor]:
            left = iter(taken if isinstance(taken, list) else [])
            last = [taken if isinstance(taken, float) else 0.0]

            def call(samples: int) -> Tensor:
                last[0] = next(left, last[0])
                clock.now += last[0] / 1e3
                return torch.ones(samples, 3)

            return call

        return lambda layer: Forms(4, {name: timed(taken) for name, taken in milliseconds.items()})

    return forms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep_in(tmp_path / "kernels")
    return tmp_path / "kernels"


def never(layer: Layer) -> Forms:
    raise AssertionError(f"{layer} is measured again")


def form(forms_of: Callable[[Layer], Forms]) -> str | None:
    choice = choice_of(LAYER, NAMES, forms_of)
    return None if choice is None else choice.form


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({"own": 10.0, "other": 9.0}, "other"),
        ({"own": 10.0, "other": 9.6}, "own"),
        ({"own": 10.0, "other": 8.2, "third": 8.0}, "other"),
        ({"own": 10.0, "other": 8.8, "third": 8.0}, "third"),
        ({"own": 10.0, "other": 9.6, "third": 9.2}, "third"),
        ({"own": 10.0, "other": 11.0}, "own"),
    ],
)
def test_the_first_form_is_chosen_that_none_beats_clearly(
    folder: Path, forms: Any, milliseconds: dict[str, float], chosen: str
) -> None:
    assert choice_of(LAYER, NAMES, forms(**milliseconds)) == Choice(chosen, pytest.approx(milliseconds), 4)


def test_the_least_time_counts(folder: Path, forms: Any) -> None:
    slow_once = [9.0] * 5 + [50.0] + [9.0] * 100
    assert form(forms(own=10.0, other=slow_once)) == "other"


def test_a_form_that_was_interrupted_once_is_timed_again(folder: Path, forms: Any) -> None:
    assert form(forms(own=10.0, other=[50.0] + [9.0] * 100)) == "other"


def test_a_form_that_is_far_slower_is_not_timed_a_third_time(folder: Path, forms: Any, clock: Clock) -> None:
    assert form(forms(own=1.0, other=1000.0)) == "own"
    assert clock.now < 6.5, "four calls that compare its outputs, two that are timed, of a second each"


def test_a_kept_choice_is_not_measured_again(folder: Path, forms: Any) -> None:
    assert form(forms(own=10.0, other=5.0)) == "other"
    assert form(never) == "other"
    keep_in(folder)  # as in another process
    assert form(never) == "other"


def test_other_layers_precisions_and_numbers_of_threads_have_choices_of_their_own(folder: Path, forms: Any) -> None:
    assert form(forms(own=10.0, other=5.0)) == "other"
    narrow = LAYER._replace(dtype=torch.bfloat16)
    for layer in (narrow, LAYER._replace(sizes=(16, 8, 9))):
        choice = choice_of(layer, NAMES, forms(own=5.0, other=10.0))
        assert choice is not None
        assert choice.form == "own"
    assert form(never) == "other"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert form(forms(own=5.0, other=10.0)) == "own"
    finally:
        torch.set_num_threads(before)
    assert len(list(folder.glob("*.json"))) == 2


def test_a_machine_with_another_cpu_has_another_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = set()
    for about in (
        "model name: Some CPU\nmodel: 1\nflags: sse avx2\n\nmodel: 9\n",
        "model name: Some CPU\nmodel: 1\nflags: sse avx2 avx512_bf16\n",
        "model name: Some CPU\nmodel: 2\nflags: sse avx2\n",
        "model name: Other CPU\nmodel: 1\nflags: sse avx2\n",
    ):
        (tmp_path / "cpuinfo").write_text(about)
        monkeypatch.setattr(choices, "ABOUT_PROCESSOR", tmp_path / "cpuinfo")
        file = choices_file()
        assert file is not None
        assert file.name.startswith(f"{about[12:17].strip().lower()}-cpu-")
        files.add(file)
    assert len(files) == 4
    (tmp_path / "cpuinfo").write_text("model name: Some CPU\nmodel: 1\nflags: avx2 bugs_fixed\nbogomips: 3\n")
    assert choices_file() in files, "what does not concern kernels is left out"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\x00", b"[]", b'"text"', b'{"choices": []}', b'{"choices": {"linear 16 x 8 x 8, float32": 3}}'],
)
def test_a_damaged_file_is_measured_anew(
    folder: Path, forms: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = choices_file()
    assert file is not None
    folder.mkdir()
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert form(forms(own=10.0, other=5.0)) == "other"
    assert "damaged" in caplog.text
    keep_in(folder)
    assert form(never) == "other"


@pytest.mark.parametrize(
    "entry",
    [
        {"form": "unknown", "milliseconds": {"own": 1.0, "unknown": 0.5}, "samples": 4},
        {"form": "other", "milliseconds": {"own": 1.0}, "samples": 4},
        {"form": "other", "milliseconds": {"own": 1.0, "other": -1.0}, "samples": 4},
        {"form": "other", "milliseconds": {"own": "fast", "other": 1.0}, "samples": 4},
        {"form": "other", "milliseconds": {"own": 1.0, "other": 0.5}, "samples": 0},
        {"form": "other"},
    ],
)
def test_of_a_damaged_entry_the_others_are_kept(folder: Path, forms: Any, entry: dict[str, Any]) -> None:
    file = choices_file()
    assert file is not None
    assert form(forms(own=10.0, other=5.0)) == "other"
    second = LAYER._replace(sizes=(1, 1, 1))
    choice_of(second, NAMES, forms(own=10.0, other=5.0))
    content = json.loads(file.read_text())
    content["choices"][str(LAYER)] = entry
    file.write_text(json.dumps(content))
    keep_in(folder)
    assert form(forms(own=5.0, other=10.0)) == "own"
    kept = choice_of(second, NAMES, never)
    assert kept is not None
    assert kept.form == "other"


def test_without_a_folder_layers_are_torchs_own_and_nothing_is_measured(tmp_path: Path, clock: Clock) -> None:
    keep_in(None)
    assert form(never) is None
    assert choices_file() is None


def test_where_nothing_can_be_written_layers_are_torchs_own(
    tmp_path: Path, forms: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    keep_in(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert form(never) is None
        assert form(never) is None
    assert caplog.text.count("torch's own") == 1


def test_a_choice_that_could_not_be_written_is_not_followed(
    folder: Path, forms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(choices.os, "replace", full)
    assert form(forms(own=10.0, other=5.0)) is None
    assert form(never) is None
    assert not [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_the_choice_that_another_process_wrote_meanwhile_is_followed(folder: Path, forms: Any) -> None:
    def slower(layer: Layer) -> Forms:
        mine = choices._kept
        keep_in(folder)  # as another process, on a file system without locks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choices, "fcntl", None)
            assert form(forms(own=5.0, other=10.0)) == "own"
        choices._kept = mine
        return forms(own=10.0, other=5.0)(layer)

    assert form(slower) == "own"


def test_of_processes_that_start_together_one_measures(folder: Path, forms: Any) -> None:
    measured, together = [], threading.Barrier(2)

    def counted(layer: Layer) -> Forms:
        measured.append(layer)
        time.sleep(0.2)  # the other one would measure meanwhile
        return forms(own=10.0, other=5.0)(layer)

    def start(kept: choices._Kept, found: list[Choice | None]) -> None:
        together.wait(10)
        found.append(kept.choice(LAYER, NAMES, counted))

    found: list[Choice | None] = []
    threads = [threading.Thread(target=start, args=(choices._Kept(folder), found)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [choice and choice.form for choice in found] == ["other", "other"]
    assert len(measured) == 1


def failing(samples: int) -> Tensor:
    raise RuntimeError("not on this CPU")


@pytest.mark.parametrize(
    "bad",
    [
        failing,
        lambda samples: torch.full((samples, 3), 1.001),
        lambda samples: torch.full((samples, 3), torch.nan),
        lambda samples: torch.ones(samples, 3) + (1e-7 if samples == 1 else 0),
    ],
    ids=["fails", "differs", "NaN", "depends on the batch"],
)
def test_a_form_that_cannot_stand_in_is_left_out(clock: Clock, bad: Callable[[int], Tensor]) -> None:
    def call(samples: int) -> Tensor:
        clock.now += 0.01
        return torch.ones(samples, 3)

    found = choices.measure(Forms(4, {"own": call, "bad": bad}), torch.float32)
    assert found == {"own": pytest.approx(10.0)}


def test_layers_that_are_asked_for_are_recorded() -> None:
    with recorded() as layers:
        form(never)
        form(never)
    form(never)
    assert layers == {LAYER: 2}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_library_keeps_choices_in_the_folder_of_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices.default_folder() == home / ".cache" / "tailprune" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert choices.default_folder() == home / "elsewhere" / "tailprune" / "kernels"
