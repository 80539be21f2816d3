"""Requests all measurements for the evidence from a running service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import load_file

from demo import ROOT
from evidence.rules import RULE_SAMPLES, RULE_STEPS, RuleCell, cells_of, prunes
from jobs.requests.fields import FigureName
from jobs.results import MetricsResult
from jobs.study_results import SearchResult, StudyResult
from service.cli.client import Client
from service.cli.running import AnyJob, saved
from tailprune_client.fields import FigureFields

__all__ = ["FIGURES", "HeadSummary", "ModelEvidence", "gather", "mean_cosine"]

MAIN = "shapes-repa"
"""The model of table 2, whose study has more samples."""
SAMPLES = {MAIN: 10}
SAMPLES_OF_OTHERS = 5
SAMPLES_OF_SEARCH = 3
TRIALS = 5
STEPS, LAST = 25, 5
TAILS = ("mild", "strong", "extreme")
HEADS = ("head-2", "head-5")
"""Thresholds by name, from the model's card: about 40, 66 and 80 % of the tail, 2 and 5 % of the head."""
SCHEDULES = [{"when": "every"}, {"when": "first"}, {"when": "last", "count": LAST}]
BUDGET = 0.02
MEASURES = ["fid", "kid", "inception-score", "precision", "recall", "accuracy", "drift", "ssim"]

FIGURES: tuple[tuple[str, FigureName, FigureFields], ...] = (
    ("cosine", "cosine", {}),
    ("cosine-10", "cosine", {"classes": 10}),
    ("histogram", "histogram", {}),
    ("vectors", "vectors", {}),
    ("variance", "variance", {}),
    ("sparsity", "sparsity", {}),
    ("tsne", "tsne", {}),
    ("removal-tail", "removal", {"side": "tail"}),
    ("removal-head", "removal", {"side": "head"}),
    ("training", "training", {}),
)
"""Name of the file, figure, and its query."""


@dataclass(frozen=True)
class HeadSummary:
    """The head: the components with the greatest mean magnitude at pure noise, as many as the participation ratio."""

    count: int
    negative: float
    """The share of them whose mean over the classes is below 0."""
    read: float
    """The mean of |SiLU(c)|, which the blocks read, over them."""
    tail_read: float
    """The same over the other components."""


@dataclass(frozen=True)
class ModelEvidence:
    """The measurements of one model."""

    model: str
    c: MetricsResult
    y: MetricsResult
    head: HeadSummary
    study: StudyResult
    search: SearchResult
    samples_per_class: int
    seconds: float
    """The duration of its study."""
    curve: list[dict[str, float]]
    """The record of its training."""
    rules: list[RuleCell]
    """The rules of pruning at equal shares."""


def gather(client: Client, model: str, pictures: Path, console: Console) -> ModelEvidence:
    """The statistics, the study and the figures of one model.

    client: of a running service
    model: the name of a shipped model
    pictures: the folder that the figures and the study's exports go into
    console: where progress is printed
    """
    console.print(f"[bold]{model}[/bold]: statistics and figures …")
    c, y = (client.metrics(model, part=part) for part in ("c", "y"))
    pictures.mkdir(parents=True, exist_ok=True)
    head = _head(client, model, round(c.pr), pictures)
    for name, figure, query in FIGURES:
        (pictures / f"{name}.png").write_bytes(client.figure(model, figure, **query))
    each = SAMPLES.get(model, SAMPLES_OF_OTHERS)
    console.print(f"[bold]{model}[/bold]: the study, {each} samples a class …")
    job, result = _study(client, _grid(model, each))
    exports = result.exports
    assert exports is not None, "a finished study has exports"
    for export in (exports.document, exports.table, exports.markdown, exports.png):
        if export is not None:
            saved(job, export, pictures)
    took = (job.finished - job.started).total_seconds() if job.finished and job.started else 0.0
    curve = json.loads((ROOT / "models" / model / "training.json").read_text())["curve"]
    console.print(f"[bold]{model}[/bold]: the search …")
    _, searched = _study(client, _search(model))
    assert searched.search is not None, "a search has its trace"
    console.print(f"[bold]{model}[/bold]: the rules at equal shares …")
    _, ruled = _study(client, _rules(model))
    rules = cells_of(model, ruled.variants, RULE_STEPS)
    return ModelEvidence(model, c, y, head, result, searched.search, each, took, curve, rules)


def _head(client: Client, model: str, count: int, folder: Path) -> HeadSummary:
    job = client.extract(model, parts=["c"]).wait()
    assert job.result is not None, "it has succeeded"
    c = load_file(saved(job, job.result.artifact, folder))["c"][0]  # (classes, d)
    largest = c.abs().mean(0).argsort(descending=True)
    read = F.silu(c).abs().mean(0)
    return HeadSummary(
        count=count,
        negative=(c.mean(0)[largest[:count]] < 0).double().mean().item(),
        read=read[largest[:count]].mean().item(),
        tail_read=read[largest[count:]].mean().item(),
    )


def mean_cosine(metrics: MetricsResult) -> float:
    """The mean cosine over all pairs of a model with several classes."""
    assert metrics.cosine is not None, "several classes have pairs"
    return metrics.cosine.mean


def _study(client: Client, body: dict[str, Any]) -> tuple[AnyJob, StudyResult]:
    job = client.submit("study", body).wait()
    assert isinstance(job.result, StudyResult), "a study has a study's result"
    return job, job.result


def _search(model: str) -> dict[str, Any]:
    """The search for the largest tail threshold that costs little accuracy."""
    search = {"measure": "accuracy", "budget": BUDGET, "trials": TRIALS}
    return {
        "model": model, "search": search, "samples_per_label": SAMPLES_OF_SEARCH, "steps": STEPS,
        "measures": MEASURES, "seed": 0,
    }  # fmt: skip


def _grid(model: str, each: int) -> dict[str, Any]:
    """The study of a model, with the variants of the paper's table 2."""
    card = json.loads((ROOT / "models" / model / "evaluation.json").read_text())
    thresholds = {row["name"]: row["threshold"] for row in card["variants"]}
    return {
        "model": model,
        "grid": {
            "thresholds": [thresholds[name] for name in TAILS],
            "sides": ["tail"],
            "schedules": SCHEDULES,
        },
        "prunes": [{"side": "head", "threshold": thresholds[name]} for name in HEADS],
        "samples_per_label": each,
        "steps": STEPS,
        "measures": MEASURES,
        "seed": 0,
    }


def _rules(model: str) -> dict[str, Any]:
    """The study of all rules at equal shares."""
    return {
        "model": model, "prunes": prunes(), "samples_per_label": RULE_SAMPLES, "steps": RULE_STEPS,
        "measures": ["accuracy", "drift"], "seed": 1,
    }  # fmt: skip
