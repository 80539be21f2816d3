"""How much smaller is the error of directions that are weighted by what AdaLN reads, at the same rank?

The other side are the directions of the curve alone, as one takes them who looks at SiLU(c) and not at the weights: the
first right singular vectors of SiLU(c(t)) around its mean over the times. Both errors are those of the modulations, of
all rows of all layers in float64, at the covered times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import Aim, Section, at_least, ratio, shown
from demo import ROOT
from tailprune.transformers.directions import best_directions
from tailprune.transformers.plans import covered_by, plan_of
from tailprune.transformers.recognise import Model, recognise
from tailprune.transformers.source import open_source

WIDTH = 384
HEADS: dict[str, Any] = {"num_attention_heads": 6, "attention_head_dim": 64}
MODELS: dict[str, tuple[str, dict[str, Any], str | None, tuple[int, ...]]] = {
    "FLUX.1": (
        "FluxTransformer2DModel",
        {**HEADS, "num_layers": 2, "num_single_layers": 4, "joint_attention_dim": 64, "pooled_projection_dim": 64}
        | {"guidance_embeds": True, "axes_dims_rope": (16, 24, 24)},
        "zero",
        (8, 16, 64),
    ),
    "MiniMax-H3": (
        "MiniMaxH3Transformer3DModel",
        {**HEADS, "hidden_size": WIDTH, "num_layers": 2, "num_refiner_layers": 1, "ffn_dim": WIDTH, "text_dim": 64}
        | {"time_embed_hidden_dim": WIDTH, "time_embed_dim": WIDTH},
        None,
        (2, 8),
    ),
}
TRAINED = "shapes-qwen", (4, 8, 16)
"""A shipped model, and ranks."""
DRAWS = 3
ROUNDED = 1e-7
"""An error of this size is that of the sinusoids, which are float32."""
AS_GOOD = 0.98
"""The least ratio that counts as equally good where nothing is to be gained: our rows are drawn, some 8,000 of them."""
BETTER = 1.0


@torch.no_grad()
def run() -> Section:
    """A table: the errors at each rank, of two classes, read evenly and unevenly."""
    aims: list[Aim] = []
    lines = [
        "## Directions weighted by what AdaLN reads, against those of the curve alone\n",
        f"Random models of two classes as PyTorch initialises them, c of {WIDTH} components, 1,001 times. Unevenly: "
        "the columns of AdaLN's weights are multiplied with exp(z), z normal, the same in all layers, as if some "
        f"components were read more than others; the median of {DRAWS} draws of z (least to most). And the shipped "
        "transformer, as it was trained. The modulation "
        "error of our directions and of the first singular vectors of SiLU(c) around its mean, and the ratio. Where "
        f"both are below {ROUNDED:g}, the rounding of float32, the rank holds the curve whole, as do larger ones.\n",
        "| model | AdaLN reads | rank | ours | the other side | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, (cls, config, pooled, ranks) in MODELS.items():
        for how, draws in (("evenly", [None]), ("unevenly", list(range(DRAWS)))):
            runs = []
            for draw in draws:
                with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder:
                    _save(Path(folder), cls, config, draw)
                    runs.append(_errors(recognise(open_source(folder)), pooled, ranks))
            rows, some = _shown(f"a random {name}", how, ranks, runs, AS_GOOD if how == "evenly" else BETTER)
            lines += rows
            aims += some
    trained, ranks = TRAINED
    found = _errors(recognise(open_source(ROOT / "models" / trained)), None, ranks)
    rows, some = _shown(trained, "as trained", ranks, [found], BETTER)
    lines += rows
    aims += some
    return Section("\n".join(lines) + "\n", aims)


def _shown(
    model: str, how: str, ranks: Sequence[int], runs: Sequence[Sequence[tuple[float, float]]], least: float
) -> tuple[list[str], list[Aim]]:
    """The rows of a model, and its aims. runs: the errors at each rank, ours and the other side's."""
    rows, aims = [], []
    for place, rank in enumerate(ranks):
        ours, theirs = zip(*(run[place] for run in runs), strict=True)
        row = f"| {model} | {how} | {rank} | "
        if max(*ours, *theirs) < ROUNDED:
            rows.append(f"{row}the curve whole | the curve whole | |")
            continue
        rows.append(f"{row}{shown(ours, '{:.2e}'.format)} | {shown(theirs, '{:.2e}'.format)} | {ratio(theirs, ours)} |")
        question = f"{rank} directions of {model} read {how}, against those of the curve alone: error"
        aims.append(at_least(question, theirs, ours, least))
    return rows, aims


def _save(folder: Path, cls: str, config: dict[str, Any], draw: int | None) -> None:
    """Write a random model; its components are read unevenly if the number of a draw is given."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, cls)(**config)
    model.save_pretrained(folder)
    if draw is None:
        return
    scales = torch.randn(WIDTH, generator=torch.Generator().manual_seed(draw)).exp()
    for name in recognise(open_source(folder)).names:
        model.get_parameter(f"{name}.weight").mul_(scales)
    model.save_pretrained(folder)


def _errors(model: Model, pooled: str | None, ranks: Sequence[int]) -> list[tuple[float, float]]:
    """The error of our directions and of the curve's, at each rank."""
    plan = plan_of(model, None, None, (), None, max(ranks), None, None, pooled, None, None)
    covered, _ = covered_by(model, plan, None)
    around = covered.read - covered.read.mean(0)
    weights = torch.cat([model.source.read(f"{name}.weight").double() for name in model.names])
    products = weights.T @ weights
    whole = _size(covered.read, products)
    axes = torch.linalg.svd(around, full_matrices=False)[2]
    found = []
    for rank in ranks:
        ours, kept = best_directions(model, covered, rank, None), axes[:rank]
        wrong = around - around @ ours.encode.T @ ours.decode.T, around - around @ kept.T @ kept
        found.append((_size(wrong[0], products) / whole, _size(wrong[1], products) / whole))
    return found


def _size(vectors: Tensor, products: Tensor) -> float:
    """The root of the sum of squares of the modulations of some vectors, from W'W."""
    return float(torch.einsum("td,de,te->", vectors, products, vectors).clamp(min=0).sqrt())
