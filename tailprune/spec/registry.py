"""Where the registry of models is: one rule for the service, the workers, the command line and `tailprune.load`."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SHIPPED", "is_installed", "registry_path"]

VARIABLE = "TAILPRUNE_REGISTRY"
HERE = Path("models", "models.toml")
SHIPPED = Path(__file__).parents[1] / HERE
"""The registry that comes with the package. In a clone, `tailprune/models` is a link to the clone's folder `models`."""


def registry_path() -> Path:
    """The registry: the file that TAILPRUNE_REGISTRY names, or models/models.toml here, or the shipped one.

    Where none of them exists it is models/models.toml in the current folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(named))
    return SHIPPED.resolve() if SHIPPED.is_file() and not HERE.is_file() else HERE


def is_installed(registry: Path) -> bool:
    """Whether a registry is part of an installed package, which the next installation replaces."""
    return registry.resolve() == SHIPPED.resolve() and not SHIPPED.parent.is_symlink()
