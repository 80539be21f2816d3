"""Every change of a job's state, as Lua that Redis runs whole: two processes can never both win.

The scripts are the files of `lua/`, each with its arguments and its answer on top, and `common.lua` in front.

Keys, all below `tailprune:`:

    job:<id>            hash     the record
    job:<id>:events     stream   its events, capped
    key:<key>           string   the job that answers requests of this key
    jobs                zset     ids, all with score 0, so in order of making
    queued              zset     ids by the time they were last put on the broker's queue
    group:<digest>      zset     of those, the ids that can share a batch (`jobs.batching`), in order of making
    leases              zset     ids of running jobs by the time their lease lapses
    finished            zset     ids by the time they finished
    telemetry           hash     counters (`jobs.store.telemetry`)
    idempotency:<key>   hash     the job of an Idempotency-Key; expires

None but the last expires. A job's `attempts` is its fencing token: every claim raises it, and a worker's
writes name the one it was given. All times are the Redis server's, so there is one clock.
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
    """All scripts by name, each called with `args`. Raises RuntimeError where the files of `lua/` are not these."""
    names: tuple[ScriptName, ...] = get_args(ScriptName)
    sources = {file.name.removesuffix(".lua"): file.read_text() for file in (files("jobs.store") / "lua").iterdir()}
    if sources.keys() != {COMMON, *names}:
        raise RuntimeError(f"the scripts of jobs/store/lua are {sorted(sources)}, not {sorted([COMMON, *names])}")
    head = f"local P = '{PREFIX}'\nlocal EVENTS_KEPT = {EVENTS_KEPT}\n{sources[COMMON]}\n"
    return {name: client.register_script(head + sources[name]) for name in names}


def record_key(job_id: str) -> str:
    """The key of a job's record."""
    return f"{PREFIX}job:{job_id}"
