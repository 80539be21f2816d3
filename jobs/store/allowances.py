"""What the processes of the service together may answer to one client, counted in Redis."""

from __future__ import annotations

from typing import NamedTuple

import redis

from jobs.store.scripts import load_scripts

__all__ = ["Allowances", "Taken"]


class Taken(NamedTuple):
    """Permits that were taken."""

    granted: int
    rest: int
    """How many more the window has."""
    seconds: float
    """How long the window goes on."""


class Allowances:
    """Counts of permits and of requests under way, by client. Methods raise redis.RedisError if it does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._scripts = load_scripts(client)

    def take(self, subject: str, wanted: int, most: int, seconds: int) -> Taken:
        """Take permits of the window that is open, or open one.

        subject: the client.
        wanted: how many permits; fewer are granted where fewer are left.
        most: how many permits a window has.
        seconds: the length of a window.
        """
        granted, rest, milliseconds = self._scripts["take"](args=[subject, wanted, most, seconds])
        return Taken(granted, rest, milliseconds / 1000)

    def hold(self, subject: str, process: str, wanted: int, most: int, seconds: int) -> int:
        """Hold so many slots in place of those that a process held before; how many it now holds.

        subject: the client.
        process: who holds them.
        wanted: how many slots in all; fewer are held where others hold the rest.
        most: how many slots there are for all processes.
        seconds: for how long they are held unless this is called again.
        """
        return int(self._scripts["hold"](args=[subject, process, wanted, most, seconds]))
