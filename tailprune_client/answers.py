"""What answers say: one of the contract's models, or what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import reduce
from importlib.metadata import version
from operator import getitem
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError, create_model, model_validator

from jobs.problems import Problem
from jobs.records import JOBS, JobView
from tailprune_client.errors import ProblemError, UnexpectedAnswer, problem_error

__all__ = ["Other", "OtherJob", "failure", "read", "read_job", "without_password"]

M = TypeVar("M", bound=BaseModel)


def without_password(url: str) -> str:
    """A URL without the user and the password in it."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def failure(answer: httpx.Response) -> ProblemError | UnexpectedAnswer:
    """The error that an answer stands for."""
    if answer.has_redirect_location:
        leads = without_password(answer.headers["Location"])
        return UnexpectedAnswer(f"{_asked(answer)} leads to {leads}: give that address")
    try:
        problem = Problem.model_validate_json(answer.content, extra="ignore")
    except ValidationError:
        return UnexpectedAnswer(_strange(answer))
    if problem.type.endswith(":not-found"):
        problem = problem.model_copy(update={"detail": f"{_asked(answer)}: {problem.detail}"})
    return problem_error(problem)


def read(kind: type[M], answer: httpx.Response) -> M:
    """An answer as one of the contract's models.

    What a newer service has besides is left out. What an older one does not have yet is None, where the contract has
    null for what is not known; anything else that is missing makes it an UnexpectedAnswer.
    """
    try:
        return _without_gaps(kind, answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnexpectedAnswer(
            f"{_strange(answer)} Or it is of another version than this client, {version('tailprune')}: "
            f"{error.error_count()} fields of its answer do not fit, such as "
            f"{'.'.join(map(str, first['loc'])) or 'all of it'} ({first['msg']})"
        ) from error


def _without_gaps(kind: type[M], answer: httpx.Response) -> M:
    try:
        return kind.model_validate_json(answer.content, extra="ignore")
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        if any(fault["type"] != "missing" for fault in faults):
            raise
        data = answer.json()
        for fault in faults:
            *path, name = fault["loc"]
            try:
                reduce(getitem, path, data)[name] = None
            except (KeyError, IndexError, TypeError):  # the path also names the types of a union
                raise error from None
        try:
            return kind.model_validate_json(json.dumps(data), extra="ignore")
        except ValidationError:
            raise error from None


class Other(BaseModel, extra="allow"):
    """What a newer service has, and this client does not know: its fields are attributes."""

    @model_validator(mode="wrap")
    @classmethod
    def _whole(cls, data: Any, _: Any) -> Self:
        if not isinstance(data, Mapping):
            raise ValueError("it is no object")
        return cls.model_construct(**data)


def read_job(answer: httpx.Response) -> JobView:
    """An answer as a job; request and result of a kind that this client does not know are an `Other`."""
    try:
        kind = answer.json()["kind"]
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswer(_strange(answer)) from None
    return read(JOBS.get(kind, OtherJob), answer)


_fields: dict[str, Any] = {"kind": (str, ...), "request": (Other, ...), "result": (Other | None, ...)}
OtherJob: type[JobView] = create_model("OtherJob", __base__=JobView, __module__=__name__, **_fields)


def _asked(answer: httpx.Response) -> str:
    """The address that was asked, as it is shown."""
    return without_password(str(answer.request.url))


def _strange(answer: httpx.Response) -> str:
    return f"{_asked(answer)} answers {answer.status_code} {answer.reason_phrase}: is this tailprune?"
