"""What requests were answered while things were away, and the end of a script."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
import numpy as np

__all__ = ["Answers", "distribution", "end"]

PROBE_SECONDS = 0.5
MOST_SHOWN = 12
"""How many of the things that are wrong are named."""


class Answers:
    """Asks, and remembers what was answered and how long that took, by what was asked."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = {}

    def ask(self, http: httpx.Client, what: str, method: str, path: str, **given: Any) -> httpx.Response | None:
        """Send a request; None where there is no answer. what: its name in the table."""
        begun, answer = time.monotonic(), None
        try:
            answer = http.request(method, path, **given)
            said = str(answer.status_code)
        except httpx.TransportError as error:
            said = type(error).__name__
        self.seconds.setdefault((what, said), []).append(time.monotonic() - begun)
        return answer

    @contextmanager
    def probing(self, url: str, paths: Sequence[str], patience: float = 60.0) -> Iterator[None]:
        """Ask for each path twice a second within the context, each from a thread and a connection of its own.

        patience: the seconds after which there is no answer.
        """
        over = threading.Event()

        def probe(path: str) -> None:
            with httpx.Client(base_url=url, timeout=patience, trust_env=False) as http:
                while not over.wait(PROBE_SECONDS):
                    self.ask(http, f"GET {path}", "GET", path)

        threads = [threading.Thread(target=probe, args=[path]) for path in paths]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def counts(self, what: str) -> Counter[str]:
        """How often a request was answered what."""
        return Counter({said: len(taken) for (asked, said), taken in self.seconds.items() if asked == what})

    def longest(self, what: str) -> float:
        """The longest that a request took, in seconds; 0 where it was not sent."""
        return max((max(taken) for (asked, _), taken in self.seconds.items() if asked == what), default=0.0)

    @property
    def broken(self) -> list[str]:
        """A sentence for each request that was answered 500, which says that there is a bug."""
        times = {what: len(taken) for (what, said), taken in self.seconds.items() if said == "500"}
        return [f"{what} was answered 500, {count} times" for what, count in times.items()]

    @property
    def table(self) -> str:
        """All of them, in Markdown."""
        rows = [
            f"| {what} | {said} | {len(taken)} | {np.median(taken):.2f} s | {max(taken):.2f} s |"
            for (what, said), taken in sorted(self.seconds.items())
        ]
        return "\n".join(["| request | answer | times | median | longest |", "|---|---|---|---|---|", *rows])


def distribution(values: Sequence[float], unit: str = "s") -> str:
    """Least, quartiles and most of some values, in a line."""
    if not len(values):
        return "none"
    points = np.percentile(values, [0, 25, 50, 75, 100])
    return f"{len(values)}: " + ", ".join(f"{point:.1f}" for point in points) + f" {unit} (least, quartiles, most)"


def end(title: str, facts: Mapping[str, object], wrong: Sequence[str], answers: Answers | None = None) -> NoReturn:
    """Print the table of a script, and end the process: with status 1 if something is wrong.

    title: what was done.
    facts: what was found, by name.
    wrong: what was lost or wrong, a sentence each.
    answers: what requests were answered; None if that is not part of it.
    """
    lines = [
        f"## {title}\n",
        "| what | found |",
        "|---|---|",
        *(f"| {name} | {found} |" for name, found in facts.items()),
    ]
    if answers is not None and answers.seconds:
        lines += ["", answers.table]
    lines += ["", *(f"- **wrong**: {each}" for each in wrong[:MOST_SHOWN])]
    if not wrong:
        lines.append("Nothing lost, nothing wrong.")
    elif len(wrong) > MOST_SHOWN:
        lines.append(f"- and {len(wrong) - MOST_SHOWN} more")
    print("\n".join(lines))
    sys.exit(1 if wrong else 0)
