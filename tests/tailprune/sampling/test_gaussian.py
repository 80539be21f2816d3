"""DPM-Solver++ (arXiv 2211.01095) on data that are N(MEAN, SPREAD^2), where everything is known."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import tailprune
from tailprune import Prune
from tailprune.systems import DiT
from tests.tailprune.conftest import random_system
from tests.tailprune.sampling.formulas import INPUTS, ROUNDING, Z, formula
from tests.tailprune.systems.naive import relative_error

MEAN, SPREAD = 0.7, 0.4


def log_alpha(moment: float) -> float:
    """log alpha at a time in (0, 1], between the trained steps n / 1000 on straight lines."""
    logs = [0.0]  # of the products, n = 0, 1, ...
    for n in range(1000):
        logs.append(logs[-1] + math.log(1 - (1e-4 + (0.02 - 1e-4) * n / 999)))
    place = moment * 1000
    below = min(999, max(1, math.floor(place)))
    return 0.5 * (logs[below] + (place - below) * (logs[below + 1] - logs[below]))


def alpha_sigma(moment: float) -> tuple[float, float]:
    alpha = math.exp(log_alpha(moment))
    return alpha, math.sqrt(1 - alpha**2)


def exact_noise(x: Tensor, moment: float) -> Tensor:
    """E[noise | x] at that time."""
    alpha, sigma = alpha_sigma(moment)
    return sigma * (x - alpha * MEAN) / ((alpha * SPREAD) ** 2 + sigma**2)


def exact_end(x: Tensor) -> Tensor:
    """Where the probability flow takes x from time 1 to 1/1000: it keeps its place in the Gaussian."""
    (a, s), (b, r) = alpha_sigma(1.0), alpha_sigma(1 / 1000)
    return b * MEAN + (x - a * MEAN) * math.sqrt(((b * SPREAD) ** 2 + r**2) / ((a * SPREAD) ** 2 + s**2))


def dpm_solver(x: Tensor, steps: int, last_order: int) -> Tensor:
    """Algorithm 2 of arXiv 2211.01095, in its own words."""
    moments = [1 - i / steps * (1 - 1 / 1000) for i in range(steps + 1)]
    alphas, sigmas = zip(*map(alpha_sigma, moments), strict=True)
    lambdas = [math.log(a / s) for a, s in zip(alphas, sigmas, strict=True)]

    def data(x: Tensor, i: int) -> Tensor:
        return (x - sigmas[i] * exact_noise(x, moments[i])) / alphas[i]

    buffer = [data(x, 0)]
    for i in range(1, steps + 1):
        h = lambdas[i] - lambdas[i - 1]
        d = buffer[i - 1]
        if i > 1 and not (i == steps and last_order == 1):
            r = (lambdas[i - 1] - lambdas[i - 2]) / h
            d = (1 + 1 / (2 * r)) * buffer[i - 1] - 1 / (2 * r) * buffer[i - 2]
        x = sigmas[i] / sigmas[i - 1] * x - alphas[i] * (math.exp(-h) - 1) * d
        buffer.append(data(x, i))
    return x


def gaussian_data(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    noise = exact_noise(x.double(), (t.flatten()[0].item() + 1) / 1000)
    return torch.cat([noise, torch.zeros_like(noise)], dim=1).float()  # and a variance that nobody asks for


@pytest.mark.parametrize(("steps", "last_order"), [(2, 1), (6, 1), (9, 1), (10, 2), (25, 2)])
def test_dpm_solver_is_algorithm_2_and_its_last_step_of_order_1_under_10_steps(steps: int, last_order: int) -> None:
    made = tailprune.sample(formula(DiT, gaussian_data), INPUTS, sampler="dpmpp", steps=steps, noise=Z)
    assert relative_error(made, dpm_solver(Z.double(), steps, last_order)) < ROUNDING
    assert relative_error(made, dpm_solver(Z.double(), steps, 3 - last_order)) > 1e-3


def test_dpm_solver_is_of_second_order() -> None:
    system = formula(DiT, gaussian_data)
    errors = []
    for steps in (125, 250, 500):
        made = tailprune.sample(system, INPUTS, sampler="dpmpp", steps=steps, noise=Z)
        errors.append((made - exact_end(Z.double())).norm().item())
    assert all(3 < before / after < 6 for before, after in pairwise(errors)), errors


def test_dpm_solver_evaluates_once_a_step_at_the_times_of_the_trained_network() -> None:
    system = formula(DiT, gaussian_data)
    tailprune.sample(system, INPUTS, sampler="dpmpp", steps=6, noise=Z)
    assert system.calls.times == pytest.approx([999, 832.5, 666, 499.5, 333, 166.5])


@pytest.mark.parametrize("steps", [6, 12])
def test_the_memory_of_dpm_solver_forks_with_its_trajectory(steps: int) -> None:
    dit = random_system(DiT)
    prunes = [None, Prune("tail", 0.3, "last", 2), Prune("head", 0.5, "first", 3), Prune("head", 0.4, "last", 4)]
    options: dict[str, Any] = {"sampler": "dpmpp", "steps": steps, "guidance": 2.0, "seeds": [0, 1]}
    together = tailprune.sample(dit, INPUTS, prune=prunes, **options)
    for prune, made in zip(prunes, together, strict=True):
        assert relative_error(made, tailprune.sample(dit, INPUTS, prune=prune, **options)) < 1e-6
