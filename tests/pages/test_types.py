"""The types of the pages: JSDoc that TypeScript checks, and the types of the contract, which are generated from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.test_generated_clients import NODE, ROOT, run
from tests.pages.contract_types import TYPES, contract_types, with_packages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pages beside the packages that their types need."""
    folder = with_packages(tmp_path_factory.mktemp("types") / "pages")
    shutil.copytree(ROOT / "service" / "static", folder / "static")
    return folder


def test_the_types_of_all_modules_are_right(folder: Path) -> None:
    done = run(NODE, "node_modules/.bin/tsc", "--project", ".", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_would_be_noticed(folder: Path) -> None:
    wrong = folder / "static" / "wrong.js"
    wrong.write_text('import { number } from "./lib/format.js";\nnumber("0.5");\n')
    done = run(NODE, "node_modules/.bin/tsc", "--project", ".", folder=folder)
    wrong.unlink()
    assert "static/wrong.js(2,8)" in done.stdout


def test_the_types_of_the_contract_are_those_of_openapi_yaml(folder: Path) -> None:
    assert contract_types(folder) == TYPES.read_text(), "run `make openapi`, which writes them anew"
