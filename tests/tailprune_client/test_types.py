"""What type checkers make of both clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_house import ROOT

CHECKED = """
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import assert_type

from jobs.records import JobSummary
from jobs.results import MetricsResult, PruneSampleResult
from tailprune_client import Artifact, AsyncArtifact, AsyncClient, AsyncJob, Client, Event, Job


def at_once(client: Client) -> None:
    job = client.prune_sample("tiny", threshold=0.1)
    assert_type(job, Job[PruneSampleResult])
    assert_type(job.wait(), Job[PruneSampleResult])
    assert_type(job.result, PruneSampleResult | None)
    assert_type(job.events(), Iterator[Event])
    assert_type(job.artifacts["grid.png"], Artifact)
    assert_type(job.artifacts["grid.png"].save(), Path)
    assert_type(client.metrics("tiny"), MetricsResult)
    assert_type(client.jobs(), Iterator[JobSummary])


async def awaited(client: AsyncClient) -> None:
    job = await client.prune_sample("tiny", threshold=0.1)
    assert_type(job, AsyncJob[PruneSampleResult])
    assert_type(await job.wait(), AsyncJob[PruneSampleResult])
    assert_type(job.result, PruneSampleResult | None)
    assert_type(job.events(), AsyncIterator[Event])
    assert_type(job.artifacts["grid.png"], AsyncArtifact)
    assert_type(await job.artifacts["grid.png"].save(), Path)
    assert_type(await client.metrics("tiny"), MetricsResult)
    assert_type(client.jobs(), AsyncIterator[JobSummary])
"""


@pytest.mark.slow
def test_a_type_checker_knows_what_the_methods_of_both_clients_return(tmp_path: Path) -> None:
    from mypy import api

    (tmp_path / "using.py").write_text(CHECKED)
    said, errors, status = api.run(
        [
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
            str(tmp_path / "using.py"),
        ]
    )
    assert (errors, status) == ("", 0), said
