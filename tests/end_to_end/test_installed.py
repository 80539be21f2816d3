"""The package as it is installed from a wheel: what it needs comes with it, and it runs from any folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from tests.documents.examples import blocks_of
from tests.end_to_end.stack import eventually
from tests.end_to_end.test_serve import Server

ROOT = Path(__file__).parents[2]
PACKAGES = ("tailprune", "tailprune_client", "jobs", "service", "workers")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES, "models")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from, in whose folder of models a user has put something."""
    clone = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, clone / name)
    (clone / "models" / "published").mkdir(exist_ok=True)
    (clone / "models" / "published" / "large.pt").write_bytes(b"downloaded")
    return clone


@pytest.fixture(scope="module")
def installed(processes: None, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and from the environment of the tests all that it needs."""
    folder = tmp_path_factory.mktemp("installed")
    quiet = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    wheel = [sys.executable, "-m", "pip", "wheel", *quiet, "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*wheel, str(clone)], check=True)
    (built,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
    subprocess.run([*pip, *quiet, str(built)], check=True)
    variables = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=variables))
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


@pytest.fixture(scope="module")
def client_alone(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and what its extra `client` asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (built,) = installed.parents[1].glob("*.whl")
    quiet = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *quiet, str(built)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for needed in required_by(next(packages.glob("tailprune-*.dist-info")), "client"):
        for file in needed.files or ():
            if not file.is_absolute() and ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), packages / file)
    return python


def required_by(described: Path, extra: str) -> list[Distribution]:
    """The distributions of this environment that an extra of an installed wheel needs, directly or not."""
    found: dict[str, Distribution] = {}
    wanted = [(Distribution.at(described), extra)]
    while wanted:
        source, of = wanted.pop()
        for requirement in map(Requirement, source.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": of}):
                continue
            if requirement.name not in found:
                found[requirement.name] = distribution(requirement.name)
                wanted.append((found[requirement.name], ""))
    return list(found.values())


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment of a shell of somebody who has set nothing."""
    ours = ("TAILPRUNE_", "REDIS_URL", "BROKER_URL", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def server(installed: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tailprune serve` in an empty folder; the last test that requests it stops it."""
    folder = tmp_path_factory.mktemp("empty")
    log = folder / "serve.log"
    with log.open("wb") as out:
        command = [str(installed / "tailprune"), "serve", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    server = Server(process, log)
    eventually(lambda: server.url or server.process.poll() is not None, "serve is ready", 120)
    assert server.url, server.text
    yield server
    server.stop()


def test_a_wheel_has_the_shipped_models_and_nothing_that_users_put_beside_them(installed: Path) -> None:
    (built,) = installed.parents[1].glob("*.whl")
    names = set(zipfile.ZipFile(built).namelist())
    shipped = {
        f"tailprune/{path.relative_to(ROOT)}"
        for path in (ROOT / "models").glob("shapes-*/*")
        if not path.name.startswith(".")
    }
    assert {"tailprune/models/models.toml", *shipped} <= names
    assert {name.partition("/")[0] for name in names} - set(PACKAGES) == {
        f"{built.name.rpartition('-py3')[0]}.dist-info"
    }
    assert not [name for name in names if "published" in name]


def test_a_wheel_has_the_files_of_the_pages(installed: Path) -> None:
    (built,) = installed.parents[1].glob("*.whl")
    names = set(zipfile.ZipFile(built).namelist())
    static = ROOT / "service" / "static"
    served = [*static.rglob("*.js"), *static.rglob("*.css"), *static.glob("*.html"), *static.glob("widget/*.js")]
    assert {path.relative_to(ROOT).as_posix() for path in served} <= names
    assert "service/static/vendor/licences/htm.txt" in names


def test_the_models_of_an_installed_package_are_found_from_any_folder(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    code = "import tailprune; print(tailprune.load('shapes-sit').condition_dim, tailprune.__file__)"
    said = subprocess.run(
        [str(installed / "python"), "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    dimension, _, file = said.stdout.strip().partition(" ")
    assert dimension == "128", said.stderr
    assert Path(file).is_relative_to(installed.parent)


def test_the_client_runs_the_example_of_the_readme_where_nothing_else_is_installed(
    client_alone: Path, server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    (example,) = [block.text for block in blocks_of(ROOT / "README.md") if "tailprune_client" in block.text]
    others = ("torch", "numpy", "redis", "celery", "fsspec", "fastapi", "PIL", "tqdm")
    absent = f"from importlib.util import find_spec\nassert not [name for name in {others} if find_spec(name)]\n"
    said = subprocess.run(
        [str(client_alone), "-c", absent + example],
        cwd=tmp_path,
        env={**environment, "TAILPRUNE_URL": str(server.url)},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "grid.png").read_bytes()[:4] == b"\x89PNG"


def test_an_installed_package_serves_its_models_from_any_folder(server: Server) -> None:
    body = {"model": "shapes-sit", "threshold": 0.038, "labels": [0], "steps": 4}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert job["status"] == "succeeded", job
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
