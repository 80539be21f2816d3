"""The whole pipeline on one page: load, condition, prune, sample, decode, compare.

python -m tailprune.pipeline models/shapes-sit --images compared.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from tailprune.arguments import as_device
from tailprune.checkpoints.load import load
from tailprune.decoders import load_decoder
from tailprune.prune_report import Removal, measure_removal
from tailprune.pruning import Prune
from tailprune.sampling import Guidance, sample, sampling_times
from tailprune.spec.display import Shown

__all__ = ["Comparison", "prune_and_compare"]


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """B samples with and without a prune, from the same noise."""

    condition: Tensor
    """The unpruned condition vectors at pure noise, with shape (B, d)."""
    removal: Removal
    """What the prune removes from the condition vectors, step by step."""
    baseline: Tensor
    """The unpruned latents, with shape (B, C, H, W)."""
    pruned: Tensor
    """The pruned latents, with the same shape."""
    baseline_images: Tensor
    """The decoded unpruned latents, with shape (B, H', W', 3), uint8."""
    pruned_images: Tensor
    """The decoded pruned latents, with the same shape."""
    drift: float
    """|pruned - baseline| / |baseline| over all latents; 0 for a prune that changes nothing."""


def prune_and_compare(
    source: str | PathLike[str],
    labels: Sequence[int],
    prune: Prune,
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    seed: int = 0,
    decoder: str = "pixels",
    decoder_source: str | PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Comparison:
    """Sample B labels with and without a prune, and measure what the prune removes and what it changes.

    source: a checkpoint of a system with classes, in any form that `tailprune.load` takes
    labels: B class labels, each from 0 to the number of classes - 1
    prune: the edit of the condition vectors, and on which steps
    sampler, steps, guidance: as in `tailprune.sample`; the system's default sampler, 50 and 1 by default
    seed: the seed of the noise, from 0 to 2^64 - 1, 0 by default; sample n has the seed (seed, n)
    decoder, decoder_source: as in `tailprune.decoders.load_decoder`; by default latents are pixels
    device: where the network runs, the CPU by default
    progress: whether a progress bar is drawn while sampling, false by default

    Raises FileNotFoundError for a missing file, and InputError for any other argument that does not fit.
    """
    # Load
    device = as_device(device)
    decode = load_decoder(decoder, decoder_source, device=device)
    system = load(source, device=device)

    # Condition: c = time part + label part, the only input of the blocks besides x
    inputs = system.check_inputs({"labels": labels})  # (B,)
    c = system.condition(system.facts.noise_time, inputs)  # (B, d)

    # Prune: an edit of c, at each time at which the network is evaluated
    times = sampling_times(system, sampler, steps)  # (steps, stages)
    removal = measure_removal(system, inputs, prune, times)

    # Sample: without the prune and with it, from the same noise
    baseline, pruned = sample(
        system,
        inputs,
        prune=[None, prune],
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        seeds=[(seed, n) for n in range(len(labels))],
        progress=progress,
    )  # (B, C, H, W) each

    # Decode
    baseline_images, pruned_images = decode(baseline).images, decode(pruned).images  # (B, H', W', 3) each

    # Compare
    drift = ((pruned - baseline).norm() / baseline.norm()).item()
    return Comparison(c, removal, baseline, pruned, baseline_images, pruned_images, drift)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what a tail prune of ten classes removes and changes; write the images if a path is given."""
    parser = argparse.ArgumentParser(prog="python -m tailprune.pipeline", description=main.__doc__)
    parser.add_argument("source", nargs="?", default="models/shapes-sit", help="a checkpoint whose latents are pixels")
    parser.add_argument("--threshold", type=float, default=0.038, help="components smaller than this are removed")
    parser.add_argument("--steps", type=int, default=50, help="sampling steps")
    parser.add_argument("--guidance", type=float, default=2.5, help="guidance scale, 1 for none")
    parser.add_argument("--images", type=Path, help="a PNG to write, the baseline above the pruned samples")
    options = parser.parse_args(arguments)

    prune = Prune("tail", options.threshold)
    comparison = prune_and_compare(options.source, range(10), prune, steps=options.steps, guidance=options.guidance)
    removal, d = comparison.removal, comparison.condition.shape[1]
    print(f"components removed: {removal.mean:.1f} of {d} ({removal.fraction:.0%})")
    print(f"nPR: {removal.before.npr:.3f}, then {removal.after.npr:.3f}")
    print(f"cosine: {removal.before.cosine:.3f}, then {removal.after.cosine:.3f}")
    print(f"drift: {comparison.drift:.3f}")
    if options.images is not None:
        from PIL import Image

        rows = [torch.cat(list(images), dim=1) for images in (comparison.baseline_images, comparison.pruned_images)]
        Image.fromarray(torch.cat(rows).numpy()).save(options.images)  # (2 H', B W', 3)


if __name__ == "__main__":
    main()
