"""Every change of a job's state, as a Lua script that Redis runs as one step, so that no two processes interfere.

The scripts are the files of `lua/`; the first lines of each describe its arguments and its answer. `common.lua` is
prepended to each.

Keys, all with the prefix `tailprune:`:

    job:<id>            hash     the record
    job:<id>:events     stream   its events, capped
    job:<id>:webhooks   hash     its webhooks, by owner (or nothing), a space and the URL: the number of each, and the
                                 events that it wants
    webhook:<call>      hash     a call of a webhook; its id is <id>-<number>-<event>
    webhooks            zset     the calls that are pending, by when each is next due
    key:<key>           string   the job of this key
    jobs                zset     ids, all with score 0, so in order of creation
    jobs:<facet>:<x>    zset     those of them whose status, kind or model is x
    queued:<queue>      zset     ids by the time they were last put on this queue of the broker
    order:<queue>       zset     the same ids in the order in which they wait
    order               string   how many jobs were ever given a place in one
    owned:<owner>       set      the queued ids of an owner
    group:<digest>      zset     the queued ids that can share a batch (`jobs.batching`), in order of creation
    leases              zset     ids of running jobs by the time their lease expires
    finished            zset     ids in order of finishing; those of statistics in finished:statistics
    layout              string   which of these keys there are: 2, since there are jobs:<facet>:<x>
    telemetry           hash     counters (`jobs.store.telemetry`)
    artifacts-store     string   which store of artifacts belongs to this Redis (`jobs.startup`)
    uploaders:<id>      set      the keys with which conditions were uploaded
    idempotency:<key>   hash     the job of an Idempotency-Key, after the owner that sent it; expires
    rate:<client>       string   how many permits of the minute are taken (`jobs.store.allowances`); expires
    slots:<client>      hash     the requests under way, by process of the service; expires

Only the last three expire. Each event is also published in the channel `tailprune:events`, as JSON, for those who
follow: one of a status with what lists show of the job, and that a job was deleted, which no stream has.
A record has who asked for the job in `askers`, as JSON, and in `owner` the one whose share of the queues it counts
against.
A job's `attempts` is its fencing token: every claim increments it, and a worker's writes carry the value of its own
claim. All times are those of the Redis server, and its clock may be set at any time: that a lease expired is therefore
not read off the clock (`jobs.store.expiry`).
"""

from __future__ import annotations

import contextlib
import json
from importlib.resources import files
from typing import Any, Literal, get_args

import redis
from redis.commands.core import Script

from jobs.queue_names import HISTORIES, QUEUES, History

__all__ = ["HEAD_FIELDS", "PREFIX", "Reindex", "ScriptName", "Scripts", "history_key", "load_scripts", "record_key"]

PREFIX = "tailprune:"
EVENTS_KEPT = 500
EVENTS_LEFT = 20
COMMON = "common"
HEAD_FIELDS = (
    "id", "kind", "model", "title", "status", "created", "started", "finished", "progress", "problem", "thresholds",
)  # fmt: skip
"""The fields of a record that lists show."""

ScriptName = Literal[
    "submit", "claim", "companions", "renew", "release", "report", "publish", "finish", "cancel", "leases", "sweep",
    "requeue", "trim", "purge", "page", "places", "reindex", "subscribe", "deliveries", "deliver", "settle",
    "take", "hold",
]  # fmt: skip
Scripts = dict[ScriptName, Script]


def load_scripts(client: redis.Redis) -> Scripts:
    """All scripts by name, each called with `args`. Raises RuntimeError if the files of `lua/` are others."""
    names: tuple[ScriptName, ...] = get_args(ScriptName)
    sources = {file.name.removesuffix(".lua"): file.read_text() for file in (files("jobs.store") / "lua").iterdir()}
    if sources.keys() != {COMMON, *names}:
        raise RuntimeError(f"the scripts of jobs/store/lua are {sorted(sources)}, not {sorted([COMMON, *names])}")
    constants = {
        "P": PREFIX,
        "QUEUES": QUEUES,
        "HISTORIES": [PREFIX + history_key(history) for history in HISTORIES],
        "EVENTS_KEPT": EVENTS_KEPT,
        "EVENTS_LEFT": EVENTS_LEFT,
        "HEAD_FIELDS": HEAD_FIELDS,
    }
    head = "".join(f"local {name} = {_lua(value)}\n" for name, value in constants.items()) + sources[COMMON] + "\n"
    return {name: client.register_script(head + sources[name]) for name in names}


class Reindex:
    """Takes over the records of an earlier version, once in the life of a process; called before they are listed."""

    def __init__(self, scripts: Scripts) -> None:
        self._script = scripts["reindex"]
        self._is_done = False

    def __call__(self) -> None:
        """Take them over, unless this was done. While Redis takes no writes, lists do without."""
        if not self._is_done:
            with contextlib.suppress(redis.RedisError):
                self._script()
                self._is_done = True


def record_key(job_id: str) -> str:
    """The key of a job's record."""
    return f"{PREFIX}job:{job_id}"


def history_key(history: History) -> str:
    """The key of the finished jobs of a history, without its prefix."""
    return "finished" if history == "jobs" else f"finished:{history}"


def _lua(value: Any) -> str:
    """A text, a number or a list of them as Lua."""
    return "{" + ", ".join(map(_lua, value)) + "}" if isinstance(value, list | tuple) else json.dumps(value)
