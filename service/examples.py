"""The examples that the contract shows: bodies of requests, which the shipped models take, and a job."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "COMPACT",
    "EDIT",
    "EXTRACT",
    "JOB",
    "JOB_ID",
    "PRUNE_SAMPLE",
    "REGISTER",
    "SCORES",
    "STUDY",
    "SUMMARY",
    "WEBHOOK",
]


class Example(TypedDict):
    """A body, and what it asks for."""

    summary: str
    value: dict[str, Any]


PRUNE_SAMPLE: dict[str, Example] = {
    "one-threshold": {
        "summary": "One threshold, and the model's defaults for all else",
        "value": {"model": "shapes-sit", "threshold": 0.038},
    },
    "classes-by-name": {
        "summary": "Two thresholds, for classes by name and by number, in the last ten steps",
        "value": {
            "model": "shapes-sit",
            "threshold": [0.01, 0.05],
            "schedule": {"when": "last", "count": 10},
            "labels": ["red circle", 17],
            "samples_per_label": 4,
            "seed": 7,
        },
    },
    "head": {
        "summary": "Remove the largest components, in the first step alone",
        "value": {"model": "shapes-sit", "threshold": 0.8, "side": "head", "schedule": {"when": "first", "count": 1}},
    },
    "keep": {
        "summary": "Keep the 24 components that vary most over the classes, and the mean of the others",
        "value": {"model": "shapes-dit", "keep": 24, "sampler": "ddim", "steps": 20, "guidance_scale": 3},
    },
    "steps-and-blocks": {
        "summary": "A share of the components, at three steps, seen by two blocks and the final layer",
        "value": {
            "model": "shapes-sit",
            "remove_fraction": 0.5,
            "schedule": {"when": "at", "steps": [0, 3, 7]},
            "blocks": [0, 1, "final"],
        },
    },
    "by-step": {
        "summary": "A threshold for each of four steps, but none for the second",
        "value": {"model": "shapes-sit", "threshold_by_step": [0.05, None, 0.02, 0.01], "steps": 4},
    },
}
EDIT: dict[str, Example] = {
    "one-class": {
        "summary": "A red circle on its way to a blue star, by five strengths",
        "value": {"model": "shapes-sit", "source": ["red circle"], "target": ["blue star"]},
    },
    "colour": {
        "summary": "From red to blue as far as shapes other than circles tell, added to a red circle",
        "value": {
            "model": "shapes-sit",
            "source": ["red square", "red star", "red moon"],
            "target": ["blue square", "blue star", "blue moon"],
            "labels": ["red circle"],
            "samples_per_label": 4,
            "strength": [0, 0.5, 1, 1.5],
            "directions": 8,
        },
    },
    "late-steps": {
        "summary": "By 16 components, in the last half of the steps alone",
        "value": {
            "model": "shapes-dit",
            "source": [3],
            "target": [47],
            "strength": 1,
            "components": 16,
            "schedule": {"when": "last", "count": 10},
            "steps": 20,
            "sampler": "ddim",
        },
    },
}
REGISTER: dict[str, Example] = {
    "hub": {
        "summary": "A checkpoint of the Hugging Face hub, which is fetched",
        "value": {"name": "my-sit", "source": "hf://owner/repo/my-sit.safetensors", "family": "sit"},
    },
    "hub-with-decoder": {
        "summary": "With the decoder that makes pictures of its latents, and its licence",
        "value": {
            "name": "my-dit",
            "source": "hf://owner/repo/my-dit.pt",
            "family": "dit",
            "key": "ema",
            "decoder": "sd-vae",
            "decoder_source": "hf://stabilityai/sd-vae-ft-ema",
            "licence": "MIT",
        },
    },
}
STUDY: dict[str, Example] = {
    "grid": {
        "summary": "A grid of thresholds and schedules, and one prune of the head",
        "value": {
            "model": "shapes-repa",
            "grid": {"thresholds": [0.07, 0.15], "schedules": [{"when": "every"}, {"when": "last", "count": 10}]},
            "prunes": [{"side": "head", "threshold": 2.7}],
            "samples_per_label": 2,
            "measures": ["fid", "accuracy", "drift"],
        },
    },
    "search": {
        "summary": "The largest threshold that costs at most five points of class accuracy",
        "value": {"model": "shapes-sit", "search": {"measure": "accuracy", "budget": 0.05, "trials": 5}},
    },
    "drift-of-two-classes": {
        "summary": "The drift of two classes alone, which needs no extractor",
        "value": {
            "model": "shapes-sit",
            "prunes": [{"threshold": 0.038}, {"keep": 24}],
            "labels": ["red circle", "blue ring"],
            "measures": ["drift", "psnr"],
        },
    },
}
COMPACT: dict[str, Example] = {
    "directions": {
        "summary": "AdaLN reads 24 principal directions",
        "value": {"model": "shapes-sit", "keep": 24, "by": "directions"},
    },
    "refit": {
        "summary": "AdaLN reads 24 components, from which the others are predicted",
        "value": {"model": "shapes-sit", "keep": 24, "fill": "refit"},
    },
    "components": {
        "summary": "AdaLN reads the 48 components that vary most over the classes, at the times of 20 steps",
        "value": {"model": "shapes-sit", "keep": 48, "by": "variance", "sampler": "euler", "steps": 20},
    },
    "threshold": {
        "summary": "What a prune at a threshold removes for every class and time",
        "value": {"model": "shapes-sit", "threshold": 0.02, "side": "tail"},
    },
}
EXTRACT: dict[str, Example] = {
    "all": {
        "summary": "c, y and t of all classes, where sampling starts",
        "value": {"model": "shapes-sit"},
    },
    "times": {
        "summary": "The condition at three times, and its class part, of two classes",
        "value": {
            "model": "shapes-sit",
            "timesteps": [0.0, 0.5, 1.0],
            "labels": ["red circle", 17],
            "parts": ["c", "y"],
        },
    },
    "class-part": {
        "summary": "The class part alone, which does not depend on time",
        "value": {"model": "shapes-dit", "parts": ["y"]},
    },
}

JOB_ID = "01jd8y3v5n7q9r2s4t6w8x0z1a"
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "kind": "prune-sample",
    "title": "prune-sample of shapes-sit at 0.01",
    "thresholds": [0.01],
    "status": "running",
    "queue_position": None,
    "progress": {"done": 12, "total": 50, "unit": "steps", "phase": "sampling", "eta_seconds": 2.4},
    "created": "2026-01-31T12:00:00Z",
    "started": "2026-01-31T12:00:00.250000Z",
    "finished": None,
    "request": {
        "model": "shapes-sit",
        "threshold": [0.01],
        "threshold_by_step": None,
        "remove_fraction": None,
        "keep": None,
        "keep_fraction": None,
        "by": None,
        "of": "c",
        "side": "tail",
        "fill": "zero",
        "schedule": {"when": "every", "count": None, "steps": None},
        "blocks": None,
        "labels": [0, 17],
        "conditions": None,
        "rows": None,
        "samples_per_label": 4,
        "seed": 0,
        "sampler": "euler",
        "steps": 50,
        "guidance_scale": 2.5,
        "guidance_interval": None,
        "guidance_power": None,
        "guided_channels": "all",
        "timestep_shift": None,
        "diffusion": None,
        "last_step": None,
        "precision": "float32",
        "compare": True,
    },
    "result": None,
    "problem": None,
    "webhooks": [
        {
            "url": "https://hooks.example.com/tailprune",
            "event": "succeeded",
            "state": "waiting",
            "attempts": 0,
            "last_status": None,
            "last_fault": None,
            "next_attempt": None,
        }
    ],
    "links": {"self": f"/jobs/{JOB_ID}", "events": f"/jobs/{JOB_ID}/events", "artifacts": {}},
}
SUMMARY: dict[str, Any] = {
    "id": JOB_ID,
    "kind": JOB["kind"],
    "model": "shapes-sit",
    **{name: JOB[name] for name in ("title", "thresholds", "status", "queue_position", "progress", "created")},
    "started": JOB["started"],
    "finished": None,
    "problem": None,
    "links": {name: JOB["links"][name] for name in ("self", "events")},
}
WEBHOOK: dict[str, Any] = {
    "event": "started",
    "job": SUMMARY | {"progress": None},
    "time": SUMMARY["started"],
    "delivery": f"{JOB_ID}-1-started",
}
SCORES: dict[str, Any] = {
    "samples": {"done": 100, "total": 400},
    "variants": [
        {"name": "baseline", "samples": 50, "scores": {"accuracy": {"value": 0.98}}},
        {"name": "tail 0.038", "samples": 50, "scores": {"accuracy": {"value": 0.96}, "drift": {"value": 0.14}}},
    ],
    "search": None,
}
