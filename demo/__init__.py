"""Runs the whole stack by `tailprune serve`; `python -m demo` shows what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "running"]

ROOT = Path(__file__).parents[1]
START_SECONDS = 300  # a first start, on a slow or busy machine


@contextmanager
def running(data_dir: Path, workers: int = 1, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `tailprune serve` on a free port within the context; its URL.

    data_dir: of the stack.
    workers: how many; 1 by default.
    settings: environment variables in addition to the process' own; none by default.
    """
    tailprune = Path(sys.executable).with_name("tailprune")
    command = [str(tailprune), "serve", "--port", "0", "--data-dir", str(data_dir), "--workers", str(workers)]
    environment = {**os.environ, **(settings or {})}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    timeout = threading.Timer(START_SECONDS, process.terminate)
    timeout.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        timeout.cancel()
        if " at http://" not in line:
            raise SystemExit("the stack did not come up; see above, or run `make serve` to see it start")
        yield line.split(" at ")[1].split()[0]
    finally:
        timeout.cancel()
        process.send_signal(signal.SIGINT)
        process.wait(START_SECONDS)
