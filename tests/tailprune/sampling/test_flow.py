"""Samplers of the linear path beside the same methods written out, on networks that are formulas."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tailprune
from tailprune import Guidance
from tailprune.systems import MG, REPA, LightningDiT, SiT, System
from tests.tailprune.sampling.formulas import (
    COLUMN,
    INPUTS,
    LABELS,
    NULL,
    ROUNDING,
    Law,
    Z,
    backwards,
    formula,
    normal,
    velocity,
)
from tests.tailprune.systems.naive import relative_error

# REPA and MG: steps in float64


@pytest.mark.parametrize("base", [REPA, MG])
def test_steps_are_added_up_in_float64_around_a_network_in_float32(base: type[System]) -> None:
    steps, start = 2000, 1000 * Z

    def small(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(x, 1 / 3)

    wide, narrow = start.double(), start.clone()
    for _ in range(steps):
        wide = wide - 1 / steps * torch.full_like(start, 1 / 3).double()
        narrow = narrow - 1 / steps * torch.full_like(start, 1 / 3)
    made = tailprune.sample(formula(base, small), INPUTS, sampler="euler", steps=steps, noise=start)
    assert made.dtype == torch.float32
    assert torch.equal(made, wide.float())
    assert relative_error(made, narrow) > 1e-6
    in_float32 = tailprune.sample(
        formula(SiT, lambda x, t, y: -small(x, t, y)), INPUTS, sampler="euler", steps=steps, noise=start
    )
    assert relative_error(in_float32, narrow) < 1e-7


def heun(law: Law, begin: float, end: float, steps: int, corrects_last: bool) -> Tensor:
    x, h = Z.double(), (end - begin) / steps
    for i in range(steps):
        t = torch.tensor(begin + i * h, dtype=torch.float64)
        slope = law(x, t, COLUMN)
        if i < steps - 1 or corrects_last:
            slope = (slope + law(x + h * slope, t + h, COLUMN)) / 2
        x = x + h * slope
    return x


@pytest.mark.parametrize(
    ("base", "law", "begin", "corrects_last"),
    [(SiT, velocity, 0.0, True), (REPA, backwards, 1.0, False), (MG, backwards, 1.0, False)],
)
def test_the_last_step_of_heun_is_eulers_for_repa_and_mg_alone(
    base: type[System], law: Law, begin: float, corrects_last: bool
) -> None:
    made = tailprune.sample(formula(base, law), INPUTS, sampler="heun", steps=5, noise=Z)
    assert relative_error(made, heun(law, begin, 1 - begin, 5, corrects_last)) < ROUNDING
    assert relative_error(made, heun(law, begin, 1 - begin, 5, not corrects_last)) > 1e-2


@pytest.mark.parametrize("base", [REPA, MG])
def test_sde_of_repa_and_mg_runs_from_1_to_004_and_takes_the_mean_to_0(base: type[System]) -> None:
    steps, drawn = 6, normal(5, *Z.shape, seed=2)
    edges = [*np.linspace(1, 0.04, steps), 0.0]
    x = Z.double()
    for i in range(steps):
        t, h = edges[i], edges[i] - edges[i + 1]
        v = backwards(x, torch.tensor(t), COLUMN)
        score = -(x + (1 - t) * v) / t  # the noise in x is x + (1 - t) v
        x = x - h * (v - t * score)  # diffusion 2t, half of it before the score
        if i < steps - 1:
            x = x + math.sqrt(2 * t * h) * drawn[i].double()
    system = formula(base, backwards)
    made = tailprune.sample(system, INPUTS, sampler="sde", steps=steps, noise=Z, step_noise=drawn)
    assert relative_error(made, x) < ROUNDING
    assert system.calls.times == pytest.approx(edges[:-1])


@pytest.mark.parametrize("base", [REPA, MG])
def test_the_interval_of_guidance_is_asked_at_the_beginning_of_a_step_for_both_stages(base: type[System]) -> None:
    system = formula(base, backwards)
    guidance = Guidance(3.0, interval=(0.3, 0.6))
    made = tailprune.sample(system, INPUTS, sampler="heun", steps=4, guidance=guidance, noise=Z)
    # From 1, 0.75 (whose second stage is inside), 0.5 (whose second is outside) and 0.25, a step of Euler's.
    assert system.calls.rows == [2, 2, 2, 2, 4, 4, 2]

    def slope_at(x: Tensor, t: float, guided: bool) -> Tensor:
        at = torch.tensor(t, dtype=torch.float64)
        yes, no = backwards(x, at, COLUMN), backwards(x, at, torch.full_like(COLUMN, NULL))
        return no + 3 * (yes - no) if guided else yes

    x = Z.double()
    for t in (1.0, 0.75, 0.5):
        slope = slope_at(x, t, t == 0.5)
        x = x - 0.25 * (slope + slope_at(x - 0.25 * slope, t - 0.25, t == 0.5)) / 2
    assert relative_error(made, x - 0.25 * slope_at(x, 0.25, False)) < ROUNDING


# LightningDiT: its grid, and where and what it guides


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_shift_moves_every_point_of_the_grid(shift: float) -> None:
    system, steps = formula(LightningDiT, velocity), 7
    expected = [shift * u / (1 + (shift - 1) * u) for u in (i / steps for i in range(steps + 1))]
    assert tailprune.sampling_times(system, "euler", steps, shift)[:, 0].tolist() == pytest.approx(expected[:-1])
    x = Z.double()
    for t, end in pairwise(expected):
        x = x + (end - t) * velocity(x, torch.tensor(t, dtype=torch.float64), COLUMN)
    made = tailprune.sample(system, INPUTS, sampler="euler", steps=steps, shift=shift, noise=Z)
    assert relative_error(made, x) < ROUNDING
    assert system.calls.times == pytest.approx(expected[:-1])


def test_lightningdit_guides_three_channels_from_its_start_on() -> None:
    steps, shift, start, channels = 10, 0.3, 0.11, 8
    z = normal(len(LABELS), channels, 2, 2)
    edges = [shift * u / (1 + (shift - 1) * u) for u in (i / steps for i in range(steps + 1))]
    x = z.double()
    for t, end in pairwise(edges):
        at = torch.tensor(t, dtype=torch.float64)
        out, null = velocity(x, at, COLUMN), velocity(x, at, torch.full_like(COLUMN, NULL))
        if t >= start:
            out[:, :3] = null[:, :3] + 6.7 * (out[:, :3] - null[:, :3])
        x = x + (end - t) * out
    system = formula(LightningDiT, velocity, channels)
    assert system.facts.guided_channels == 3
    guidance = Guidance(6.7, channels=3, interval=(start, 1.0))
    made = tailprune.sample(system, INPUTS, sampler="euler", steps=steps, shift=shift, guidance=guidance, noise=z)
    assert relative_error(made, x) < ROUNDING
    assert system.calls.rows == [4 if t >= start else 2 for t in edges[:-1]]
    assert 0 < system.calls.rows.count(2) < steps


# One field, told in either time


def until(moment: float) -> Law:
    """`velocity`, and rest from that time on: so that nothing depends on how the last step is taken."""
    return lambda x, t, y: torch.where(t < moment, velocity(x, t, y), torch.zeros_like(x))


@pytest.mark.parametrize("base", [REPA, MG])
@pytest.mark.parametrize("sampler", ["euler", "heun", "sde", "dopri5"])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_same_field_in_either_time_gives_the_same_samples(
    base: type[System], sampler: str, guidance: float
) -> None:
    steps = 6
    law = until((steps - 1) / steps - 0.01) if sampler == "heun" else velocity
    options: dict[str, Any] = {"sampler": sampler, "steps": steps, "noise": Z}
    bounds: list[tuple[float, float] | None] = [(0.28, 0.9), (0.1, 0.72)]
    if sampler == "sde":
        options["step_noise"] = normal(steps, *Z.shape, seed=2)
    if sampler == "dopri5":  # whose steps part where the guidance jumps
        options |= {"atol": 1e-7, "rtol": 1e-6}
        bounds = [None, None]
    systems = (formula(SiT, law), formula(base, lambda x, t, y: -law(x, 1 - t, y)))
    made, same = (
        tailprune.sample(system, INPUTS, guidance=Guidance(guidance, interval=interval, power=2.0), **options)
        for system, interval in zip(systems, bounds, strict=True)
    )
    assert relative_error(same, made) < ROUNDING
    if sampler == "euler":
        assert systems[0].calls.rows == systems[1].calls.rows == ([2, 2, 4, 4, 4, 4] if guidance > 1 else [2] * 6)
