"""Answers kept in memory: how many, and which go."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.registry.models import Registry
from service.response_cache import OVERHEAD_BYTES, CachedResponse, ResponseCache
from tests.registry import write_registry

BODY = bytes(1000)
ROOM_OF_ONE = len(b"a") + len(BODY) + OVERHEAD_BYTES


@pytest.fixture
def answer(tmp_path: Path) -> CachedResponse:
    entry = Registry.read(write_registry(tmp_path / "models")).get("shapes-sit")
    return CachedResponse(BODY, "id", "key", {}, entry)


def kept(answers: ResponseCache, questions: str) -> str:
    return "".join(question for question in questions if answers.get(question.encode()) is not None)


def test_an_answer_is_that_of_its_question(answer: CachedResponse) -> None:
    answers = ResponseCache()
    answers.keep(b"a", answer)
    assert answers.get(b"a") is answer
    assert answers.get(b"b") is None


def test_the_answers_asked_for_least_lately_go_first(answer: CachedResponse) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    answers.keep(b"a", answer)
    answers.keep(b"b", answer)
    answers.get(b"a")
    answers.keep(b"c", answer)
    assert kept(answers, "abc") == "ac"


def test_a_long_question_counts_too(answer: CachedResponse) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    answers.keep(b"a", answer)
    answers.keep(b"q" * ROOM_OF_ONE, answer)
    assert kept(answers, "a") == ""


def test_an_answer_larger_than_all_room_is_not_kept(answer: CachedResponse) -> None:
    answers = ResponseCache(ROOM_OF_ONE - 1)
    answers.keep(b"a", answer)
    assert kept(answers, "a") == ""


def test_the_room_of_what_is_dropped_or_kept_anew_is_free_again(answer: CachedResponse) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    for _ in range(3):
        answers.keep(b"a", answer)
    answers.keep(b"b", answer)
    assert kept(answers, "ab") == "ab"
    answers.drop(b"a")
    answers.keep(b"c", answer)
    assert kept(answers, "abc") == "bc"
