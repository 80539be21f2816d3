"""Keeps child processes running: starts them, restarts those that die, and stops them in order.

Each child leads a process group of its own, so that Ctrl-C in the terminal reaches the supervisor alone,
and on Linux it receives SIGTERM if the supervisor dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

__all__ = ["ChildFailed", "Death", "Program", "Supervisor"]

QUICK_DEATH_SECONDS = 10.0
"""A child that dies sooner than this after its start has failed again, and the next start waits longer."""
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
LOG_BYTES = 10 * 2**20
"""A log larger than this is moved to `.log.1`, the one before to `.log.2`, and so on."""
LOGS_KEPT = 5
"""How many files of this size each program has at most."""


@dataclass(frozen=True)
class Program:
    """A command to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to the environment of the supervisor."""
    keep_open: tuple[int, ...] = ()
    """File descriptors that the program inherits."""
    sent: bytes = field(default=b"", repr=False)
    """What it reads from its standard input, of a few kilobytes at most."""


class Death(NamedTuple):
    """A program that died, and how."""

    name: str
    how: str
    """Its exit status, or the signal that ended it, in words."""


class ChildFailed(RuntimeError):
    """A program died too often, or says that it cannot start."""


class Supervisor:
    """Keeps programs running. Call `tend` a few times a second, from the main thread.

    Output of a program goes to `<log_folder>/<name>.log`, or to the terminal if `log_folder` is None. Where that file
    grows large it is moved away, and the program is relied on to open it anew: TAILPRUNE_LOG_FILE tells it the path.
    """

    def __init__(self, log_folder: Path | None) -> None:
        self.log_folder = log_folder
        self._children: dict[str, _Child] = {}
        if log_folder is not None:
            log_folder.mkdir(parents=True, exist_ok=True)

    def start(self, program: Program) -> None:
        """Start a program; from here on `tend` restarts it when it dies."""
        child = _Child(program, self.log_path(program.name))
        child.start()
        self._children[program.name] = child

    def process_id(self, name: str) -> int | None:
        """The id of a program's process, unless it is dead."""
        return self._children[name].process_id

    def tend(self, deaths_allowed: int | None = None) -> list[Death]:
        """Restart programs that died, after a delay that grows while they keep dying; return the newly dead.

        deaths_allowed: while programs come up, how often each may die, however long it lived; None, the default, when
            all are up, and then they may die as often as they do.

        Raises ChildFailed for a child that died more often, or with the exit status EX_CONFIG, which says that starting
        it again does not help.
        """
        died = []
        for child in self._children.values():
            code = child.newly_dead(coming_up=deaths_allowed is not None)
            if code is not None:
                death = Death(child.program.name, _how(code))
                died.append(death)
                if deaths_allowed is not None and code == os.EX_CONFIG:
                    raise ChildFailed(f"{death.name} cannot start{child.last_words(lines=1)}")
                if deaths_allowed is not None and child.failures > deaths_allowed:
                    raise ChildFailed(f"{death.name} does not stay up ({death.how}){child.last_words()}")
            child.rotate_log()
            child.start_when_due()
        return died

    def stop(self, names: Iterable[str], grace_seconds: float, hurry: Callable[[], bool] = bool) -> list[str]:
        """Send SIGTERM to programs, kill those that outlive the grace, and return the names of the killed.

        The grace ends early when `hurry` turns true.
        """
        children = [self._children.pop(name) for name in names if name in self._children]
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + grace_seconds
        while any(child.is_alive() for child in children) and time.monotonic() < deadline and not hurry():
            time.sleep(0.05)
        killed = [child.program.name for child in children if child.is_alive()]
        for child in children:
            child.kill()
        return killed

    def log_path(self, name: str) -> Path | None:
        """The file of a program's output."""
        return None if self.log_folder is None else self.log_folder / f"{name}.log"


class _Child:
    """A program, its process and the history of its deaths."""

    def __init__(self, program: Program, log_path: Path | None) -> None:
        self.program = program
        self.log_path = log_path
        self.failures = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0

    def start(self) -> None:
        log = self._open_log()
        where = {} if self.log_path is None else {"TAILPRUNE_LOG_FILE": str(self.log_path.absolute())}
        try:
            self._process = subprocess.Popen(
                self.program.command,
                env={**os.environ, **where, **self.program.environment},
                stdin=subprocess.PIPE if self.program.sent else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log is not None else None,
                pass_fds=self.program.keep_open,
                process_group=0,
                preexec_fn=_stop_with_parent if _prctl is not None else None,
            )
        finally:
            if log is not None:
                log.close()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError), self._process.stdin:  # it may have died already
                self._process.stdin.write(self.program.sent)
        self._started = time.monotonic()

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    def newly_dead(self, *, coming_up: bool) -> int | None:
        """The exit status of a process that died since the last call, if it did; schedules the next start.

        coming_up: whether a long life does not make up for earlier deaths.
        """
        if self._process is None or (code := self._process.poll()) is None:
            return None
        now = time.monotonic()
        lived_long = not coming_up and now - self._started >= QUICK_DEATH_SECONDS
        self.failures = 1 if lived_long else self.failures + 1
        self._due = now + min(FIRST_DELAY_SECONDS * 2 ** (self.failures - 1), LONGEST_DELAY_SECONDS)
        self._process = None
        return code

    def start_when_due(self) -> None:
        if self._process is None and time.monotonic() >= self._due:
            self.start()

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()

    def rotate_log(self) -> None:
        """Move the log away if it is large, and the older ones on; the oldest is lost."""
        with suppress(OSError):  # it is not there yet, or the folder cannot be written
            if self.log_path is None or self.log_path.stat().st_size <= LOG_BYTES:
                return
            older = [self.log_path.with_name(f"{self.log_path.name}.{number}") for number in range(1, LOGS_KEPT)]
            files = [self.log_path, *older]
            for file, moved in reversed([*zip(files, older, strict=False)]):
                if file.exists():
                    file.replace(moved)

    def last_words(self, lines: int = 15) -> str:
        if self.log_path is None:
            return "; see above"
        if not self.log_path.exists():  # it was moved away a moment ago
            return ""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - 8192))
            tail = log.read().decode(errors="replace").splitlines()
        if lines == 1 and tail:
            return f": {tail[-1].removeprefix('tailprune: ')}"
        return "\n".join(["; its last words:", *tail[-lines:]]).rstrip()

    def _open_log(self) -> IO[bytes] | None:
        if self.log_path is None:
            return None
        self.rotate_log()
        return self.log_path.open("ab")


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _stop_with_parent() -> None:
    """Runs in the child, between fork and exec: the kernel sends SIGTERM when the parent dies."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
