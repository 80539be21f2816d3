"""The methods that sample a system, by name. Each is made as `solver(steps, system, **its options)`."""

from __future__ import annotations

from typing import Any

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


def build_solver(name: str, steps: int, system: type[System], **options: str | float | None) -> Solver | Dopri5:
    """The solver of that name, for systems of a family.

    name: a key of `SOLVERS`
    steps: how many; dopri5 chooses its own
    system: the class of the systems
    options: those of the solver; None stands for its default

    Raises InputError for fewer than 2 steps, or an option that the solver does not have.
    """
    solver = SOLVERS[name]
    if steps < solver.fewest_steps:
        raise InputError(f"sampling takes at least {solver.fewest_steps} steps, not {steps}")
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in solver.options:
            owners = " and ".join(owner for owner, each in SOLVERS.items() if option in each.options)
            raise InputError(f"the option {option} belongs to the sampler {owners}, not to {name}")
    return solver(steps, system, **given)
