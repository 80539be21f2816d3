"""The client has all that the contract has, and needs little for it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from jobs.problems import TYPES
from jobs.records import KINDS, JobSummary, JobView
from jobs.requests.figure import FigureRequest
from jobs.requests.subscriber import Subscriber
from tailprune_client import Artifact, AsyncArtifact, AsyncClient, AsyncJob, Client, Job, ProblemError, fields
from tailprune_client.errors import PROBLEMS
from tests.test_house import ROOT

METHODS: dict[str, tuple[str, ...]] = {
    "prune_sample": ("prune_sample",),
    "edit": ("edit",),
    "study": ("study",),
    "compact": ("compact",),
    "extract": ("extract",),
    "get_metrics": ("metrics", "transformer_metrics"),
    "draw_figure": ("figure", "figure_data"),
    "get_vectors": ("vectors",),
    "get_over_time": ("over_time", "transformer_over_time"),
    "get_removal": ("removal",),
    "get_attribution": ("attribution",),
    "get_anatomy": ("anatomy",),
    "get_cosine": ("cosine", "cosines"),
    "list_models": ("models", "transformers"),
    "get_model": ("model",),
    "get_training": ("training",),
    "add_model": ("add_model",),
    "delete_model": ("delete_model",),
    "upload_conditions": ("upload",),
    "list_conditions": ("conditions",),
    "get_conditions": ("get_conditions",),
    "delete_conditions": ("delete_conditions",),
    "list_jobs": ("jobs",),
    "get_job": ("job", "Job.refresh"),
    "cancel_job": ("cancel", "delete", "Job.cancel", "Job.delete"),
    "follow_job": ("Job.events", "Job.wait"),
    "follow_all_jobs": ("events",),
    "get_artifact": ("Artifact.save", "Artifact.bytes"),
    "get_live": ("health",),
    "get_ready": ("ready",),
    "get_telemetry": ("telemetry",),
    "get_start_page": ("start_page",),
}
"""The methods of the client for each operation of the contract."""
CLASSES = {"": (Client, AsyncClient), "Job": (Job, AsyncJob), "Artifact": (Artifact, AsyncArtifact)}


def operations() -> list[str]:
    paths = yaml.load((ROOT / "openapi.yaml").read_text(), Loader=yaml.CSafeLoader)["paths"]
    return [operation["operationId"] for path in paths.values() for operation in path.values()]


@pytest.mark.parametrize("operation", operations())
def test_every_operation_of_the_contract_has_its_method_in_both_clients(operation: str) -> None:
    for method in METHODS[operation]:
        owner, _, name = method.rpartition(".")
        at_once, awaited = (getattr(each, name) for each in CLASSES[owner])
        assert at_once.__doc__ == awaited.__doc__ != None  # noqa: E711
        shown = inspect.signature(awaited)
        assert inspect.signature(at_once).parameters == shown.parameters
        assert not re.match(r"Job\b|Iterator", str(shown.return_annotation))


def test_signatures_say_what_the_methods_of_each_client_return() -> None:
    returned = {
        "prune_sample": ("Job[PruneSampleResult]", "AsyncJob[PruneSampleResult]"),
        "jobs": ("Iterator[JobSummary]", "AsyncIterator[JobSummary]"),
        "metrics": ("MetricsResult", "MetricsResult"),
    }
    for name, kinds in returned.items():
        methods = getattr(Client, name), getattr(AsyncClient, name)
        assert tuple(inspect.signature(each).return_annotation for each in methods) == kinds
    assert inspect.iscoroutinefunction(AsyncClient.metrics)


def test_the_methods_of_both_clients_are_the_same() -> None:
    for at_once, awaited in CLASSES.values():
        closing = {"close", "aclose"}
        names = [{name for name in vars_of(each) if not name.startswith("_")} - closing for each in (at_once, awaited)]
        assert names[0] == names[1]


def vars_of(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base)}


def test_every_type_of_problem_has_its_class() -> None:
    assert PROBLEMS.keys() == TYPES.keys()
    assert all(issubclass(each, ProblemError) and each.__doc__ for each in PROBLEMS.values())


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (["prune-sample"], fields.PruneSampleFields),
        (["edit"], fields.EditFields),
        (["study"], fields.StudyFields),
        (["compact", "compact-transformer"], fields.CompactFields),
        (["extract"], fields.ExtractFields),
        (["register"], fields.RegisterFields),
    ],
)
def test_the_methods_take_the_fields_of_the_requests(kinds: list[str], taken: Any) -> None:
    hints = get_type_hints(taken)
    described = {} if kinds == ["register"] else dict(Subscriber.model_fields)
    for kind in kinds:
        described |= KINDS[kind].model_fields
    assert hints.keys() == described.keys() - {"model", "name", "source", "target"}
    for name, hint in hints.items():
        if words := literals(hint):
            assert words >= literals(described[name].annotation), name


def test_the_methods_take_the_options_of_figures() -> None:
    renamed = {"thresholds": "threshold", "measured": "study", "attributes": "attribute"}
    options = {renamed.get(name, name) for name in FigureRequest.model_fields} - {"model", "figure"}
    assert get_type_hints(fields.FigureFields).keys() == options


def literals(hint: Any) -> set[str]:
    """All words that a type allows."""
    return {hint} if isinstance(hint, str) else {word for part in get_args(hint) for word in literals(part)}


@pytest.mark.parametrize("name", sorted(JobView.model_fields.keys() & JobSummary.model_fields.keys()))
def test_a_job_has_the_fields_of_the_contract(name: str) -> None:
    assert hasattr(Job, name) or name == "links"


def test_the_client_imports_nothing_that_a_notebook_may_lack(run_python: Callable[[str], str]) -> None:
    heavy = (
        "torch", "numpy", "PIL", "tqdm", "safetensors", "redis", "celery", "fsspec", "fastapi", "structlog", "ulid",
        "pydantic_settings", "cachetools", "huggingface_hub", "service", "workers", "tailprune.systems",
    )  # fmt: skip
    print_them = f"import sys, tailprune_client; print([name for name in {heavy!r} if name in sys.modules])"
    assert run_python(print_them) == "[]\n"
