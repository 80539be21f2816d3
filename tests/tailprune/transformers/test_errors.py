"""The errors of a compaction from sums over rows, against those of every row at every vector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tailprune.transformers.errors import Products, errors_of


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def curve(count: int) -> Tensor:
    """Vectors that need some twenty axes, with shape (count, 48)."""
    times = torch.linspace(0.1, 1, count, dtype=torch.float64)[:, None]
    return torch.nn.functional.silu(torch.sin(2 * times * random(1, 12, seed=0)) @ random(12, 48, seed=1) + 0.3)


@pytest.mark.parametrize("written", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("count", "rank"), [(9, 8), (9, 3), (300, 4), (300, 12)])
@pytest.mark.parametrize("wanted", [False, True], ids=["verify", "compact"])
def test_they_are_those_of_every_row_at_every_vector(count: int, rank: int, written: torch.dtype, wanted: bool) -> None:
    vectors, between = curve(count), curve(3 * count)[1::5]
    mean = vectors.mean(0).float().double()
    decode = torch.linalg.svd(vectors - mean, full_matrices=False)[2][:rank].float().double()
    weight = random(200, 48, seed=2)
    smaller, added = ((weight @ each).to(written).double() for each in (decode.T, mean))
    checked = torch.cat([vectors, between])
    also = torch.cat([decode, mean[None]]) if wanted else mean[None]

    precise = torch.float32 if written == torch.bfloat16 else torch.float64  # as of a model that is stored so
    products = Products(checked, count, mean, decode, also, precise)
    total = products.zeros()
    for rows in (slice(0, 120), slice(120, 200)):
        along = weight[rows].to(precise) @ products.axes.T.to(precise)
        products.add(total, along, smaller[rows].to(precise), added[rows].to(precise))
    found = errors_of(products.squares(total), count)

    exact = weight @ checked.T
    wrong = smaller @ ((checked - mean) @ decode.T).T + added[:, None] - exact
    expected = errors_of(torch.stack([wrong.square().sum(0), exact.square().sum(0)]), count)
    assert found.mean == pytest.approx(expected.mean, rel=1e-4)
    assert found.worst == pytest.approx(expected.worst, rel=1e-4)
    assert found.between == pytest.approx(expected.between, rel=1e-4)
