"""Every change of a job's state, as a Lua script that Redis runs as one step, so that no two processes interfere.

The scripts are the files of `lua/`; the first lines of each describe its arguments and its answer. `common.lua` is
prepended to each.

Keys, all with the prefix `tailprune:`:

    job:<id>            hash     the record
    job:<id>:events     stream   its events, capped
    key:<key>           string   the job of this key
    jobs                zset     ids, all with score 0, so in order of creation
    queued              zset     ids by the time they were last put on the broker's queue
    group:<digest>      zset     the queued ids that can share a batch (`jobs.batching`), in order of creation
    leases              zset     ids of running jobs by the time their lease expires
    finished            zset     ids by the time they finished
    telemetry           hash     counters (`jobs.store.telemetry`)
    artifacts-store     string   which store of artifacts belongs to this Redis (`jobs.startup`)
    idempotency:<key>   hash     the job of an Idempotency-Key; expires

Only the last expires. A job's `attempts` is its fencing token: every claim increments it, and a worker's writes carry
the value of its own claim. All times are those of the Redis server, so there is only one clock.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, get_args

import redis
from redis.commands.core import Script

__all__ = ["PREFIX", "ScriptName", "Scripts", "load_scripts", "record_key"]

PREFIX = "tailprune:"
EVENTS_KEPT = 500
COMMON = "common"

ScriptName = Literal[
    "submit", "claim", "companions", "renew", "release", "report", "publish", "finish", "cancel", "sweep", "requeue",
    "trim",
]  # fmt: skip
Scripts = dict[ScriptName, Script]


def load_scripts(client: redis.Redis) -> Scripts:
    """All scripts by name, each called with `args`. Raises RuntimeError if the files of `lua/` are others."""
    names: tuple[ScriptName, ...] = get_args(ScriptName)
    sources = {file.name.removesuffix(".lua"): file.read_text() for file in (files("jobs.store") / "lua").iterdir()}
    if sources.keys() != {COMMON, *names}:
        raise RuntimeError(f"the scripts of jobs/store/lua are {sorted(sources)}, not {sorted([COMMON, *names])}")
    head = f"local P = '{PREFIX}'\nlocal EVENTS_KEPT = {EVENTS_KEPT}\n{sources[COMMON]}\n"
    return {name: client.register_script(head + sources[name]) for name in names}


def record_key(job_id: str) -> str:
    """The key of a job's record."""
    return f"{PREFIX}job:{job_id}"
