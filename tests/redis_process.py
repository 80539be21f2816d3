"""A Redis server of a test's own, which it may stop and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import redis

from jobs.store.connection import server_command

START_SECONDS = 60.0
MEMORY_BYTES = 512 * 2**20


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisProcess:
    """A server with its data in a folder; started again it has them still.

    folder: an existing folder.
    environment: variables besides those of the tests; none by default.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start, with options besides the usual ones, and return when it answers."""
        log = (self.folder / "log").open("ab")
        command = [*server_command(self.port, self.folder, MEMORY_BYTES), *options]
        self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise RuntimeError(f"no server: {(self.folder / 'log').read_text()}") from None
                    time.sleep(0.02)

    def empty(self) -> None:
        """Forget everything, so that the next stack begins anew."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def pause(self) -> None:
        """Hang: connections are made, and nothing is answered until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop, as at a shutdown of the machine."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End without a word, as at a loss of power."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(by)
            self.resume()
            self._process.wait(10)
            self._process = None
