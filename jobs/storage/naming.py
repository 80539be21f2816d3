"""Which files the records in Redis name: those of jobs, of shards and of compacted models."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import redis
from pydantic import ValidationError

from jobs.packing import unpacked
from jobs.storage.artifacts import Artifact
from jobs.store.connection import text
from jobs.store.scripts import PREFIX, record_key

__all__ = ["UNDER_WAY", "job_ids", "named_by", "records", "request_of"]

UNDER_WAY = ("queued", "running")
BATCH = 100
"""How many records are read at a time: earlier versions had the lists of artifacts in them, up to a megabyte each."""

Fields = Mapping[str, str | bytes]


def job_ids(client: redis.Redis) -> list[str]:
    """The ids of all jobs, in order of creation. Raises redis.RedisError."""
    return [text(cast(bytes, job_id)) for job_id in client.zrange(f"{PREFIX}jobs", 0, -1)]


def records(
    client: redis.Redis, names: Sequence[str], ids: Sequence[str] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Fields of the records of jobs, by id; without those that are missing, or whose record is not one.

    names: the fields. That of the status is text, those that may be compressed are bytes.
    ids: of these jobs; None, the default, for all.

    Raises redis.RedisError.
    """
    if ids is None:
        ids = job_ids(client)
    for at in range(0, len(ids), BATCH):
        batch = ids[at : at + BATCH]
        pipeline = client.pipeline(transaction=False)
        for job_id in batch:
            pipeline.hmget(record_key(job_id), names)
        for job_id, row in zip(batch, pipeline.execute(raise_on_error=False), strict=True):
            if isinstance(row, Exception):
                if not isinstance(row, redis.ResponseError):
                    raise row
                continue
            fields: dict[str, Any] = {name: value for name, value in zip(names, row, strict=True) if value is not None}
            if "status" in fields:
                fields["status"] = fields["status"].decode(errors="replace")
            yield job_id, fields


def request_of(fields: Fields) -> dict[str, Any]:
    """The request in a record, which is compressed where it is long; empty where it cannot be read."""
    try:
        request = json.loads(unpacked(fields.get("request")) or "")
    except (ValueError, zlib.error):
        return {}
    return request if isinstance(request, dict) else {}


def named_by(fields: Fields, read: Callable[[Artifact], bytes]) -> Iterator[Artifact]:
    """The files that the record of a job names: what it made, and the document that lists it.

    fields: `artifacts`, a list of files, in records of earlier versions; `outcome`, a document with that list, in
        others.
    read: reads the document; one that is missing, and what cannot be read, names nothing: the job is then made again.
    """
    with_list = [fields["artifacts"]] if "artifacts" in fields else []
    if "outcome" in fields:
        try:
            outcome = Artifact.model_validate_json(fields["outcome"])
        except ValidationError:
            return
        yield outcome
        try:
            with_list.append(json.dumps(json.loads(read(outcome))["artifacts"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return
    for document in with_list:
        try:
            files = json.loads(document)
            yield from map(Artifact.model_validate, files.values())
        except (ValueError, AttributeError):
            continue
