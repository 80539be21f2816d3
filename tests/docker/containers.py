"""The container files, as the tests read them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile as a list of (instruction, arguments), with continuation lines joined."""

    path: Path
    instructions: list[tuple[str, str]]

    @classmethod
    def read(cls, name: str) -> Dockerfile:
        path = ROOT / "docker" / f"{name}.Dockerfile"
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
        pairs = (line.split(maxsplit=1) for line in joined if line.strip())
        return cls(path, [(name, arguments) for name, arguments in pairs])

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [arguments for name, arguments in self.instructions if name == instruction]

    def final(self, instruction: str) -> str:
        """The arguments of the last such instruction: the one that holds in the image."""
        return self.all(instruction)[-1]

    @property
    def copied(self) -> list[str]:
        """What is copied from the root of the repository."""
        sources = (line.split()[:-1] for line in self.all("COPY") if not line.startswith("--from"))
        return [source for line in sources for source in line]

    @property
    def environment(self) -> dict[str, str]:
        """What the final stage sets."""
        return dict(pair.split("=", 1) for pair in self.final("ENV").split())

    @property
    def command(self) -> list[str]:
        return list(json.loads(self.final("CMD")))

    @property
    def health_command(self) -> list[str]:
        return list(json.loads(self.final("HEALTHCHECK").partition("CMD")[2]))


DOCKERFILES = {name: Dockerfile.read(name) for name in ("service", "worker")}
SERVICE, WORKER = DOCKERFILES.values()


NEEDED = {"REDIS_PASSWORD": "secret"}
"""Variables without which Compose starts nothing."""


def read_compose(**variables: str) -> dict[str, Any]:
    """docker-compose.yml as Compose reads it, its variables filled in; those not given take their defaults."""
    given = NEEDED | variables

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        assert match["reason"] is None or given.get(match["name"]), match["reason"]
        return given.get(match["name"]) or match["default"] or ""

    variable = r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?(?P<reason>[^}]*))?\})"
    text = "\n".join(re.sub(r"^\s*#.*", "", line) for line in (ROOT / "docker-compose.yml").read_text().splitlines())
    return dict(yaml.safe_load(re.sub(variable, value, text)))


COMPOSE = read_compose()
SERVICES = COMPOSE["services"]
