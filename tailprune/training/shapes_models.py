"""The recipes of the shipped models of *shapes*, one per family, each with its own objective.

`python -m tailprune.training.shapes_models shapes-repa` trains one and writes it to `models/`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tailprune.shapes.classifier import load_classifier
from tailprune.shapes.dataset import NUM_CLASSES, draw
from tailprune.statistics import participation_ratio, summarise_cosine
from tailprune.systems import MDT, MG, REPA, DiT, LightningDiT, SiT, System
from tailprune.systems.dit import DiTConfig, LabelConfig
from tailprune.systems.lightningdit import LightningDiTConfig
from tailprune.systems.mdt import MDTConfig
from tailprune.training.initialise import initialise
from tailprune.training.objectives import (
    Alignment,
    FlowMatching,
    MaskedLatents,
    ModelGuidance,
    NoisePrediction,
    Objective,
)
from tailprune.training.recipe import Recipe, ship, train

__all__ = ["SHAPES_MODELS", "ShapesModel", "main", "measure_condition"]

SHARED: dict[str, Any] = {
    "input_size": 16,
    "patch_size": 4,
    "in_channels": 3,
    "hidden_size": 128,
    "depth": 4,
    "num_heads": 4,
    "num_classes": NUM_CLASSES,
}
CLASSIFIER = Path("models/shapes-classifier/model.safetensors")


@dataclass(frozen=True)
class ShapesModel:
    """A system, its size, its training, and how it is sampled."""

    system: type[Any]
    configuration: LabelConfig
    recipe: Recipe
    objective: Callable[[Any], Objective]
    trained_on: str
    """The objective in words, for the model card."""
    sampler: str
    guidance: float
    """The guidance scale of the card and of the registry."""
    guidance_power: float | None = None
    steps: int = 50

    def build(self) -> Objective:
        """The objective with a new network, whose weights are drawn from torch's global generator."""
        system = self.system(self.configuration)
        initialise(system)
        return self.objective(system)


def _aligned(system: REPA) -> Objective:
    return Alignment(system, load_classifier(CLASSIFIER))


def _masked(system: MDT) -> Objective:
    return MaskedLatents(system, SHARED["num_heads"])


SHAPES_MODELS: dict[str, ShapesModel] = {
    "shapes-dit": ShapesModel(
        DiT,
        DiTConfig(**SHARED),
        Recipe(steps=30_000, batch_size=32, learning_rate=3e-3, time_rate=0.3, label_rate=0.3),
        NoisePrediction,
        "noise prediction with learned variance",
        sampler="ddim",
        guidance=4.0,
    ),
    "shapes-sit": ShapesModel(
        SiT,
        DiTConfig(**SHARED, learn_sigma=False),
        Recipe(steps=20_000, batch_size=64, learning_rate=3e-3),
        FlowMatching,
        "flow matching, logit-normal times",
        sampler="euler",
        guidance=2.5,
    ),
    "shapes-mdt": ShapesModel(
        MDT,
        MDTConfig(**SHARED, decode_layer=2),
        Recipe(steps=14_000, batch_size=32, learning_rate=3e-3, time_rate=0.3, label_rate=0.3),
        _masked,
        "noise prediction with learned variance, of the whole image and of one with three tenths of its tokens hidden, "
        "half of the timesteps drawn where flow matching would draw them",
        sampler="ddim",
        guidance=4.0,
        guidance_power=0.01,  # almost constant
    ),
    "shapes-lightningdit": ShapesModel(
        LightningDiT,
        LightningDiTConfig(**SHARED),
        Recipe(steps=20_000, batch_size=32, learning_rate=4e-3),
        FlowMatching,
        "flow matching, logit-normal times",
        sampler="euler",
        guidance=2.5,
    ),
    "shapes-repa": ShapesModel(
        REPA,
        DiTConfig(**SHARED, learn_sigma=False),
        Recipe(steps=16_000, batch_size=32, learning_rate=4e-3),
        _aligned,
        "flow matching, logit-normal times, the tokens after two blocks aligned to features of `shapes-classifier`",
        sampler="euler",
        guidance=2.5,
    ),
    "shapes-mg": ShapesModel(
        MG,
        DiTConfig(**SHARED, learn_sigma=False),
        Recipe(steps=16_000, batch_size=32, learning_rate=4e-3),
        ModelGuidance,
        "flow matching, logit-normal times, towards the velocity that guidance of scale 2.5 would give",
        sampler="euler",
        guidance=1.0,
    ),
}


@torch.no_grad()
def measure_condition(system: System) -> dict[str, float]:
    """nPR and cosine of `c` over all classes at pure noise, and the cosine of `y` alone."""
    everyone = system.all_inputs()
    y = system.embed_inputs(everyone)
    c = system.condition(torch.full((len(y),), float(system.facts.noise_time), device=y.device), everyone)
    return {
        "npr": participation_ratio(c).mean().item() / system.condition_dim,
        "cosine": summarise_cosine(c).mean,
        "cosine_y": summarise_cosine(y).mean,
    }


def main() -> None:
    """Train a model of shapes and write `model.safetensors` and `training.json` to its folder."""
    parser = argparse.ArgumentParser(prog="python -m tailprune.training.shapes_models", description=main.__doc__)
    parser.add_argument("name", choices=SHAPES_MODELS, help="the model")
    parser.add_argument("--folder", type=Path, help="the folder to write to, models/NAME by default")
    parser.add_argument("--work", type=Path, help="the folder of unfinished work, build/NAME by default")
    parser.add_argument("--steps", type=int, help="training steps, the recipe's by default")
    parser.add_argument("--device", default="cpu", help="where to train, cpu by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args()
    model = SHAPES_MODELS[options.name]
    recipe = dataclasses.replace(model.recipe, steps=options.steps or model.recipe.steps)
    folder, work = options.folder or Path("models", options.name), options.work or Path("build", options.name)

    torch.set_num_threads(options.threads)
    torch.manual_seed(recipe.seed)
    size = model.configuration.input_size

    def loss_of(objective: Objective, generator: torch.Generator) -> torch.Tensor:
        labels = torch.randint(NUM_CLASSES, (recipe.batch_size,), generator=generator)
        return objective.loss(draw(labels, generator, size), labels, generator)

    average = train(
        model.build().to(options.device), recipe, loss_of, lambda average: measure_condition(average.system), work
    )
    metadata = {"family": model.system.family, "num_heads": str(model.configuration.num_heads)}
    ship(average.system, work, folder, metadata)


if __name__ == "__main__":
    main()
