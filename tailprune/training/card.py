"""The card of a model of shapes: its samples, its condition vectors, and the effect of pruning.

The command writes `README.md`, `evaluation.json`, `training.png` and `samples.png` into the model's folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tailprune.checkpoints.load import load
from tailprune.condition_table import ConditionTable
from tailprune.decoders import pixels
from tailprune.prune_report import measure_removal
from tailprune.pruning import Prune
from tailprune.sampling import Guidance, sample, sampling_times
from tailprune.shapes.classifier import ShapesClassifier, load_classifier
from tailprune.shapes.dataset import CLASS_NAMES, COLOURS, NUM_CLASSES, SHAPES
from tailprune.statistics import Description, describe, summarise_cosine
from tailprune.systems import MG, System
from tailprune.training.objectives import NoisePrediction
from tailprune.training.shapes_models import CLASSIFIER, SHAPES_MODELS, ShapesModel

__all__ = ["card_thresholds", "evaluate", "introduction", "main"]

INTRODUCTIONS = {
    "dit": "A DiT (arXiv 2212.09748)",
    "sit": "A SiT (arXiv 2401.08740)",
    "mdt": "An MDT (arXiv 2303.14389)",
    "lightningdit": "A LightningDiT (arXiv 2501.01423)",
    "repa": "A SiT aligned as REPA does (arXiv 2410.06940)",
    "mg": "A SiT with its guidance trained in, as MG does (arXiv 2502.12154)",
}
"""The first words of a card, by family, with the paper that published it."""
LINE = 120
SAMPLES_PER_CLASS = 10
PRUNED_SAMPLES_PER_CLASS = 3
TAIL_SHARES = {"mild": 0.40, "strong": 0.66, "extreme": 0.80}
HEAD_SHARES = {"head-2": 0.02, "head-5": 0.05, "head-10": 0.10}
"""The share of the components of all classes and sampling steps that each threshold removes, approximately."""


def introduction(family: str) -> str:
    """The first words of the card of a model of this family."""
    return INTRODUCTIONS.get(family, f"A model of the family {family}")


def card_thresholds(c: Tensor) -> dict[str, tuple[str, float]]:
    """The (side, threshold) of each share above, to two digits, by name. c, with shape (..., d)."""
    magnitudes = np.sort(c.abs().flatten().double().numpy())
    chosen = {name: ("tail", share) for name, share in TAIL_SHARES.items()}
    chosen |= {name: ("head", 1 - share) for name, share in HEAD_SHARES.items()}
    return {
        name: (side, float(f"{np.quantile(magnitudes, quantile):.2g}")) for name, (side, quantile) in chosen.items()
    }


def _sample_all(
    system: System, model: ShapesModel, prunes: Sequence[Prune | None], guidance: float, each: int
) -> tuple[list[Tensor], Tensor]:
    """The latents of every prune, `each` samples per class, and their labels.

    system: the system to sample
    model: its sampler, steps and power of guidance
    prunes: the prunes, with a batch of latents for each; None for the baseline
    guidance: the guidance scale, 1 for none
    each: the number of samples per class, 1 or more
    """
    labels = torch.arange(NUM_CLASSES).repeat_interleave(each)
    parts: list[list[Tensor]] = []
    for start in range(0, len(labels), 50):
        rows = labels[start : start + 50]
        seeds = [(0, int(label) << 32 | k % each) for k, label in enumerate(rows, start)]
        found = sample(
            system,
            {"labels": rows},
            sampler=model.sampler,
            steps=model.steps,
            guidance=Guidance(scale=guidance, power=model.guidance_power),
            prune=list(prunes),
            seeds=seeds,
        )
        parts.append(list(found))
    return [torch.cat(tensors) for tensors in zip(*parts, strict=True)], labels


def _judge(classifier: ShapesClassifier, latents: Tensor, labels: Tensor) -> dict[str, float]:
    found = classifier.classify(latents.clamp(-1, 1))
    colours = len(COLOURS)
    return {
        "accuracy": (found == labels).double().mean().item(),
        "shape_accuracy": (found // colours == labels // colours).double().mean().item(),
        "colour_accuracy": (found % colours == labels % colours).double().mean().item(),
    }


@torch.inference_mode()
def evaluate(system: System, model: ShapesModel, classifier: ShapesClassifier) -> dict[str, Any]:
    """The numbers of a card: accuracy of samples, statistics of condition vectors, and the effect of each prune."""
    everyone = system.all_inputs()
    noise = torch.full((NUM_CLASSES,), float(system.facts.noise_time))
    description: Description = describe(system.condition(noise, everyone))
    times = sampling_times(system, model.sampler, model.steps)
    table = ConditionTable(system, everyone, times)
    over_the_run = table.vectors[:, : table.null_row]  # without the null condition
    thresholds = card_thresholds(over_the_run)
    prunes = {name: Prune(side, tau) for name, (side, tau) in thresholds.items()}  # type: ignore[arg-type]
    prunes |= {"keep-quarter": Prune.keep(system.condition_dim // 4)}
    judged = {}
    for how, guidance in {"guided": model.guidance, "unguided": 1.0}.items():
        if how == "unguided" or guidance != 1:
            (found,), labels = _sample_all(system, model, [None], guidance, SAMPLES_PER_CLASS)
            judged[how] = _judge(classifier, found, labels)
    latents, pruned_labels = _sample_all(
        system, model, [None, *prunes.values()], model.guidance, PRUNED_SAMPLES_PER_CLASS
    )
    variants = []
    for (name, prune), pruned in zip(prunes.items(), latents[1:], strict=True):
        removal = measure_removal(system, everyone, prune, times)
        variants.append(
            {
                "name": name,
                "side": prune.side,
                "threshold": prune.threshold,
                "keep": prune.kept,
                "removed_percent": 100 * removal.fraction,
                "npr_after": removal.after.npr,
                "cosine_after": removal.after.cosine,
                "drift": ((pruned - latents[0]).norm() / latents[0].norm()).item(),
            }
            | _judge(classifier, pruned, pruned_labels)
        )
    largest = description.magnitudes.mean(0).sort(descending=True).values
    return {
        "guidance": model.guidance,
        "sampler": model.sampler,
        "steps": model.steps,
        "samples": len(labels),
        "pruned_samples": len(pruned_labels),
        **judged,
        "condition": {
            "dim": description.dim,
            "pr": description.pr,
            "npr": description.npr,
            "cosine": description.cosine.mean,
            "cosine_min": description.cosine.min,
            "cosine_y": summarise_cosine(system.embed_inputs(everyone)).mean,
            "largest": largest[:8].tolist(),
            "median": largest[len(largest) // 2].item(),
        },
        "variants": variants,
    }


def _draw_curves(curve: Sequence[Mapping[str, float]], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [point["step"] for point in curve]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    panels = (
        ("loss", "loss", ["loss"]),
        ("cosine at pure noise, mean of pairs of classes", "cosine", ["cosine", "cosine_y"]),
        ("nPR of c at pure noise, mean of classes", "nPR = PR / d", ["npr"]),
    )
    names = {"cosine": "c = y + t", "cosine_y": "y alone"}
    for axis, (title, quantity, keys) in zip(axes, panels, strict=True):
        for key in keys:
            axis.plot(steps, [point[key] for point in curve], label=names.get(key))
        axis.set(xlabel="training steps", ylabel=quantity)
        axis.set_title(title, fontsize="medium")
        axis.grid(alpha=0.3)
        if quantity == "loss":
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, 1 if quantity == "cosine" else None)
        if len(keys) > 1:
            axis.legend(loc="center right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_samples(system: System, model: ShapesModel, path: Path) -> None:
    (latents,), _ = _sample_all(system, model, [None], model.guidance, each=1)
    rows = pixels(latents).view(len(SHAPES), len(COLOURS), *latents.shape[-2:], 3)
    sheet = np.concatenate(np.concatenate(rows.numpy(), axis=1), axis=1)
    image = Image.fromarray(sheet)
    image.resize((image.width * 4, image.height * 4), Image.Resampling.NEAREST).save(path)


def _write_card(name: str, folder: Path, system: System, training: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    model, recipe, curve = SHAPES_MODELS[name], training["recipe"], training["curve"]
    condition, last = found["condition"], curve[-1]
    parameters = sum(tensor.numel() for tensor in system.parameters())
    table = "\n".join(
        f"| {v['name']} | {_rule(v)} | {v['removed_percent']:.1f} % | {v['npr_after']:.3f} | {v['cosine_after']:.3f} "
        f"| {v['drift']:.3f} | {v['accuracy']:.1%} |"
        for v in found["variants"]
    )
    rows = {f"guidance {found['guidance']}": found.get("guided"), "unguided": found["unguided"]}
    judged = "\n".join(
        f"| {how} | {r['accuracy']:.1%} | {r['shape_accuracy']:.1%} | {r['colour_accuracy']:.1%} |"
        for how, r in rows.items()
        if r is not None
    )
    text = f"""# {name}

{introduction(system.family)} that samples 16 x 16 RGB pictures of *shapes*: {NUM_CLASSES} classes, ten shapes in ten
colours. It is small enough to sample on any machine.

![One sample a class, {_guidance(found)}](samples.png)

## Data

Drawn procedurally while training (`tailprune/shapes/dataset.py`), never the same picture twice: position, size,
rotation, brightness and background vary. No picture comes from elsewhere. Label = 10 x shape + colour; the names are in
`classes.txt`.

- shapes: {", ".join(SHAPES)}
- colours: {", ".join(COLOURS)}

## Network and recipe

Pixels, patch 4, width {condition["dim"]}, 4 blocks, 4 heads, {parameters / 1e6:.2f} million parameters. Time runs from
{system.facts.noise_time:g} (noise) to {system.facts.data_time:g} (data).

Trained on {model.trained_on}; a tenth of the labels dropped (`tailprune/training/objectives.py`).
{_of_training(system)}

`python -m tailprune.training.shapes_models {name}`: {recipe["steps"]:,} steps of {recipe["batch_size"]} pictures,
AdamW at {recipe["learning_rate"]:g} (betas {recipe["betas"][0]}, {recipe["betas"][1]}, weight decay
{recipe["weight_decay"]:g}), {recipe["warmup"]} steps of warm-up, then linear decay to {recipe["final_share"]:.0%},
gradients clipped at {recipe["clip"]:g}, weights averaged with decay {recipe["average"]}.
{_rates(recipe)}float32 on one core of a server CPU ({platform.machine()}),
{last["seconds"] / 60:.0f} minutes, other work beside it. How the weights start matters
for `c`: see `tailprune/training/initialise.py`.

![Loss, cosine and nPR over training](training.png)

The numbers behind the curves are in `training.json`.

## What came out

`python -m tailprune.training.card {name}`, {found["samples"]:,} samples, {found["sampler"]}, {found["steps"]} steps,
judged by `shapes-classifier`:

| | shape and colour right | shape | colour |
|---|---|---|---|
{judged}

Condition vectors at pure noise, over all classes: nPR {condition["npr"]:.3f} (PR {condition["pr"]:.1f} of
{condition["dim"]}), mean cosine of `c` {condition["cosine"]:.3f} (least {condition["cosine_min"]:.3f}), of `y` alone
{condition["cosine_y"]:.3f}. nPR is PR / d with PR(v) = (sum |v_i|)^2 / sum v_i^2, a fraction (see the
[glossary](../../docs/glossary.md)). The largest components are
{", ".join(f"{v:.1f}" for v in condition["largest"][:5])}; the median is {condition["median"]:.2g}.

Pruned at every step, {found["pruned_samples"]} samples a variant, {_guidance(found)}, from the baseline's noise:

| variant | rule | removed | nPR after | cosine after | drift | shape and colour right |
|---|---|---|---|---|---|---|
{table}

The thresholds are those that remove about 40, 66 and 80 % (tail) and 2, 5 and 10 % (head) of the components over all
classes and steps. Drift is |pruned - baseline| / |baseline| of the samples. The same numbers are in `evaluation.json`.

## Limits

A demonstration, not a model of natural images. At this width the head is a larger share of the vector than in the
published models (nPR 0.01 to 0.02 for most of them).

Licence: Apache-2.0, as the rest of the project.
"""
    (folder / "README.md").write_text(_wrapped(text))


def _guidance(found: Mapping[str, Any]) -> str:
    return f"guidance {found['guidance']}" if "guided" in found else "unguided"


def _rates(recipe: Mapping[str, Any]) -> str:
    """The learning rates of the embedders, where they have their own; records of earlier trainings have none."""
    shares = {what: recipe.get(f"{what}_rate", 1.0) for what in ("time", "label")}
    own = [f"that of the {what} embedder is {share:g} of it" for what, share in shares.items() if share != 1]
    return f"The learning rate is the same for all weights, but {' and '.join(own)}. " if own else ""


def _of_training(system: System) -> str:
    """How the training differs from the published one."""
    if system.facts.prediction == "epsilon":
        return (
            "An error of the noise counts as the error of the velocity that it makes, v_t = (1 + sqrt((1 - a_t) / "
            f"a_t))^2, up to {NoisePrediction.LARGEST_WEIGHT:g}; the published training counts all timesteps alike."
        )
    if isinstance(system, MG):
        return "It is sampled with guidance 1: one evaluation of the network a step, where guidance by hand takes two."
    return ""


def _wrapped(text: str) -> str:
    """Markdown with its paragraphs wrapped; headings, images, lists and tables are left alone."""
    parts = map(str.strip, text.split("\n\n"))
    filled = (
        part
        if part.startswith(("#", "!", "- ", "|"))
        else textwrap.fill(part, LINE, break_long_words=False, break_on_hyphens=False)
        for part in parts
    )
    return "\n\n".join(filled) + "\n"


def _rule(variant: Mapping[str, Any]) -> str:
    if variant["keep"] is not None:
        return f"keep {variant['keep']} by variance, mean fill"
    return f"{variant['side']}, {variant['threshold']:g}"


def main() -> None:
    """Evaluate a model of shapes with `shapes-classifier` and write its card."""
    parser = argparse.ArgumentParser(prog="python -m tailprune.training.card", description=main.__doc__)
    parser.add_argument("name", choices=SHAPES_MODELS, help="the model")
    parser.add_argument("--folder", type=Path, help="the folder of the model, models/NAME by default")
    options = parser.parse_args()
    folder, model = options.folder or Path("models", options.name), SHAPES_MODELS[options.name]
    system = load(folder)
    found = evaluate(system, model, load_classifier(CLASSIFIER))
    training = json.loads((folder / "training.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    _draw_curves(training["curve"], folder / "training.png")
    _draw_samples(system, model, folder / "samples.png")
    _write_card(options.name, folder, system, training, found)


if __name__ == "__main__":
    main()
