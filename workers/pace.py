"""How fast a job advances, and about how long the rest of it takes."""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

LEAST_SECONDS = 1.0
"""A job is looked at for so long after its first advance before anything is said."""
WINDOW_SECONDS = 60.0
"""How far back to look: so long, or half of the time that the job has taken, so that the pauses between parts count."""
MOST_LOOKS = 240
"""How many looks at the progress are kept."""


class Pace:
    """The pace of one attempt of a job, from its first advance on.

    Neither the time of loading a model counts, nor what was found already done. Times are in seconds, of one clock.
    """

    def __init__(self) -> None:
        self._unit = ""
        self._total = 0
        self._last: int | None = None
        self._begun = 0.0
        self._looks: deque[tuple[float, int]] = deque()
        """Times at which the job had advanced, and how many units were done."""

    def note(self, done: int, total: int, unit: str, now: float) -> None:
        """Take the progress into account: how many units are done, of how many, and what is counted."""
        before, self._last, self._total = self._last, done, total
        if unit != self._unit or before is None or done < before:  # another part of the job
            self._unit = unit
            self._looks.clear()
        elif done > before:
            if not self._looks:
                self._begun = now
            self._looks.append((now, done))
            window = max(WINDOW_SECONDS, (now - self._begun) / 2)
            while len(self._looks) > 2 and self._looks[1][0] <= now - window:
                self._looks.popleft()
            if len(self._looks) > MOST_LOOKS:
                self._looks = deque([*list(self._looks)[:-1:2], self._looks[-1]])

    def left(self, now: float) -> float | None:
        """About the seconds until all units are done; None while that cannot be said, and once they are."""
        if len(self._looks) < 2 or now - self._begun < LEAST_SECONDS:
            return None
        (first, done_before), (last, done) = self._looks[0], self._looks[-1]
        if done >= self._total:
            return None
        each = (last - first) / (done - done_before)
        return max(0.0, (self._total - done) * each - (now - last))
