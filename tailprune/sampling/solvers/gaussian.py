"""Samplers of Gaussian diffusion, respaced from the 1,000 steps of training.

    q(x_t | x_0) = N(sqrt(a_t) x_0, (1 - a_t) I),   a_t = prod (1 - beta_s),   beta linear from 1e-4 to 0.02
    x_0' = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t)

DDIM and DDPM respace: they keep evenly spaced timesteps and take the betas from the products that remain
(arXiv 2102.09672, sec. 4). DPM-Solver++ (arXiv 2211.01095) uses continuous time: 1 is noise, 1/1000 the first of
the trained steps, and log a is interpolated linearly between the trained steps.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tailprune.sampling.solvers.base import Network, Noise, Solver, State
from tailprune.spec import InputError
from tailprune.systems.base import System

__all__ = ["DDIM", "DDPM", "TRAINED_STEPS", "DPMSolverPP", "respaced_timesteps"]

TRAINED_STEPS = 1000


def trained_products() -> Tensor:
    """a_t of the trained steps -> (1000,), float64."""
    betas = torch.linspace(1e-4, 0.02, TRAINED_STEPS, dtype=torch.float64)
    return (1 - betas).cumprod(0)


def respaced_timesteps(steps: int) -> list[int]:
    """`steps` evenly spaced timesteps from 0 to 999, both included, rounded, in ascending order.

    Raises InputError for fewer than 2 or more than 1,000 steps.
    """
    if not 2 <= steps <= TRAINED_STEPS:
        raise InputError(f"this sampler takes 2 to {TRAINED_STEPS} steps, not {steps}")
    kept, at = [], 0.0
    for _ in range(steps):
        kept.append(round(at))
        at += (TRAINED_STEPS - 1) / (steps - 1)  # a running sum, as published: rounds values near a half alike
    return kept


class _Respaced(Solver):
    """The quantities of a respaced schedule, in the order of sampling, from noise to data."""

    dtype = torch.float32

    def __init__(self, steps: int, system: type[System]) -> None:
        kept = respaced_timesteps(steps)
        product = trained_products()[kept]
        before = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
        self.product = product.flip(0)  # a_t
        self.product_before = before.flip(0)  # a_{t-1}, 1 at the last step
        self.beta = 1 - self.product / self.product_before
        self.times = torch.tensor(kept[::-1], dtype=torch.float32).unsqueeze(1)  # (steps, 1)
        self.progress = 1 - self.times.double() / TRAINED_STEPS

    def clean(self, i: int, x: Tensor, epsilon: Tensor) -> Tensor:
        """x_0' from x_t and the predicted noise at step i."""
        a = self.product[i].item()
        return (x - (1 - a) ** 0.5 * epsilon) / a**0.5


class DDIM(_Respaced):
    """x_(t-1) = sqrt(a_(t-1)) x_0' + sqrt(1 - a_(t-1)) eps: deterministic (eta 0), arXiv 2010.02502, eq. 12."""

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        (x,) = state
        epsilon = network(x, i, 0)[..., : x.shape[-3], :, :]
        before = self.product_before[i].item()
        return (before**0.5 * self.clean(i, x, epsilon) + (1 - before) ** 0.5 * epsilon,)


class DDPM(_Respaced):
    """x_(t-1) = mean(x_0', x_t) + exp(log_variance / 2) noise: arXiv 2006.11239, eq. 7, and arXiv 2102.09672, eq. 15.

    The variance is learned: the last C channels of the network, v, interpolate its logarithm between that of the
    posterior's variance (-1) and that of beta (1).
    """

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        (x,) = state
        channels = x.shape[-3]
        out = network(x, i, 0)
        if out.shape[-3] != 2 * channels:
            raise InputError(
                f"ddpm needs a learned variance, {2 * channels} output channels, not {out.shape[-3]}: use ddim"
            )
        epsilon, v = out.split(channels, dim=-3)
        a, before, beta = self.product[i].item(), self.product_before[i].item(), self.beta[i].item()
        mean = before**0.5 * beta / (1 - a) * self.clean(i, x, epsilon) + (1 - before) * (1 - beta) ** 0.5 / (1 - a) * x
        if i == len(self.times) - 1:
            return (mean,)
        share = (v + 1) / 2
        log_variance = share * self.beta[i].log().item() + (1 - share) * self._posterior_variance(i).log().item()
        return (mean + (0.5 * log_variance).exp() * noise(i),)

    def _posterior_variance(self, i: int) -> Tensor:
        return self.beta[i] * (1 - self.product_before[i]) / (1 - self.product[i])


class DPMSolverPP(Solver):
    """DPM-Solver++, multistep, order 2, uniform in time: arXiv 2211.01095, algorithm 2.

    With l = log(alpha / sigma) and h = l_t - l_s, from s to t:

        x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D,    D = x_0'(s) + (x_0'(s) - x_0'(r)) h / (2 (l_s - l_r))

    with r the step before s. The first step is of order 1, D = x_0'(s), and so is the last of fewer than 10 steps.
    """

    dtype = torch.float32
    FEW_STEPS: ClassVar[int] = 10

    def __init__(self, steps: int, system: type[System]) -> None:
        moments = np.linspace(1.0, 1 / TRAINED_STEPS, steps + 1)
        trained = np.arange(1, TRAINED_STEPS + 1) / TRAINED_STEPS
        log_alpha = np.interp(moments, trained, 0.5 * trained_products().log().numpy())
        self._alpha = np.exp(log_alpha)
        self._sigma = np.sqrt(1 - self._alpha**2)
        self._ratio = log_alpha - np.log(self._sigma)  # l
        times = (moments[:-1] - 1 / TRAINED_STEPS) * TRAINED_STEPS
        self.times = torch.tensor(times, dtype=torch.float32).unsqueeze(1)  # (steps, 1)
        self.progress = 1 - self.times.double() / TRAINED_STEPS

    def begin(self, x: Tensor) -> State:
        return x, torch.zeros_like(x)

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        x, clean_before = state
        epsilon = network(x, i, 0)[..., : x.shape[-3], :, :]
        clean = (x - self._sigma[i] * epsilon) / self._alpha[i]
        h = self._ratio[i + 1] - self._ratio[i]
        steps = len(self.times)
        if i == 0 or (i == steps - 1 and steps < self.FEW_STEPS):
            direction = clean
        else:
            direction = clean + h / (2 * (self._ratio[i] - self._ratio[i - 1])) * (clean - clean_before)
        x = self._sigma[i + 1] / self._sigma[i] * x - self._alpha[i + 1] * math.expm1(-h) * direction
        return x, clean
