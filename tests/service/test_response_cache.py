"""Answers kept in memory: how many, and which go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.registry.models import Registry
from service.response_cache import OVERHEAD_BYTES, CachedResponse, ResponseCache
from tests.registry import write_registry

BODY = bytes(1000)
ROOM_OF_ONE = len(b"a") + len(BODY) + OVERHEAD_BYTES

Answer = Callable[[bytes], CachedResponse]


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    """Makes the answer of a question."""
    entry = Registry.read(write_registry(tmp_path / "models")).get("shapes-sit")
    return lambda question: CachedResponse(question, BODY, "id", "key", entry, ())


def kept(answers: ResponseCache, questions: str) -> str:
    return "".join(question for question in questions if answers.get(question.encode()) is not None)


def test_an_answer_is_that_of_its_question(answer: Answer) -> None:
    answers = ResponseCache()
    answers.keep(first := answer(b"a"))
    assert answers.get(b"a") is first
    assert answers.get(b"b") is None


def test_the_answers_asked_for_least_lately_go_first(answer: Answer) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    answers.keep(answer(b"a"))
    answers.keep(answer(b"b"))
    answers.get(b"a")
    answers.keep(answer(b"c"))
    assert kept(answers, "abc") == "ac"


def test_a_long_question_counts_too(answer: Answer) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    answers.keep(answer(b"a"))
    answers.keep(answer(b"q" * ROOM_OF_ONE))
    assert kept(answers, "a") == ""


def test_an_answer_larger_than_all_room_is_not_kept(answer: Answer) -> None:
    answers = ResponseCache(ROOM_OF_ONE - 1)
    answers.keep(answer(b"a"))
    assert kept(answers, "a") == ""


def test_the_room_of_what_is_dropped_or_kept_anew_is_free_again(answer: Answer) -> None:
    answers = ResponseCache(2 * ROOM_OF_ONE)
    for _ in range(3):
        answers.keep(answer(b"a"))
    answers.keep(answer(b"b"))
    assert kept(answers, "ab") == "ab"
    del answers[b"a"]
    answers.keep(answer(b"c"))
    assert kept(answers, "abc") == "bc"
