"""When a lease has expired: by the looks of one process, and not by a clock."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import redis

from jobs.store.expiry import ExpiryWatch

LEASE = 10.0


class Machine:
    """A monotonic clock, and a Redis that has the leases of two jobs and takes some seconds to answer."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.answer_seconds = 0.0
        self.refuses = False
        self.leases = {"kept": 1.0, "lost": 1.0}
        patch.setattr("time.monotonic", lambda: self.now)
        self.watch = ExpiryWatch(LEASE)

    def read(self) -> Mapping[str, float]:
        self.now += self.answer_seconds
        if self.refuses:
            raise redis.ResponseError("MISCONF")
        return dict(self.leases)

    def look(self, *, after: float = 2.0, renewed: bool = True) -> list[str]:
        self.now += after
        if renewed:
            self.leases["kept"] += 1
        return list(self.watch.expired(self.read))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(monkeypatch)
    machine.look()
    return machine


def test_a_lease_has_expired_that_is_unchanged_for_its_length(machine: Machine) -> None:
    found = [machine.look() for _ in range(6)]
    assert found == [[], [], [], [], ["lost"], ["lost"]]


def test_a_new_claim_of_the_same_job_is_another_lease(machine: Machine) -> None:
    for _ in range(4):
        machine.look()
    machine.leases["lost"] = 0.5  # earlier than before, as after the clock was set back
    assert [machine.look() for _ in range(5)] == [[], [], [], [], []]
    assert machine.look() == ["lost"]


def test_what_was_expired_is_told_with_the_renewal_that_was_seen(machine: Machine) -> None:
    for _ in range(4):
        machine.look()
    machine.now += 2
    assert machine.watch.expired(machine.read)["lost"] == 1.0


def test_while_writes_are_refused_no_lease_expires_nor_right_afterwards(machine: Machine) -> None:
    for _ in range(4):
        machine.look(renewed=False)
    machine.refuses = True
    for _ in range(20):
        with pytest.raises(redis.ResponseError):
            machine.look(renewed=False)
    machine.refuses = False
    assert [machine.look(renewed=False) for _ in range(5)] == [[]] * 5


def test_while_redis_hangs_no_lease_expires_nor_right_afterwards(machine: Machine) -> None:
    for _ in range(4):
        machine.look(renewed=False)
    machine.answer_seconds = 20.0
    assert machine.look(renewed=False) == []
    machine.answer_seconds = 0.0
    assert [machine.look(renewed=False) for _ in range(4)] == [[]] * 4


def test_time_in_which_nobody_looked_counts_for_half_a_lease_at_most(machine: Machine) -> None:
    machine.look(after=3600, renewed=False)
    assert machine.look(renewed=False) == []
    machine.look(renewed=False)
    assert set(machine.look(renewed=False)) == {"kept", "lost"}
