"""The training loop of all recipes: schedule, averaged weights, and resuming a stopped run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["Recipe", "ship", "train"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    final_share: float = 0.05
    """The last learning rate as a share of the first; it falls linearly."""
    time_rate: float = 1.0
    """The learning rate of the time embedder, as a share of that of the other weights."""
    label_rate: float = 1.0
    """That of the label embedder."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    """The decay of the exponential average of the weights, which the model is shipped with."""
    seed: int = 0
    measure_every: int = 500

    def rate(self, step: int) -> float:
        """The learning rate at a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 1 - (1 - self.final_share) * step / self.steps
        return self.learning_rate * rise * fall


def train(
    model: Model,
    recipe: Recipe,
    loss_of: Callable[[Model, torch.Generator], Tensor],
    measure: Callable[[Model], dict[str, float]],
    folder: Path,
) -> Model:
    """Train `model` in place and return its averaged copy.

    model: the model to train, on its device
    recipe: steps, learning rate, averaging and seed
    loss_of: `loss_of(model, generator)` draws a batch from the generator and returns the loss, a scalar
    measure: `measure(average)` returns the numbers of a point of the curve, by name
    folder: the folder of state and curve (`state.pt`, `training.json`), from which a stopped training is resumed
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average), use_buffers=True
    )
    optimizer = torch.optim.AdamW(
        _groups(model, recipe),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    curve: list[dict[str, float]] = []
    first, spent = 0, 0.0
    state_file = folder / "state.pt"
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        curve, first, spent = state["curve"], state["step"], state["seconds"]

    began, running = time.monotonic(), 0.0
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * recipe.rate(step)
        loss = loss_of(model, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        average.update_parameters(model)
        running += loss.item()
        if (step + 1) % recipe.measure_every == 0 or step + 1 == recipe.steps:
            since = (step + 1) % recipe.measure_every or recipe.measure_every
            seconds = spent + time.monotonic() - began
            point = {"step": step + 1, "seconds": round(seconds, 1), "loss": running / since}
            curve.append(point | measure(cast(Model, average.module)))
            running = 0.0
            print(json.dumps(curve[-1]), flush=True)
            _write(folder, recipe, curve)
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "curve": curve,
                "step": step + 1,
                "seconds": seconds,
            }
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
    return cast(Model, average.module)


def ship(model: nn.Module, work: Path, folder: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `model.safetensors`, and the curve of its training, `training.json`, into a folder.

    model: the model that `train` returned
    work: the `folder` of `train`
    folder: the folder to write to; it is created if it does not exist
    metadata: metadata of the safetensors file, such as the family; None for none
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.safetensors"
    save_file({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}, file, metadata)
    file.chmod(0o644)  # safetensors writes a file only its owner can read, and a worker runs as another user
    (folder / "training.json").write_bytes((work / "training.json").read_bytes())


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters by their learning rate, as a share of the recipe's."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = recipe.time_rate if "t_embedder" in name else recipe.label_rate if "y_embedder" in name else 1.0
        groups.setdefault(share, []).append(parameter)
    return [{"params": parameters, "share": share} for share, parameters in groups.items()]


def _write(folder: Path, recipe: Recipe, curve: list[dict[str, float]]) -> None:
    text = json.dumps({"recipe": asdict(recipe), "curve": curve}, indent=1)
    (folder / "training.json").write_text(text + "\n")
