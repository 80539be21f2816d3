"""Checks that several kinds of requests share."""

from __future__ import annotations

from pathlib import Path

from jobs.registry.models import Registry
from jobs.requests.checks import keep_fault, schedule_faults, single_fault
from jobs.storage.condition_info import ConditionInfo
from tailprune.spec.prune import Schedule
from tests.registry import write_registry


def test_no_more_components_are_kept_than_there_are(tmp_path: Path) -> None:
    entry = Registry.read(write_registry(tmp_path / "models")).get("shapes-sit")
    assert keep_fault(128, entry) is None
    assert keep_fault(129, entry) == "keep 129 is more than the 128 components of shapes-sit"


def test_a_sampler_that_chooses_its_steps_prunes_at_every_one() -> None:
    ((field, why),) = schedule_faults(Schedule(when="first"), "dopri5", 50)
    assert (field, "use 'every'" in why) == ("when", True)
    assert schedule_faults(Schedule(when="every"), "dopri5", 50) == []


def test_no_more_steps_are_pruned_than_there_are() -> None:
    last = Schedule(when="last", count=50)
    assert schedule_faults(last, "euler", 50) == []
    assert schedule_faults(last, "euler", 49) == [("count", "count 50 is more than the 49 steps")]


def test_one_condition_has_no_mean_and_no_variance() -> None:
    one = ConditionInfo(id="0" * 64, count=1, inputs={"video": [32, 512]}, family="mdsgen", bytes=1)
    assert "upload a file with several" in (single_fault("fill", one) or "")
    assert single_fault("fill", one.model_copy(update={"count": 2})) is None
    assert single_fault("fill", None) is None
