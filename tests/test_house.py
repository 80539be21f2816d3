"""The order of the rooms beyond what import-linter checks: no circles, no torch in the service, whole kinds of jobs."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import grimp
import pytest
from fastapi.routing import APIRoute

import service.routes
from jobs.records import KINDS, JobView
from jobs.requests.base import Request
from workers.handlers import HANDLERS

ROOT = Path(__file__).parents[1]
ROOMS = ("tailprune", "tailprune_client", "jobs", "service", "workers")
WORKERS_ENTRIES = 13


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Which module imports which, under `TYPE_CHECKING` too."""
    return grimp.build_graph(*ROOMS, cache_dir=None)


def circle_of(graph: grimp.ImportGraph, module: str) -> tuple[str, ...] | None:
    """The shortest way from a module along imports back to itself."""
    back = (
        graph.find_shortest_chain(importer=imported, imported=module)
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return min(((module, *chain) for chain in back if chain), key=len, default=None)


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    circles = {frozenset(circle): circle for module in sorted(graph.modules) if (circle := circle_of(graph, module))}
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles.values())


def test_a_circle_is_found_with_its_modules() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")):
        graph.add_import(importer=importer, imported=imported)
    assert circle_of(graph, "a") == ("a", "b", "c", "a")
    assert circle_of(graph, "d") is None


def test_the_service_and_the_vocabulary_import_neither_torch_nor_the_science(run_python: Callable[[str], str]) -> None:
    code = (
        "import sys, service.app, tailprune.spec; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'workers') "
        "or m.startswith('tailprune.') and m.split('.')[1] != 'spec'])"
    )
    assert run_python(code) == "[]\n"


def test_the_workers_folder_stays_small_enough_to_read() -> None:
    entries = sorted(path.name for path in (ROOT / "workers").iterdir() if path.name != "__pycache__")
    assert len(entries) <= WORKERS_ENTRIES, entries


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_job_has_a_result_and_a_handler(kind: str) -> None:
    assert issubclass(HANDLERS[kind].request, KINDS[kind])
    assert KINDS[kind].result.model_fields


def test_every_handler_is_of_a_kind() -> None:
    assert HANDLERS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_job_has_a_route_that_answers_with_a_job(kind: str, graph: grimp.ImportGraph) -> None:
    assert list(_routes_of(KINDS[kind], graph))


def _routes_of(request: type[Request], graph: grimp.ImportGraph) -> Iterator[APIRoute]:
    """The routes that answer with a job and take the request, or make it of their parameters."""
    for found in pkgutil.iter_modules(service.routes.__path__, "service.routes."):
        makes_it = graph.direct_import_exists(importer=found.name, imported=request.__module__)
        for route in import_module(found.name).router.routes:
            models = [route.response_model, *(answer.get("model") for answer in route.responses.values())]
            takes = route.body_field.field_info.annotation if route.body_field else None
            answers_with_a_job = any(issubclass(kind, JobView) for model in models for kind in _kinds_of(model))
            takes_it = any(issubclass(kind, request) for kind in _kinds_of(takes))
            if answers_with_a_job and (takes_it or (takes is None and makes_it)):
                yield route


def _kinds_of(annotation: object) -> list[type]:
    """The class that a type is, or the classes of a union."""
    if get_origin(annotation) is Annotated:
        return _kinds_of(get_args(annotation)[0])
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    return [kind for kind in choices if isinstance(kind, type)]
