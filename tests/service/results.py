"""Made-up results of the right shape."""

from __future__ import annotations

from typing import Any

from jobs.results import ExtractResult, FigureResult, MetricsResult, PruneSampleResult
from jobs.store import Claim, JobStore

PICTURE = bytes(range(256)) * 8

PRUNE_SAMPLE: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "pictures": {"show": "image", "decoder": "pixels", "note": None},
    "variants": [
        {
            "name": "baseline",
            "prune": None,
            "removed": None,
            "embedding": None,
            "drift": None,
            "images": [{"label": 0, "class_name": "class 0", "sample": 0, "artifact": "grid.png"}],
            "latents": "latents.safetensors",
        }
    ],
    "grid": "grid.png",
    "timing": {"queue": 0.1, "load": 0.1, "sample": 1.0, "decode": 0.1, "samples_per_second": 2.0},
    "engine": {"device": "cpu", "dtype": "float32", "versions": {"torch": "2"}},
}

METRICS: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "part": "c",
    "timestep": 0.0,
    "count": 100,
    "dim": 128,
    "cosine": {"mean": 0.9, "min": 0.8, "max": 1.0},
    "pr": 12.0,
    "npr": 0.1,
    "norm": 3.0,
    "sparsity": [{"threshold": 0.1, "fraction": 0.5}],
    "histogram": {"edges": [0.1, 1.0], "counts": [3]},
    "variance": {"components": [0.1, 0.2], "components_for": {"0.9": 2}},
}


EXTRACT: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "artifact": "vectors.safetensors",
    "shapes": {"c": [2, 2, 128], "timesteps": [2], "labels": [2]},
    "counts": {"timesteps": 2, "inputs": 2, "dim": 128},
    "bytes": 7,
}

SVG = b"<svg/>"
FIGURE: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "figure": "cosine",
    "caption": "A figure.",
    "png": "cosine.png",
    "svg": "cosine.svg",
    "samples": 0,
}


def finish(store: JobStore, claim: Claim) -> None:
    """End a job with the made-up result of its kind."""
    if claim.job.kind == "metrics":
        store.succeed(claim, MetricsResult.model_validate(METRICS).model_dump(), {})
        return
    if claim.job.kind == "extract":
        file = store.artifacts.put(b"vectors", "application/octet-stream")
        store.succeed(claim, ExtractResult.model_validate(EXTRACT).model_dump(), {"vectors.safetensors": file})
        return
    if claim.job.kind == "figure":
        files = {
            "cosine.png": store.artifacts.put(PICTURE, "image/png"),
            "cosine.svg": store.artifacts.put(SVG, "image/svg+xml"),
        }
        store.succeed(claim, FigureResult.model_validate(FIGURE).model_dump(), files)
        return
    store.report(claim, 1, 2, "steps")
    store.report(claim, 2, 2, "steps")
    artifacts = {
        "grid.png": store.artifacts.put(PICTURE, "image/png"),
        "latents.safetensors": store.artifacts.put(b"latents", "application/octet-stream"),
    }
    store.succeed(claim, PruneSampleResult.model_validate(PRUNE_SAMPLE).model_dump(), artifacts)
