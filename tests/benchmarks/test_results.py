"""Results of benchmarks: kept by machine, replaced by runs, and shown on one page."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu_sampling, load, machines, page_threshold, sampling
from benchmarks import page as pages
from benchmarks.machines import Machine, Measured, Results, kept_of, read_all, this_machine, write
from benchmarks.page import PAGE, QUESTIONS, page, table
from benchmarks.report import Aim, Section, at_least, at_most, not_run
from tailprune.systems import SiT, choices
from tests.choices import torchs_own  # noqa: F401, so that no test measures kernels
from tests.tailprune.conftest import random_system

HERE = Machine("Some CPU", "model 1", ["avx2"], 2, 24, "", "Linux x86_64")
OTHER = Machine("Other CPU", "", ["avx2", "avx512f"], 8, 64, "Some GPU", "Linux x86_64")
RunIt = Callable[..., str]


def measured(*aims: Aim, date: str = "2026-11-24", torch: str = "2.13.0", title: str = "A title") -> Measured:
    return Measured(date, torch, "load 0.6 at the start", title, "| a | b |\n|---|---|\n| 1 | 2 |", list(aims))


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a page's first table, by their question."""
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {question: rest for question, *rest in cells}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results and page are kept instead."""
    monkeypatch.setattr(machines, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(pages, "PAGE", tmp_path / "RESULTS.md")
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunIt:
    """Runs benchmarks that find what they are given, on a day; returns the page, if there is one."""

    def go(*arguments: str, day: str = "2026-12-01", **found: float) -> str:
        monkeypatch.setattr(command, "this_machine", lambda: HERE)
        monkeypatch.setattr(command, "date", SimpleNamespace(today=lambda: SimpleNamespace(isoformat=lambda: day)))
        for name, value in found.items():
            section = Section(f"## About {name}\n\nA table.\n", [at_most(f"the {name}", value, 1)])
            monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(run=lambda section=section: section))
        command.main([*found, *arguments])
        return pages.PAGE.read_text() if pages.PAGE.exists() else ""

    return go


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    assert PAGE.read_text() == page(read_all()), "run `python -m benchmarks.page`"


def test_committed_results_are_of_benchmarks_that_there_are_and_lie_where_runs_look_for_them() -> None:
    files = sorted(machines.FOLDER.iterdir())
    assert files == sorted(results.machine.file for results in read_all())
    for results in read_all():
        assert results.benchmarks.keys() <= set(QUESTIONS)


@pytest.mark.usefixtures("folder")
def test_results_are_read_as_they_were_written_and_equal_ones_give_equal_bytes() -> None:
    aims = (at_most("a", 2, 1), not_run("b", "at least 3", "no GPU"), Aim("c", "", "83 %", None))
    results = Results(HERE, "A note.", {"variants": measured(*aims), "sampling": measured()})
    write(results)
    first = HERE.file.read_bytes()
    assert kept_of(HERE) == results
    write(replace(results, benchmarks=dict(reversed(results.benchmarks.items()))))
    assert HERE.file.read_bytes() == first
    assert kept_of(OTHER) == Results(OTHER)


def test_a_row_says_on_which_machine_its_mark_is_reached() -> None:
    two = [
        Results(HERE, "", {"variants": measured(at_least("faster", [3.0], [1.0], 2), Aim("share", "", "83 %", None))}),
        Results(OTHER, "", {"variants": measured(at_least("faster", [1.5], [1.0], 2))}),
    ]
    found = rows(page(two))
    assert found["question"] == ["to reach", "Some CPU, avx2", "Other CPU, avx512f"]
    assert found["CPU"] == ["", "Some CPU (model 1)", "Other CPU"]
    assert found["instructions"] == ["", "avx2", "avx2, avx512f"]
    assert [found[fact][1:] for fact in ("cores", "memory", "GPU")] == [
        ["2", "8"],
        ["24 GiB", "64 GiB"],
        ["none", "Some GPU"],
    ]
    assert found["faster"] == ["at least 2", "3.00, yes", "1.50, **no**"]
    assert found["share"] == ["", "83 %", "not run"]


def test_a_benchmark_without_figures_has_a_row_of_its_own() -> None:
    found = rows(page([Results(HERE, "", {"kernels": measured()}), Results(OTHER, "", {"variants": measured()})]))
    assert found["`kernels`"] == ["", "see below", "not run"]
    assert found["`removal_error`"] == found["`search_samples`"] == ["", "not run", "not run"]


def test_a_benchmark_that_cannot_run_says_why() -> None:
    found = rows(page([Results(HERE, "", {"gpu_sampling": measured(not_run("on a GPU", "at least 2", "no GPU"))})]))
    assert found["on a GPU"] == ["at least 2", "not run: no GPU"]


def test_a_column_has_the_date_of_most_of_its_benchmarks_and_other_cells_their_own() -> None:
    of = {
        "sampling": measured(at_most("first", 1, 2)),
        "variants": measured(at_most("second", 1, 2)),
        "compaction": measured(at_most("third", 3, 2), date="2026-12-01", torch="2.14.0"),
        "kernels": measured(date="2026-12-02"),
    }
    found = rows(page([Results(HERE, "", of)]))
    assert (found["date"], found["torch"]) == (["", "2026-11-24"], ["", "2.13.0"])
    assert found["first"] == ["at most 2", "1, yes"]
    assert found["third"] == ["at most 2", "3, **no** (2026-12-01, torch 2.14.0)"]
    assert found["`kernels`"] == ["", "see below (2026-12-02)"]


def test_a_figure_with_another_mark_is_not_shown_under_the_mark_of_today() -> None:
    of = [
        Results(HERE, "", {"variants": measured(at_most("slower", 1.5, 1))}),
        Results(OTHER, "", {"variants": measured(at_most("slower", 1.5, 2))}),
    ]
    lines = table(of, ["variants"]).splitlines()
    assert lines[-2:] == [
        "| slower | at most 1 | 1.5, **no** | not run |",
        "| slower | at most 2 | not run | 1.5, yes |",
    ]


def test_tables_are_by_machine_under_the_heading_of_their_benchmark() -> None:
    of = [
        Results(HERE, "", {"variants": measured(title="An old title")}),
        Results(OTHER, "was lent.", {"variants": measured(date="2026-12-01", title="A new title")}),
    ]
    text = page(of)
    assert "\nOther CPU, avx512f: was lent.\n" in text
    assert text.endswith(
        "\n## A new title\n\n"
        "**Some CPU, avx2**: 2026-11-24, torch 2.13.0, load 0.6 at the start.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "**Other CPU, avx512f**: 2026-12-01, torch 2.13.0, load 0.6 at the start.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )


def test_machines_with_one_name_are_told_apart() -> None:
    newer = replace(HERE, model="model 2")
    found = rows(page([Results(HERE, "", {"variants": measured()}), Results(newer, "", {"variants": measured()})]))
    assert found["question"][1:] == [
        "Some CPU (model 1), avx2, 2 cores, 24 GiB, Linux x86_64",
        "Some CPU (model 2), avx2, 2 cores, 24 GiB, Linux x86_64",
    ]
    assert HERE.file != newer.file


def test_a_run_of_some_benchmarks_replaces_them_in_this_machines_column_alone(run: RunIt) -> None:
    write(Results(OTHER, "", {"variants": measured(at_most("the variants", 0.5, 1))}))
    others = OTHER.file.read_bytes()
    run(variants=3, sampling=0.1, compaction=0.2)
    found = rows(run(variants=0.7, day="2026-12-24"))
    assert found["the variants"] == ["at most 1", "0.5, yes", "0.7, yes (2026-12-24)"]
    assert found["the sampling"] == ["at most 1", "not run", "0.1, yes"]
    assert found["date"] == ["", "2026-11-24", "2026-12-01"]
    assert OTHER.file.read_bytes() == others
    assert kept_of(HERE).benchmarks["variants"].text == "A table."


def test_a_benchmark_that_fails_loses_nothing_of_those_before_it(run: RunIt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seconds: float) -> Section:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(sys.modules, "benchmarks.load", SimpleNamespace(run=fail))
    with pytest.raises(RuntimeError, match="out of memory"):
        run("load", variants=0.7)
    assert rows(pages.PAGE.read_text())["the variants"] == ["at most 1", "0.7, yes"]


def test_a_run_that_is_not_to_write_prints_and_changes_nothing(
    run: RunIt, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--no-write", variants=0.7) == ""
    assert list(folder.iterdir()) == []
    assert "| the variants | at most 1 | 0.7, yes |" in capsys.readouterr().out


def test_a_machine_is_known_by_its_cpu_with_the_instructions_that_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(
        "vendor_id: Maker\ncpu family: 25\nmodel: 17\nmodel name: Some CPU\nstepping: 1\n"
        "flags: sse avx avx2 avx512f avx512cd avx512_bf16 avx512_vnni\n\nmodel: 9\n"
    )
    monkeypatch.setattr(choices, "ABOUT_PROCESSOR", tmp_path / "cpuinfo")
    found = this_machine()
    assert found.cpu == "Some CPU (cpu family 25, model 17, stepping 1)"
    assert found.instructions == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]
    assert found.name == "Some CPU, avx512_bf16"
    assert found.file.name.startswith("some-cpu-cpu-family-25-model-17-stepping-1-avx2-avx512f-avx512-vnni-")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_what_needs_a_gpu_says_so() -> None:
    assert {aim.measured for aim in gpu_sampling.run().aims} == {"not run: no GPU"}


@pytest.mark.parametrize(("benchmark", "why", "count"), [(load, "no `wrk`", 6), (page_threshold, "no Chromium", 2)])
def test_what_needs_another_program_says_which(
    benchmark: Any, why: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    section = benchmark.run()
    assert [aim.measured for aim in section.aims] == [f"not run: {why}"] * count
    assert all(aim.reach for aim in section.aims)


@pytest.mark.parametrize("capable", [True, False])
def test_sampling_in_bfloat16_is_measured_where_the_cpu_has_it(
    capable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "has_bfloat16", lambda: capable)
    monkeypatch.setattr(sampling, "ROUNDS", 1)
    found = sampling._rows("a tiny SiT", random_system(SiT), 2, tmp_path)
    (aim,) = (aim for _, aims in found for aim in aims if "bfloat16" in aim.question)
    assert (aim.reached is None) is not capable
    assert (aim.measured == "not run: no bfloat16 instructions") is not capable
    assert all(row.count("|") == 8 for row, _ in found)
