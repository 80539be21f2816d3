"""The worker image's health check: fails unless Redis has a recent heartbeat of this container's worker."""

from __future__ import annotations

import socket
import sys

from jobs.settings import get_settings
from jobs.store.connection import connect
from jobs.store.heartbeats import WorkerRegistry

host = socket.gethostname()
settings = get_settings()
client = connect(settings)
registries = [WorkerRegistry(client, settings.sweep_seconds, kind) for kind in ("workers", "callers")]
names = [worker.name for registry in registries for worker in registry.alive()]
if not any(name.endswith(f"@{host}") for name in names):  # Celery calls a worker <name>@<host>
    sys.exit(f"no heartbeat of a worker on {host}; workers with one: {', '.join(names) or 'none'}")
