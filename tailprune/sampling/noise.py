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

__all__ = ["INITIAL", "Seed", "gaussian_noise"]

Seed = int | tuple[int, int]
"""A seed, or (seed, sample index), each from 0 to 2^64 - 1; an integer alone has index 0."""

INITIAL = 0
"""The step number of the initial latents; sampling step i has the number i + 1."""


def gaussian_noise(seeds: Sequence[Seed], step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of B seeds at one step -> (B, *shape), float32, on the CPU."""
    draws = []
    for seed in seeds:
        key = seed if isinstance(seed, tuple) else (seed, 0)
        generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64), counter=[0, 0, 0, step]))
        draws.append(generator.standard_normal(tuple(shape), dtype=np.float32))
    return torch.from_numpy(np.stack(draws))
