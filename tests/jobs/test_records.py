"""Ids of jobs."""

from __future__ import annotations

import re
import time

from jobs.records import ID_PATTERN, new_id


def test_ids_sort_by_the_time_of_their_making() -> None:
    ids = []
    for _ in range(20):
        ids.append(new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)


def test_ids_differ_and_match_their_pattern() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(ID_PATTERN, i) for i in ids)
