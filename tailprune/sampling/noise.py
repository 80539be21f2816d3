"""Noise as a function of (seed, sample index, step) alone.

A Philox generator (counter-based: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) keyed by the
seed and the index is set to the step's counter, so a sample's noise does not depend on its batch, on the worker or on
the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tailprune.arguments import as_whole
from tailprune.spec import InputError

__all__ = ["INITIAL", "Seed", "as_seeds", "gaussian_noise"]

Seed = int | tuple[int, int]
"""A seed, or (seed, sample index), each from 0 to 2^64 - 1; an integer alone has index 0."""

GREATEST_SEED = 2**64 - 1

INITIAL = 0
"""The step number of the initial latents; sampling step i has the number i + 1."""


def as_seeds(seeds: Sequence[Seed]) -> list[tuple[int, int]]:
    """Each seed as (seed, sample index). Raises InputError for anything but a list of seeds in their range."""
    given = seeds.tolist() if isinstance(seeds, (np.ndarray, Tensor)) else seeds
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise InputError(f"seeds must be a list with one for each sample, such as range(8), not {seeds!r}")
    pairs = []
    for seed in given:
        pair = seed if isinstance(seed, (tuple, list)) and len(seed) == 2 else (seed, 0)
        key, index = (as_whole("a seed", part, least=0, most=GREATEST_SEED) for part in pair)
        pairs.append((key, index))
    return pairs


def gaussian_noise(seeds: Sequence[Seed], step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of B seeds at one step -> (B, *shape), float32, on the CPU.

    Raises InputError for a seed outside its range.
    """
    draws = []
    for key in as_seeds(seeds):
        generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64), counter=[0, 0, 0, step]))
        draws.append(generator.standard_normal(tuple(shape), dtype=np.float32))
    return torch.from_numpy(np.stack(draws))
