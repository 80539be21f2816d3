"""Made-up results of the right shape."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from jobs.anatomy_results import AnatomyResult
from jobs.attribution_results import AttributionResult
from jobs.compact_transformer_results import CompactTransformerResult
from jobs.edit_results import EditResult
from jobs.figure_results import FigureTransformerResult
from jobs.registry.added import Added, AddedStore
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.compaction import compacted_name
from jobs.results import (
    CompactResult,
    CosineResult,
    ExtractResult,
    FigureResult,
    MetricsResult,
    OverTimeResult,
    PruneSampleResult,
    RegisterResult,
    RemovalResult,
)
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.study_results import StudyResult
from jobs.transformer_results import MetricsTransformerResult, OverTimeTransformerResult

REGISTERED: dict[str, Any] = {
    "family": "dit",
    "parameters": 1000,
    "condition_dim": 64,
    "latent_shape": [4, 8, 8],
    "classes": 3,
}
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
    "timing": {"queue": 0.1, "load": 0.1, "sample": 1.0, "decode": 0.1, "samples_per_second": 2.0, "batch_jobs": 1},
    "engine": {"device": "cpu", "dtype": "float32", "versions": {"torch": "2"}},
}

EDITED: dict[str, Any] = PRUNE_SAMPLE | {
    "classifier": "shapes-classifier",
    "moved": 0.5,
    "variants": [
        {
            "name": f"strength {strength}",
            "edit": {"source": [0], "target": [1], "strength": strength, "components": None, "directions": None},
            "drift": {"latent": 0.1, "psnr": 20.0, "ssim": None} if strength else None,
            "source": 1.0 - strength,
            "target": strength,
            "images": [
                {
                    "label": 0,
                    "class_name": "class 0",
                    "sample": 0,
                    "artifact": "grid.png",
                    "verdict": {
                        "label": round(strength),
                        "class_name": f"class {round(strength)}",
                        "probability": 0.9,
                        "source": 1.0 - strength,
                        "target": strength,
                    },
                }
            ],
            "latents": "latents.safetensors",
        }
        for strength in (0.0, 0.75)
    ],
}
ANATOMY: dict[str, Any] = {
    "model": {"name": "flux", "files_digest": "d"},
    "name": "FluxTransformer2DModel",
    "models": "FLUX.1",
    "naming": "diffusers",
    "parameters": 1000,
    "bytes": 2000,
    "adaln_parameters": 260,
    "adaln_bytes": 520,
    "adaln_share": 0.26,
    "adaln_types": ["BF16"],
    "embedder_parameters": 20,
    "condition_dim": 4,
    "depends_on": ["time", "pooled text"],
    "time_range": [0.0, 1.0],
    "time_factor": 1000.0,
    "linears": [
        {
            "name": "norm_out.linear", "count": 1, "inputs": 4, "outputs": 52, "pieces": ["scale", "shift"],
            "parameters": 260,
        },
    ],
    "ranks": {
        "needed": [{"error": 0.1, "rank": 1}, {"error": 0.01, "rank": 2}], "errors": [0.5, 0.1, 0.01], "times": 1001,
        "rows": 52, "of_rows": 52,
    },
    "unmeasured": None,
    "replacements": [
        {
            "what": "rank", "number": 1, "error": 0.1, "columns": 1, "parameters": 108, "bytes": 216,
            "saved_bytes": 304,
        },
        {
            "what": "steps", "number": 50, "error": 0.0, "columns": 49, "parameters": 2796, "bytes": 5592,
            "saved_bytes": -5072,
        },
    ],
    "recommendation": "rank 2, which at any time has an error of 1.0% and saves 0.00 MB",
}  # fmt: skip
ATTRIBUTION: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "count": 4,
    "dim": 2,
    "attributes": [{"name": "colour", "values": ["red", "blue"]}, {"name": "shape", "values": ["ring", "star"]}],
    "shares": [
        {"part": "colour", "plain": 0.5, "weighted": 0.6},
        {"part": "shape", "plain": 0.4, "weighted": 0.35},
        {"part": "interaction", "plain": 0.1, "weighted": 0.05},
    ],
    "components": [
        {"index": 1, "share": 0.7, "parts": [0.9, 0.1, 0.0]},
        {"index": 0, "share": 0.3, "parts": [0.2, 0.7, 0.1]},
    ],
    "directions": [{"index": 0, "share": 1.0, "parts": [0.6, 0.4, 0.0]}],
}

METRICS: dict[str, Any] = {
    "model": {
        "name": "shapes-sit",
        "digest": None,
        "condition_digest": "d",
        "modulation_digest": None,
        "training_digest": None,
    },
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


VECTORS = save(
    {
        "c": np.arange(6, dtype=np.float32).reshape(1, 2, 3) / np.float32(10),
        "timesteps": np.zeros(1, np.float32),
        "labels": np.array([0, 1]),
    }
)
"""Those of two classes at one time, three components each."""
EXTRACT: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "artifact": "vectors.safetensors",
    "shapes": {"c": [1, 2, 3], "timesteps": [1], "labels": [2]},
    "counts": {"timesteps": 1, "inputs": 2, "dim": 3},
    "bytes": len(VECTORS),
}

PAIRS: dict[str, Any] = {
    "model": METRICS["model"],
    "part": "c",
    "timestep": 0.0,
    "count": 2,
    "order": "class",
    "mean": 0.5,
    "min": 0.5,
    "max": 0.5,
}
MATRIX: dict[str, Any] = PAIRS | {"labels": [0, 1], "names": ["a", "b"], "values": [[1.0, 0.5], [0.5, 1.0]]}
OVER_TIME: dict[str, Any] = {
    "model": METRICS["model"],
    "part": "c",
    "count": 100,
    "dim": 128,
    "timesteps": [0.0, 1.0],
    "fraction": [0.0, 1.0],
    "cosine": {"mean": [0.9, 0.8], "min": [0.7, 0.6], "max": [1.0, 1.0]},
    "npr": [0.1, 0.2],
    "pr": [12.8, 25.6],
    "norm": [3.0, 4.0],
    "removed": [{"threshold": 0.1, "fraction": [0.5, 0.7], "mean": 0.6}],
}
PARTS: list[dict[str, Any]] = [
    {"what": "time", "covers": "50 times from 1 to 0.02"},
    {"what": "pooled text", "covers": "none, as zeros"},
]
SOME: dict[str, Any] = {"count": 1, "cosine": None, "pr": 2.0, "npr": 0.5, "norm": 0.5}
METRICS_TRANSFORMER: dict[str, Any] = METRICS | {
    "model": ANATOMY["model"],
    "timestep": None,
    "scheduler": "plain",
    "times": [1.0, 0.5],
    "parts": [each | SOME for each in PARTS],
}
OVER_TIME_TRANSFORMER: dict[str, Any] = OVER_TIME | {"model": ANATOMY["model"], "parts": PARTS}
REMOVAL: dict[str, Any] = {
    "model": METRICS["model"],
    "sampler": "euler",
    "steps": 2,
    "timesteps": [0.0, 0.5],
    "fraction": [0.0, 0.5],
    "labels": [0, 1],
    "conditions": None,
    "prunes": [
        {
            "name": "tail 0.1",
            "prune": {
                "threshold": 0.1,
                "threshold_by_step": None,
                "remove_fraction": None,
                "side": "tail",
                "keep": None,
                "keep_fraction": None,
                "by": None,
                "of": "c",
                "fill": "zero",
                "schedule": {"when": "every", "count": None, "steps": None},
                "blocks": None,
            },
            "removed": {"mean": 64.0, "min": 60, "max": 68, "fraction": 0.5, "by_step": [64.0, 64.0], "threshold": 0.1},
            "embedding": {"npr_before": 0.06, "npr_after": 0.05, "cosine_before": 0.99, "cosine_after": 0.99},
            "modulation": {"error": 0.05, "by_step": [0.04, 0.06], "largest": 0.1, "bound": 0.5},
        }
    ],
}

SVG = b"<svg/>"
NUMBERS: dict[str, Any] = {
    "figure": "cosine",
    "caption": "A figure.",
    "model": METRICS["model"],
    "data": {"names": ["a", "b"], "values": [[1.0, 0.5], [0.5, 1.0]]},
}
FIGURE: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "figure": "cosine",
    "caption": "A figure.",
    "png": "cosine.png",
    "svg": "cosine.svg",
    "data": "cosine.json",
    "samples": 0,
}
RANK_NUMBERS: dict[str, Any] = {
    "figure": "rank",
    "caption": "A figure of ranks.",
    "model": ANATOMY["model"],
    "data": ANATOMY["ranks"],
}
FIGURE_TRANSFORMER: dict[str, Any] = {
    "model": ANATOMY["model"],
    "figure": "rank",
    "caption": "A figure of ranks.",
    "png": "rank.png",
    "svg": "rank.svg",
    "data": "rank.json",
}

STUDY: dict[str, Any] = {
    "model": {"name": "scored", "digest": "d"},
    "complete": True,
    "measures": [
        {
            "measure": "fid",
            "title": "Fréchet distance (shapes-classifier)",
            "better": "lower",
            "extractor": "shapes-classifier",
            "reference": "shapes",
        },
        {
            "measure": "kid",
            "title": "Kernel distance (shapes-classifier)",
            "better": "lower",
            "extractor": "shapes-classifier",
            "reference": "shapes",
        },
        {
            "measure": "accuracy",
            "title": "Class accuracy (shapes-classifier)",
            "better": "higher",
            "extractor": "shapes-classifier",
            "reference": None,
        },
        {
            "measure": "drift",
            "title": "Drift of the latents",
            "better": "lower",
            "extractor": None,
            "reference": "baseline",
        },
        {"measure": "psnr", "title": "PSNR", "better": "higher", "extractor": None, "reference": "baseline"},
    ],
    "variants": [
        {
            "name": "baseline",
            "prune": None,
            "samples": 100,
            "scores": {
                "fid": {"value": 1.25},
                "kid": {"value": 0.5, "std": 0.0625},
                "accuracy": {"value": 0.97, "low": 0.93, "high": 0.99},
            },
        },
        {
            "name": "tail 0.1",
            "prune": {"threshold": 0.1, "side": "tail", "fill": "zero", "schedule": {"when": "every", "count": None}},
            "removed": {"mean": 64.0, "min": 60, "max": 68, "fraction": 0.5, "by_step": [64.0, 64.0]},
            "embedding": {"npr_before": 0.06, "npr_after": 0.05, "cosine_before": 0.99, "cosine_after": 0.99},
            "samples": 100,
            "scores": {
                "fid": {"value": 2.5},
                "kid": {"value": 0.75, "std": 0.125},
                "accuracy": {"value": 0.96, "low": 0.91, "high": 0.98},
                "drift": {"value": 0.125},
                "psnr": {"value": None, "left_out": 100},
            },
        },
    ],
    "search": {
        "measure": "drift",
        "budget": 0.2,
        "limit": 0.2,
        "baseline": None,
        "threshold": 0.1,
        "fraction": 0.5,
        "trials": [{"threshold": 0.1, "fraction": 0.5, "value": 0.125, "within": True, "variant": "tail 0.1"}],
    },
    "exports": {
        "document": "study.json",
        "table": "study.csv",
        "markdown": "study.md",
        "png": "study.png",
        "svg": "study.svg",
    },
    "shards": {"total": 4, "done": 4, "made": 3, "found": 1},
    "engine": {"device": "cpu", "dtype": "float32", "versions": {"torch": "2"}},
}
STUDY_FILES = {
    "study.json": (b"{}", "application/json"),
    "study.csv": (b"variant", "text/csv"),
    "study.md": (b"# Study", "text/markdown"),
    "study.png": (PICTURE, "image/png"),
    "study.svg": (SVG, "image/svg+xml"),
}


COMPACT: dict[str, Any] = {
    "model": {"name": "shapes-sit", "digest": "d"},
    "compacted": {"name": "shapes-sit-compact-0123456789abcdef", "digest": "e"},
    "by": "variance",
    "fill": "zero",
    "components": 128,
    "kept": 3,
    "kept_components": [1, 2, 5],
    "time_columns": 0,
    "width": 3,
    "bias_error": None,
    "covered": {"timesteps": [0.0, 0.5], "labels": [0, 1], "conditions": None, "guided": True},
    "parameters": {"before": 1000, "after": 700},
    "adaln_parameters": {"before": 400, "after": 100},
    "bytes": {"before": 5000, "after": 3500},
    "compared": {
        "drift": {"latent": 0.125, "psnr": 31.5, "ssim": 0.96},
        "samples": 2,
        "sampler": "euler",
        "steps": 50,
        "guidance_scale": 2.5,
    },
    "samples": "samples.png",
    "checkpoint": "model.safetensors",
    "card": "card.md",
    "timing": {"queue": 0.1, "load": 0.1, "compact": 0.1, "store": 0.1, "compare": 1.0},
    "engine": {"device": "cpu", "dtype": "float32", "versions": {"torch": "2"}},
}
COMPACT_FILES = {
    "model.safetensors": (b"smaller weights", "application/octet-stream"),
    "card.md": (b"# A card", "text/markdown; charset=utf-8"),
    "samples.png": (PICTURE, "image/png"),
}


COMPACT_TRANSFORMER: dict[str, Any] = {
    "model": {"name": "flux", "files_digest": "d"},
    "name": "FluxTransformer2DModel",
    "rank": 55,
    "covers": "the plain schedules of 28 steps, guidance 3.5, no pooled text",
    "error": 0.0012,
    "worst_error": 0.0017,
    "error_between": 0.49,
    "text_error": 0.25,
    "parameters": {"before": 1000, "after": 760},
    "adaln_parameters": {"before": 260, "after": 20},
    "bytes": {"before": 2000, "after": 1520},
    "dtype": "BF16",
    "read_dtypes": ["BF16"],
    "notes": ["The rows of q, k and v in qkv_proj were taken to be stacked."],
    "sources": {"diffusion_pytorch_model.safetensors": "a"},
    "files": {"README.md": "b", "compaction.json": "c", "diffusion_pytorch_model.safetensors": "d"},
    "card": "README.md",
    "account": "compaction.json",
    "timing": {"queue": 0.1, "compact": 60.0, "store": 1.0},
}
COMPACT_TRANSFORMER_FILES = {
    "README.md": (b"# A card", "text/markdown; charset=utf-8"),
    "compaction.json": (b"{}", "application/json"),
    "diffusion_pytorch_model.safetensors": (b"smaller weights", "application/octet-stream"),
}


def finish(store: JobStore, leases: LeaseStore, claim: Claim) -> None:
    """End a job with the made-up result of its kind."""
    if claim.job.kind == "metrics":
        leases.succeed(claim, MetricsResult.model_validate(METRICS).model_dump(), {})
        return
    if claim.job.kind == "metrics-transformer":
        leases.succeed(claim, MetricsTransformerResult.model_validate(METRICS_TRANSFORMER).model_dump(), {})
        return
    if claim.job.kind == "over-time-transformer":
        leases.succeed(claim, OverTimeTransformerResult.model_validate(OVER_TIME_TRANSFORMER).model_dump(), {})
        return
    if claim.job.kind == "anatomy":
        leases.succeed(claim, AnatomyResult.model_validate(ANATOMY).model_dump(), {})
        return
    if claim.job.kind == "attribution":
        leases.succeed(claim, AttributionResult.model_validate(ATTRIBUTION).model_dump(), {})
        return
    if claim.job.kind == "over-time":
        leases.succeed(claim, OverTimeResult.model_validate(OVER_TIME).model_dump(), {})
        return
    if claim.job.kind == "removal":
        leases.succeed(claim, RemovalResult.model_validate(REMOVAL).model_dump(mode="json"), {})
        return
    if claim.job.kind == "cosine":
        files = {
            "cosine.safetensors": store.artifacts.put(b"cosines", "application/octet-stream"),
            "cosine.json": store.artifacts.put(json.dumps(MATRIX).encode(), "application/json"),
        }
        made = PAIRS | {"artifact": "cosine.safetensors", "matrix": "cosine.json"}
        leases.succeed(claim, CosineResult.model_validate(made).model_dump(), files)
        return
    if claim.job.kind == "extract":
        file = store.artifacts.put(VECTORS, "application/octet-stream")
        leases.succeed(claim, ExtractResult.model_validate(EXTRACT).model_dump(), {"vectors.safetensors": file})
        return
    if claim.job.kind == "figure":
        files = {
            "cosine.png": store.artifacts.put(PICTURE, "image/png"),
            "cosine.svg": store.artifacts.put(SVG, "image/svg+xml"),
            "cosine.json": store.artifacts.put(json.dumps(NUMBERS).encode(), "application/json"),
        }
        leases.succeed(claim, FigureResult.model_validate(FIGURE).model_dump(), files)
        return
    if claim.job.kind == "figure-transformer":
        files = {
            "rank.png": store.artifacts.put(PICTURE, "image/png"),
            "rank.svg": store.artifacts.put(SVG, "image/svg+xml"),
            "rank.json": store.artifacts.put(json.dumps(RANK_NUMBERS).encode(), "application/json"),
        }
        leases.succeed(claim, FigureTransformerResult.model_validate(FIGURE_TRANSFORMER).model_dump(), files)
        return
    if claim.job.kind == "study":
        study = StudyResult.model_validate(STUDY)
        files = {name: store.artifacts.put(content, kind) for name, (content, kind) in STUDY_FILES.items()}
        leases.succeed(claim, study.model_dump(mode="json"), files)
        return
    if claim.job.kind == "compact":
        finish_compact(store, leases, claim)
        return
    if claim.job.kind == "compact-transformer":
        made = CompactTransformerResult.model_validate(COMPACT_TRANSFORMER).model_dump()
        stored = {
            name: store.artifacts.put(content, kind) for name, (content, kind) in COMPACT_TRANSFORMER_FILES.items()
        }
        leases.succeed(claim, made, stored)
        return
    if claim.job.kind == "register":
        finish_register(store, leases, claim)
        return
    leases.report(claim, 1, 2, "steps")
    leases.report(claim, 2, 2, "steps")
    artifacts = {
        "grid.png": store.artifacts.put(PICTURE, "image/png"),
        "latents.safetensors": store.artifacts.put(b"latents", "application/octet-stream"),
    }
    if claim.job.kind == "edit":
        leases.succeed(claim, EditResult.model_validate(EDITED).model_dump(), artifacts)
        return
    leases.succeed(claim, PruneSampleResult.model_validate(PRUNE_SAMPLE).model_dump(), artifacts)


def finish_register(store: JobStore, leases: LeaseStore, claim: Claim) -> None:
    """End a registration with the made-up description of a checkpoint, for the name and the file that it has."""
    asked = claim.job.request
    added = Added(
        table={**REGISTERED, "checkpoint": asked["source"]},
        folder=Path(asked["source"]).parent,
        created=datetime.now(UTC),
        key=claim.job.key,
    )
    AddedStore(store._redis).put(claim.job.model, added)
    made = {
        **{field: REGISTERED[field] for field in ("family", "parameters", "condition_dim", "latent_shape", "classes")},
        "model": {"name": claim.job.model, "digest": "d"},
        "size": None,
        "null_condition": True,
        "assumptions": ["3 classes and the null condition; classes 4 if the last row is a class too"],
    }
    leases.succeed(claim, RegisterResult.model_validate(made).model_dump(mode="json"), {})


def finish_compact(store: JobStore, leases: LeaseStore, claim: Claim) -> None:
    """End a compaction with the made-up result, under the name that its job gives it."""
    name = compacted_name(claim.job.model, claim.job.key)
    files = {name: store.artifacts.put(content, kind) for name, (content, kind) in COMPACT_FILES.items()}
    made = COMPACT | {"compacted": {"name": name, "digest": files["model.safetensors"].digest}}
    result = CompactResult.model_validate(made)
    record = Compacted(
        model=claim.job.model,
        model_digest="d",
        by=result.by,
        fill=result.fill,
        components=result.components,
        kept=result.kept,
        time_columns=claim.job.request["fill"] == "mean",
        created=datetime.now(UTC),
        parameters=result.parameters.after,
        checkpoint=files["model.safetensors"],
        family="sit",
        key=claim.job.key,
    )
    CompactedStore(store._redis).put(name, record)
    leases.succeed(claim, result.model_dump(mode="json"), files)
