"""When a lease has expired, without any clock but the monotonic one of the process that looks.

Every renewal of a lease changes what Redis has of it. A lease has expired if a process that looks every few seconds has
seen no change for as long as a lease lasts, and Redis was such in that time that its worker could have renewed it: it
answered, and took writes. Wall clocks may be set by an hour at any time, in the server of Redis as elsewhere, and a
server that hangs, restarts or has a full disk is not the fault of a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["ExpiryWatch"]

HANGS_SECONDS = 1.0
"""A server that takes longer to answer hung, and workers may have waited as well."""


class ExpiryWatch:
    """The leases of running jobs as a process saw them last, and for how long each is unchanged.

    seconds: how long a lease lasts without a renewal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[float, float]] = {}
        self._looked = time.monotonic()

    def expired(self, read: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The leases that have expired, each with the time until which it was last renewed.

        read: reads all leases. Where it raises an error or takes long, all are judged anew from now on.
        """
        asked = time.monotonic()
        seen, self._seen = self._seen, {}
        leases = read()
        moment = time.monotonic()
        if moment - asked > HANGS_SECONDS:
            seen = {}
        # Between two looks that are far apart this process was stopped, or its machine, and so perhaps the workers.
        passed = min(moment - self._looked, self._seconds / 2)
        self._looked = moment
        for job_id, until in leases.items():
            before, unchanged = seen.get(job_id, (None, 0.0))
            self._seen[job_id] = until, unchanged + passed if before == until else 0.0
        return {job_id: until for job_id, (until, unchanged) in self._seen.items() if unchanged >= self._seconds}
