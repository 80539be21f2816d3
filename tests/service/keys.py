"""Keys for tests, and what the contract says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jobs.settings import Settings
from service.app import app
from service.keys import KeyFile, KeyScope

__all__ = ["OTHER_SITE", "Operation", "bearer", "make_keys", "operations"]

OTHER_SITE = "https://evil.example"
SEGMENTS = {"{id}": "0" * 26, "{name}": "grid.png", "{model}": "shapes-sit", "{figure}": "cosine"}


class Operation(NamedTuple):
    """A call of the contract, and the scope that it says it needs."""

    method: str
    path: str
    scope: KeyScope | None

    @property
    def address(self) -> str:
        """A path that it answers, of things that need not exist."""
        address = self.path
        for name, value in SEGMENTS.items():
            address = address.replace(name, value)
        return address + ("?seconds=0.1" if self.path == "/events" else "")


def operations() -> Iterator[Operation]:
    """All calls of the contract."""
    for path, calls in app.openapi()["paths"].items():
        for method, call in calls.items():
            scopes = [scope for each in call["security"] for scope in each["key"]]
            assert len(scopes) <= 1
            yield Operation(method.upper(), path, scopes[0] if scopes else None)


def make_keys(settings: Settings, **scopes: KeyScope) -> dict[str, str]:
    """Keys of these names and scopes, by name."""
    file = KeyFile(Path(settings.keys_file))
    return {name: file.add(name, scope) for name, scope in scopes.items()}


def bearer(key: str) -> dict[str, str]:
    """The header that sends a key."""
    return {"Authorization": f"Bearer {key}"}
