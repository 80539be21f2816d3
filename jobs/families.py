"""What a request may ask of a model, by its architecture family."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True)
class Family:
    """The samplers and the time of one family."""

    samplers: tuple[str, ...]
    first_time: float
    """The time at which sampling starts."""
    last_time: float
    whole_times: bool
    """Whether times are whole numbers."""

    def check_time(self, t: float) -> str | None:
        """What is wrong with the time `t`, or None."""
        low, high = sorted((self.first_time, self.last_time))
        if not low <= t <= high:
            return f"time {t:g} is outside {low:g} to {high:g}, the range of this model"
        if self.whole_times and t != int(t):
            return f"time {t:g} is not a whole number; this model knows times {low:g} to {high:g}"
        return None


FAMILIES: dict[str, Family] = {
    "dit": Family(samplers=("ddim", "ddpm"), first_time=999, last_time=0, whole_times=True),
    "sit": Family(samplers=("euler", "heun", "dopri5", "sde"), first_time=0.0, last_time=1.0, whole_times=False),
}
