"""The samplers, by name. Each is built as `solver(steps, system, **its options)`.

base        `Solver`: the times of the evaluations, and one step
gaussian    DDIM, DDPM and DPM-Solver++, for systems that predict noise
flow        Euler, Heun and an SDE, for systems that predict a velocity
dopri5      an adaptive method for velocities, which chooses its own steps
"""

from __future__ import annotations

from typing import Any

from tailprune.arguments import as_number, as_whole
from tailprune.sampling.solvers.base import Solver
from tailprune.sampling.solvers.dopri5 import Dopri5
from tailprune.sampling.solvers.flow import SDE, Euler, Heun
from tailprune.sampling.solvers.gaussian import DDIM, DDPM, DPMSolverPP
from tailprune.spec import InputError
from tailprune.systems.base import System

__all__ = ["SOLVERS", "build_solver"]

SOLVERS: dict[str, type[Solver] | type[Dopri5]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "dpmpp": DPMSolverPP,
    "euler": Euler,
    "heun": Heun,
    "sde": SDE,
    "dopri5": Dopri5,
}

FEWEST_STEPS = 2
WORDS = ("diffusion", "last_step")
"""The options that are words; the others are numbers above 0."""


def build_solver(name: str, steps: int, system: type[System], **options: str | float | None) -> Solver | Dopri5:
    """The solver of a name, for the systems of a family.

    name: a key of `SOLVERS`
    steps: the number of steps, 2 or more; ignored by dopri5
    system: the class of the systems
    options: the options of the solver; None for its default

    Raises InputError for fewer than 2 steps, or an option that the solver does not have.
    """
    solver = SOLVERS[name]
    if solver is not Dopri5:
        steps = as_whole("the number of steps", steps, least=FEWEST_STEPS)
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in solver.options:
            owners = " and ".join(owner for owner, each in SOLVERS.items() if option in each.options)
            raise InputError(f"the sampler {name} has no option {option}, which is for {owners}: leave it out")
        if option not in WORDS:
            as_number(option, value, above=0)
    return solver(steps, system, **given)
