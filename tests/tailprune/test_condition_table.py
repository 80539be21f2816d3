"""The condition vectors of a run, and how much memory they take at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailprune import condition_table
from tailprune.condition_table import ConditionTable, sums_in_pieces
from tailprune.prune_report import measure_removal
from tailprune.pruning import Prune
from tailprune.sampling import sample
from tailprune.sampling.sample import sampling_times
from tailprune.systems import System
from tailprune.systems.dit import LabelCondition
from tests.largest import Largest

LABELS = {"labels": [1, 3, 3, 0]}
MEBIBYTE = 2**20
PRUNES = [Prune("tail", 0.3), Prune("head", 0.5, "last", 3), Prune("tail", 0.3, fill="mean"), Prune.keep(8)]


class Wide(LabelCondition):
    """A condition of as many components as a DiT-XL/2 of diffusers with embedders in each block has."""

    def __init__(self, classes: int) -> None:
        super().__init__(hidden_size=28 * 1152, num_classes=classes)

    def make_embedders(self, hidden_size: int, time_gaps: int, depth: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.of_time = nn.Parameter(torch.randn(hidden_size, generator=generator), requires_grad=False)
        self.of_labels = nn.Parameter(
            torch.randn(self.num_classes + 1, hidden_size, generator=generator), requires_grad=False
        )

    def embed_time(self, t: Tensor) -> Tensor:
        return t.unsqueeze(1) * self.of_time

    def embed_inputs(self, inputs: Mapping[str, Any]) -> Tensor:
        return self.of_labels[torch.as_tensor(inputs["labels"])]


@pytest.mark.parametrize("prune", [Prune("tail", 0.3), Prune("tail", 0.3, fill="mean")])
def test_the_vectors_of_a_long_run_are_not_in_memory_at_once(prune: Prune) -> None:
    condition, times = Wide(8), torch.linspace(0, 1, 1000).view(1000, 1)  # all of them are 1.2 GB
    with Largest() as largest:
        table = ConditionTable(condition, {"labels": list(range(8))}, times)
        repr(table)
        for step in (0, 500, 999):
            table.conditions_at(step, 0, prune)
    assert largest.bytes <= 64 * MEBIBYTE
    with Largest() as largest:
        measure_removal(condition, {"labels": list(range(8))}, Prune(prune.side, 0.3, "last", 3), times)
    assert largest.bytes <= 64 * MEBIBYTE


def test_sums_in_pieces_are_all_sums_and_no_piece_is_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    times, inputs = torch.randn(7, 5), torch.randn(11, 5)
    whole = (times.unsqueeze(1) + inputs).flatten(0, 1)
    for rows in (1, 4, 11, 25, 1000):
        monkeypatch.setattr(condition_table, "PIECE_BYTES", rows * 5 * 4)
        pieces = [piece.flatten(0, 1) for piece in sums_in_pieces(times, inputs)]
        assert max(map(len, pieces)) <= rows
        assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("prune", PRUNES)
def test_time_parts_in_pieces_give_the_same_vectors(sit: System, prune: Prune, monkeypatch: pytest.MonkeyPatch) -> None:
    times = sampling_times(sit, "heun", 6)
    whole = ConditionTable(sit, LABELS, times)
    monkeypatch.setattr(condition_table, "PIECE_BYTES", 3 * sit.condition_dim * 4)
    pieces = ConditionTable(sit, LABELS, times)
    for step in (5, 0, 3, 2, 1, 4):
        for stage in range(2):
            # the same products of matrices in batches of other sizes
            found, expected = (table.conditions_at(step, stage, prune) for table in (pieces, whole))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(pieces.vectors, whole.vectors, rtol=0, atol=1e-5)


def test_samples_are_the_same_whatever_is_computed_at_once(sit: System, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"steps": 4, "guidance": 2.0, "seeds": [0, 1, 2, 3], "prune": [None, *PRUNES]}
    whole = sample(sit, LABELS, **options)
    monkeypatch.setattr(condition_table, "PIECE_BYTES", sit.condition_dim * 4)
    for found, expected in zip(sample(sit, LABELS, **options), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_table_has_the_vectors_of_the_condition_and_the_null_condition(sit: System) -> None:
    times = sampling_times(sit, steps=3)
    vectors = ConditionTable(sit, LABELS, times).vectors
    assert vectors.shape == (3, 4, sit.condition_dim)
    for row, label in enumerate([1, 3, 0]):
        torch.testing.assert_close(vectors[1, row], sit.condition(times[1], {"labels": [label]})[0])
    torch.testing.assert_close(vectors[1, 3], sit.condition(times[1], sit.null_inputs(1))[0])


def test_the_time_parts_are_computed_once_for_a_run_of_usual_size(sit: System) -> None:
    asked: list[int] = []
    embed = sit.embed_time

    def counted(t: Tensor) -> Tensor:
        asked.append(len(t))
        return embed(t)

    vars(sit)["embed_time"] = counted
    sample(sit, LABELS, steps=50, seeds=[0, 1, 2, 3], prune=[None, Prune("tail", 0.3), Prune.keep(8)])
    assert asked == [50]
