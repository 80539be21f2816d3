"""The TypeScript types of the contract, which openapi-typescript makes of `openapi.yaml` for the pages.

`python -m tests.pages.contract_types` writes them anew.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.end_to_end.test_generated_clients import CONTRACT, NODE, NPM, ROOT, install, run

__all__ = ["TYPES", "contract_types", "with_packages"]

PACKAGES = Path(__file__).parent / "types"
TYPES = ROOT / "service" / "static" / "lib" / "contract.d.ts"


def with_packages(folder: Path) -> Path:
    """A new folder with the packages of the lockfile; skips the test that needs it where no registry is reached."""
    shutil.copytree(PACKAGES, folder, ignore=shutil.ignore_patterns("node_modules"))
    install(NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    return folder


def contract_types(folder: Path) -> str:
    """The types, by the generator in this folder."""
    options = ("--output", "contract.d.ts", "--default-non-nullable", "false")  # fields with a default may be left out
    done = run(NODE, "node_modules/.bin/openapi-typescript", CONTRACT, *options, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "contract.d.ts").read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as parent:
        TYPES.write_text(contract_types(with_packages(Path(parent) / "types")))
