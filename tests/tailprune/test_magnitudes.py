"""Order statistics of magnitudes that are never all in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tailprune.magnitudes import Magnitudes
from tailprune.pruning import Prune

PIECES = [torch.randn(3, 50, 7, generator=torch.Generator().manual_seed(seed)) * 10.0**seed for seed in range(-3, 2)]
PIECES.append(torch.tensor([[0.0, -0.0, 0.25], [0.25, -0.25, 1e-42]]))
EVERYTHING = torch.cat([piece.flatten() for piece in PIECES])


def test_the_magnitude_at_each_place_is_that_of_the_sorted_ones() -> None:
    magnitudes, expected = Magnitudes(lambda: PIECES), EVERYTHING.abs().sort().values
    assert len(magnitudes) == len(expected)
    for place in [*range(10), 1000, 2000, 2001, len(expected) - 1]:
        assert magnitudes.at(place) == expected[place].item()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.666, 0.9, 1.0])
def test_a_quantile_is_numpys(share: float) -> None:
    expected = np.quantile(EVERYTHING.abs().double().numpy(), share)
    assert Magnitudes(lambda: PIECES).quantile(share) == pytest.approx(expected, rel=1e-12)


def test_a_fraction_is_that_of_all_components() -> None:
    prune = Prune("tail", 0.05)
    expected = prune.removed(EVERYTHING).double().mean().item()
    assert Magnitudes(lambda: PIECES).fraction(prune.removed) == pytest.approx(expected, rel=1e-12)


def test_the_pieces_are_made_anew_for_each_statistic_and_not_held() -> None:
    made: list[int] = []

    def pieces() -> list[torch.Tensor]:
        made.append(1)
        return PIECES

    magnitudes = Magnitudes(pieces)
    magnitudes.at(5)
    assert len(made) == 2
    assert not any(isinstance(held, torch.Tensor) and held.numel() > 2**16 for held in vars(magnitudes).values())
