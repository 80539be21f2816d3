"""The processes of a stack."""

from __future__ import annotations

import resource
from urllib.parse import urlsplit

import psutil

__all__ = ["cpu_seconds", "raise_descriptor_limit", "service_process"]


def service_process(url: str) -> psutil.Process:
    """The process of the service that listens at this URL, a descendant of this one."""
    port = urlsplit(url).port
    for process in psutil.Process().children(recursive=True):
        if any(at.laddr.port == port and at.status == psutil.CONN_LISTEN for at in process.net_connections("tcp")):
            return process
    raise LookupError(f"no process below this one listens at {url}")


def cpu_seconds(process: psutil.Process) -> float:
    """The CPU time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def raise_descriptor_limit() -> None:
    """Allow this process, which plays many clients, as many open files as it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
