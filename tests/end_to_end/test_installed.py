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
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.stack import eventually
from tests.end_to_end.test_serve import Server

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "tailprune", "jobs", "service", "workers", "models")


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


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell of somebody who has set nothing."""
    ours = ("TAILPRUNE_", "REDIS_URL", "BROKER_URL", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def server(installed: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """`tailprune serve` in an empty folder."""
    log = tmp_path / "serve.log"
    with log.open("wb") as out:
        command = [str(installed / "tailprune"), "serve", "--port", "0"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    server = Server(process, log)
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
    assert {name.partition("/")[0] for name in names} - {"tailprune", "jobs", "service", "workers"} == {
        f"{built.name.rpartition('-py3')[0]}.dist-info"
    }
    assert not [name for name in names if "published" in name]


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


def test_an_installed_package_serves_its_models_from_any_folder(server: Server) -> None:
    eventually(lambda: server.url or server.process.poll() is not None, "serve is ready", 120)
    assert server.url, server.text
    body = {"model": "shapes-sit", "threshold": 0.038, "labels": [0], "steps": 4}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert job["status"] == "succeeded", job
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
