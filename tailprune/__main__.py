"""Checkpoints from the shell.

`python -m tailprune inspect SOURCE` says what a checkpoint is, for people or as JSON; one on the hub is fetched for it.
`python -m tailprune fetch hf://owner/repo/file` fetches, and prints where it lies.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import tailprune
from tailprune.checkpoints import fetch

FAILED = 1


def main() -> int:
    """Prints what was asked for; where that fails, the reason on stderr, and the exit status is 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tailprune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what a checkpoint is")
    inspect.add_argument("source", help="a file, a diffusers folder, hf://owner/repo/file, or a model of the registry")
    inspect.add_argument("--family", help="where several systems have the same tensors")
    inspect.add_argument("--num-heads", type=int, help="where the width is not a published one")
    inspect.add_argument("--decode-layer", type=int, help="of X-MDPT and MDSGen, where it is not the published one")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    fetching = commands.add_parser("fetch", help="fetch a file or folder of the hub into the cache")
    fetching.add_argument("source", help="hf://owner/repo/file, or hf://owner/repo for a folder in diffusers' layout")
    asked = parser.parse_args()
    try:
        print(fetch(asked.source) if asked.command == "fetch" else _inspected(asked))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def _inspected(asked: argparse.Namespace) -> str:
    given = {"num_heads": asked.num_heads, "decode_layer": asked.decode_layer}
    known = {name: value for name, value in given.items() if value is not None}
    found = tailprune.inspect(asked.source, family=asked.family, **known)
    if not asked.json:
        return str(found)
    return json.dumps(dataclasses.asdict(found) | {"path": str(found.path), "adaln_share": found.adaln_share})


if __name__ == "__main__":
    raise SystemExit(main())
