"""`make demo`: the whole stack on a free port, one model pruned four ways, one picture.

Starts `tailprune serve` on a data folder of its own, posts the requests, follows the jobs, classifies the samples with
the shipped classifier, writes `demo/prune-sample.png`, and stops everything.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from demo import ROOT, running
from jobs.results import PruneSampleResult, Variant
from service.cli.client import Client
from service.cli.running import AnyJob, saved
from tailprune.image_grid import grid
from tailprune.shapes.classifier import ShapesClassifier, accuracy, load_classifier
from workers.outputs.media import png

PICTURE = ROOT / "demo" / "prune-sample.png"
MODEL = "shapes-sit"
LABELS = [10 * shape + (shape + shift) % 10 for shape in range(10) for shift in (0, 5)]
"""Two colours of each shape."""

console = Console(highlight=False, width=max(110, Console().width))


def main() -> None:
    thresholds = {row["name"]: row["threshold"] for row in _card()["variants"]}
    common = {"model": MODEL, "labels": LABELS, "seed": 1}
    tail = common | {"side": "tail", "threshold": [thresholds["mild"], thresholds["strong"]]}
    head = common | {"side": "head", "threshold": [thresholds["head-5"]]}
    with (
        tempfile.TemporaryDirectory(prefix="tailprune-demo-") as folder,
        running(Path(folder) / "data") as url,
        Client(url, console) as client,
    ):
        console.print(f"The stack is up at {url}. Sampling {len(LABELS)} labels, unpruned and pruned …")
        jobs = [client.submit("prune-sample", body).wait() for body in (tail, head)]
        rows = _rows(jobs, Path(folder))
        metrics = client.metrics(MODEL)
    _print_table(rows, load_classifier(ROOT / "models" / "shapes-classifier" / "model.safetensors"))
    if metrics.cosine is not None:
        console.print(
            f"All {metrics.count} condition vectors at t = {metrics.timestep:g}: nPR {metrics.npr:.3f}, "
            f"mean pairwise cosine {metrics.cosine.mean:.3f}"
        )
    names = (ROOT / "models" / MODEL / "classes.txt").read_text().splitlines()
    columns = [names[label] for label in LABELS]
    PICTURE.write_bytes(png(grid([images for _, images, _ in rows], [name for name, _, _ in _titled(rows)], columns)))
    console.print(f"One row a variant, one column a label: {PICTURE.relative_to(ROOT)}")
    console.print("\nThe same by hand, beside a running `make serve`:\n")
    console.print(_curl(tail), soft_wrap=True)


Row = tuple[Variant, Any, Any]


def _rows(jobs: list[AnyJob], folder: Path) -> list[Row]:
    """Each variant with its images, shape (N, H, W, 3), and its latents; the baseline once."""
    rows: list[Row] = []
    for job in jobs:
        assert isinstance(job.result, PruneSampleResult)
        for variant in job.result.variants:
            if variant.prune is None and rows:
                continue
            files = [saved(job, image.artifact, folder) for image in variant.images]
            images = np.stack([np.asarray(Image.open(io.BytesIO(file.read_bytes()))) for file in files])
            rows.append((variant, images, load_file(saved(job, variant.latents, folder))["latents"]))
    return rows


def _titled(rows: list[Row]) -> Iterator[tuple[str, Any, Any]]:
    """The rows, with the share removed in their names."""
    for variant, images, latents in rows:
        share = "" if variant.removed is None else f" (-{variant.removed.fraction:.0%})"
        yield variant.name + share, images, latents


def _print_table(rows: list[Row], classifier: ShapesClassifier) -> None:
    table = Table(title=f"{MODEL}: {len(LABELS)} labels, one sample each, pruned at every step")
    for heading in ("variant", "components removed", "nPR", "cosine", "drift", "class accuracy"):
        table.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=True)
    for variant, _, latents in rows:
        share = accuracy(classifier, latents.clamp(-1, 1), torch.tensor(LABELS))
        removed, embedding, drift = variant.removed, variant.embedding, variant.drift
        table.add_row(
            variant.name,
            f"{removed.mean:.1f} ({removed.fraction:.0%})" if removed else "–",
            f"{embedding.npr_before:.3f} → {embedding.npr_after:.3f}" if embedding else "–",
            f"{embedding.cosine_before:.3f} → {embedding.cosine_after:.3f}" if embedding else "–",
            f"{drift.latent:.3f}" if drift else "–",
            f"{share:.0%}",
        )
    console.print(table)


def _card() -> dict[str, Any]:
    """The evaluation behind the model card, with the thresholds."""
    evaluation: dict[str, Any] = json.loads((ROOT / "models" / MODEL / "evaluation.json").read_text())
    return evaluation


def _curl(body: dict[str, Any]) -> str:
    return (
        "curl -s -H 'Prefer: wait=60' -H 'Content-Type: application/json' http://127.0.0.1:8000/prune-sample \\\n"
        f"  -d '{json.dumps(body)}'"
    )


if __name__ == "__main__":
    main()
