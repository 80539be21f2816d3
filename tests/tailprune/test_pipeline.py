"""The whole act in one call, beside the same calls made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import tailprune
from tailprune import Prune
from tailprune.decoders import pixels
from tailprune.pipeline import main

SOURCE = Path(__file__).parents[2] / "models" / "shapes-sit"
LABELS = [3, 14, 15]
PRUNE = Prune("tail", 0.038)


def test_it_gives_what_the_calls_give_by_hand() -> None:
    found = tailprune.prune_and_compare(SOURCE, LABELS, PRUNE, sampler="heun", steps=3, guidance=2.0, seed=5)

    system, inputs = tailprune.load(SOURCE), {"labels": torch.tensor(LABELS)}
    baseline, pruned = tailprune.sample(
        system,
        inputs,
        prune=[None, PRUNE],
        sampler="heun",
        steps=3,
        guidance=2.0,
        seeds=[(5, 0), (5, 1), (5, 2)],
    )
    assert torch.equal(found.condition, system.condition(torch.zeros(3), inputs))
    assert torch.equal(found.baseline, baseline)
    assert torch.equal(found.pruned, pruned)
    assert torch.equal(found.baseline_images, pixels(baseline))
    assert torch.equal(found.pruned_images, pixels(pruned))
    assert found.removal == tailprune.measure_removal(
        system, inputs, PRUNE, tailprune.sampling_times(system, "heun", 3)
    )
    assert found.drift == ((pruned - baseline).norm() / baseline.norm()).item() > 0


def test_a_prune_that_removes_nothing_has_no_drift() -> None:
    found = tailprune.prune_and_compare(SOURCE, LABELS, Prune("tail", 0.0), steps=2)
    assert (found.drift, found.removal.mean) == (0, 0)
    assert torch.equal(found.baseline_images, found.pruned_images)


def test_the_command_prints_what_was_removed_and_the_drift_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(SOURCE), "--steps", "2"])
    found = tailprune.prune_and_compare(SOURCE, range(10), PRUNE, steps=2, guidance=2.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"components removed: {found.removal.mean:.1f} of 128 ({found.removal.fraction:.0%})"
    assert lines[-1] == f"drift: {found.drift:.3f}"
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_images_where_it_is_given_a_path(tmp_path: Path) -> None:
    main([str(SOURCE), "--steps", "2", "--images", str(tmp_path / "compared.png")])
    with Image.open(tmp_path / "compared.png") as image:
        assert image.size == (10 * 16, 2 * 16)
