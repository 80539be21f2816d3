"""Edits of condition vectors: each vector moved by the same amount, so that a class becomes more like another.

    c' = c + strength * shift

The shift has no time in it: c = t + y, and the difference of two classes is the same at every time. The null condition
is not moved, so that guidance leads away from the same place as without the edit. `tailprune.shift_between` computes
the shift from one class towards another; any other vector may be one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from tailprune.arguments import as_number, as_tensor, of_kind
from tailprune.pruning import Prune
from tailprune.spec import InputError
from tailprune.spec.edit import MOST_STRENGTH
from tailprune.spec.prune import EVERY, PruneSpec, Schedule

__all__ = ["AnyEdit", "Edit", "Shift"]


class Shift:
    """What an edit of strength 1 adds to a condition vector.

    vector: with shape (d,); a list or an array, too

    Raises InputError for another shape, or numbers that are not finite.
    """

    def __init__(self, vector: Tensor) -> None:
        tensor = as_tensor("a shift", vector)
        if tensor.ndim != 1 or not tensor.isfinite().all():
            raise InputError(f"a shift must be finite numbers with shape (d,), not {tuple(tensor.shape)}")
        self.vector = tensor.detach().float()

    def __repr__(self) -> str:
        return f"Shift({len(self.vector)} components, norm {self.vector.norm():.4g})"


@dataclass(frozen=True)
class Edit:
    """An edit of condition vectors: `Edit(shift, 0.5)`.

    shift: what is added
    strength: times how much, 1 by default, from -16 to 16; 0 leaves the vectors as they are
    schedule: the sampling steps at which vectors are edited, all by default

    Raises InputError for any other value.
    """

    shift: Shift
    strength: float = 1.0
    schedule: Schedule = EVERY
    blocks: ClassVar[None] = None
    """All blocks see it."""

    def __post_init__(self) -> None:
        of_kind(Shift, "shift", self.shift, "a Shift, such as shift_between returns")
        of_kind(Schedule, "schedule", self.schedule, "a Schedule, such as Schedule('last', 10)")
        if abs(as_number("strength", self.strength)) > MOST_STRENGTH:
            raise InputError(f"strength {self.strength:g} is outside -{MOST_STRENGTH:g} to {MOST_STRENGTH:g}")

    @cached_property
    def _steps(self) -> Prune:
        """A prune of the same steps."""
        return Prune.from_spec(PruneSpec(threshold=0.0, schedule=self.schedule).resolved())

    @property
    def every_step(self) -> bool:
        """Whether it is the same edit at every step."""
        return self.schedule == EVERY

    def check_steps(self, steps: int) -> None:
        """Raises InputError if the schedule does not fit a run of `steps` steps."""
        self._steps.check_steps(steps)

    def active(self, step: int, steps: int) -> bool:
        """Whether sampling step `step` of `steps`, counted from 0, is edited."""
        return self._steps.active(step, steps)

    def at(self, step: int, steps: int) -> Edit | None:
        """The edit at sampling step `step` of `steps`, counted from 0, or None where it is not active."""
        return replace(self, schedule=EVERY) if self.active(step, steps) else None

    def check_width(self, components: int) -> None:
        """Raises InputError unless vectors of so many components can be moved."""
        if len(self.shift.vector) != components:
            raise InputError(
                f"a shift of {len(self.shift.vector)} components does not fit vectors of {components}: make it from "
                "the same system"
            )

    def __call__(self, c: Tensor) -> Tensor:
        """The edited vectors. c, with shape (..., d) -> the same shape."""
        return c + self.strength * self.shift.vector.to(c.device)


AnyEdit = Prune | Edit
"""Whatever changes condition vectors before the blocks read them."""
