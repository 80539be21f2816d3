"""Measure, prune and sample the condition vectors of diffusion transformers.

    system = tailprune.load("models/shapes-sit")
    c = system.condition(t, {"labels": labels})
    tailprune.describe(c)
    tailprune.sample(system, {"labels": labels}, prune=tailprune.Prune("tail", 0.01), seeds=range(len(labels)))

`tailprune.pipeline` is the file to read first. Names are imported when first used, so `import tailprune` itself does
not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailprune.attribution import Attribution, attribute_variance
    from tailprune.checkpoints.load import Checkpoint, CheckpointError, Found, inspect, load, load_condition
    from tailprune.checkpoints.save import save_system
    from tailprune.compaction import Compaction, compact
    from tailprune.condition_table import ConditionTable
    from tailprune.directions import shift_between
    from tailprune.edit import Edit, Shift
    from tailprune.image_grid import show
    from tailprune.learned_mask import LearnedMask, learn_mask
    from tailprune.modulation import ModulationChange, ModulationMetric, measure_modulation, modulation_error
    from tailprune.pipeline import Comparison, prune_and_compare
    from tailprune.prune_report import Removal, measure_removal
    from tailprune.pruning import Prune
    from tailprune.sampling import Guidance, sample, sample_each, sampling_times
    from tailprune.spec.edit import ModulationGuidance
    from tailprune.spec.prune import Schedule
    from tailprune.statistics import Description, describe
    from tailprune.statistics_over_time import DescriptionOverTime, describe_over_time
    from tailprune.systems import System
    from tailprune.transformers import load_transformer

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "Checkpoint",
    "CheckpointError",
    "Compaction",
    "Comparison",
    "ConditionTable",
    "Description",
    "DescriptionOverTime",
    "Edit",
    "Found",
    "Guidance",
    "LearnedMask",
    "ModulationChange",
    "ModulationGuidance",
    "ModulationMetric",
    "Prune",
    "Removal",
    "Schedule",
    "Shift",
    "System",
    "attribute_variance",
    "compact",
    "describe",
    "describe_over_time",
    "inspect",
    "learn_mask",
    "load",
    "load_condition",
    "load_transformer",
    "measure_modulation",
    "measure_removal",
    "modulation_error",
    "prune_and_compare",
    "sample",
    "sample_each",
    "sampling_times",
    "save_system",
    "shift_between",
    "show",
]

_HOMES = {
    "Attribution": "attribution",
    "Checkpoint": "checkpoints.load",
    "CheckpointError": "checkpoints.load",
    "Compaction": "compaction",
    "Comparison": "pipeline",
    "ConditionTable": "condition_table",
    "Description": "statistics",
    "DescriptionOverTime": "statistics_over_time",
    "Edit": "edit",
    "Found": "checkpoints.load",
    "Guidance": "sampling",
    "LearnedMask": "learned_mask",
    "ModulationChange": "modulation",
    "ModulationMetric": "modulation",
    "ModulationGuidance": "spec.edit",
    "Prune": "pruning",
    "Removal": "prune_report",
    "Schedule": "spec.prune",
    "Shift": "edit",
    "System": "systems",
    "attribute_variance": "attribution",
    "compact": "compaction",
    "describe": "statistics",
    "describe_over_time": "statistics_over_time",
    "inspect": "checkpoints.load",
    "learn_mask": "learned_mask",
    "load": "checkpoints.load",
    "load_condition": "checkpoints.load",
    "measure_modulation": "modulation",
    "load_transformer": "transformers",
    "measure_removal": "prune_report",
    "modulation_error": "modulation",
    "prune_and_compare": "pipeline",
    "sample": "sampling",
    "sample_each": "sampling",
    "sampling_times": "sampling",
    "save_system": "checkpoints.save",
    "shift_between": "directions",
    "show": "image_grid",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tailprune' has no attribute {name!r}")
    from tailprune.extras import require  # here, so that `tailprune.spec` imports nothing of the science

    require("science", "numpy", "safetensors", "torch", "torchdiffeq")
    return getattr(import_module(f"tailprune.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
