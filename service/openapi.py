"""Writes the OpenAPI document of the service: `python -m service.openapi > openapi.yaml`."""

from __future__ import annotations

import sys

import yaml
from fastapi import FastAPI

from service.app import app

__all__ = ["document"]


class _Dumper(yaml.SafeDumper):
    """YAML in which texts of several lines stay several lines."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def document(application: FastAPI) -> str:
    """The OpenAPI document of an application, as YAML."""
    return yaml.dump(application.openapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.stdout.write(document(app))
