"""Describe and download checkpoints from the shell.

`python -m tailprune inspect SOURCE` describes a checkpoint, as text or as JSON; one on the hub is downloaded first.
`python -m tailprune anatomy SOURCE` says what AdaLN takes in a large transformer of diffusers, and what it needs.
`python -m tailprune fetch hf://owner/repo/file` downloads a file into the cache and prints its local path.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys

import tailprune
from tailprune.checkpoints import fetch

FAILED = 1


def main() -> int:
    """Run one command and return the exit status: 0, or 1 after the reason for a failure is printed to stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m tailprune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="describe a checkpoint")
    inspect.add_argument("source", help="a file, a diffusers folder, hf://owner/repo/file, or a model of the registry")
    inspect.add_argument("--family", help="the family, where checkpoints of several look the same")
    inspect.add_argument("--key", help="the key of the weights, where the file has several copies, such as ema")
    inspect.add_argument("--classes", type=int, help="the classes, if the label table has no row for a null condition")
    inspect.add_argument("--num-heads", type=int, help="the number of heads, where the width is not a published one")
    inspect.add_argument(
        "--decode-layer", type=int, help="the decode layer of X-MDPT and MDSGen, if it is not the published one"
    )
    inspect.add_argument("--check", action="store_true", help="read all weights too, and refuse damaged ones")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    anatomy = commands.add_parser("anatomy", help="what AdaLN takes and needs in a large transformer of diffusers")
    anatomy.add_argument(
        "source",
        help="a folder in diffusers' layout, a safetensors file, or hf://owner/repo, whose headers are read",
    )
    anatomy.add_argument("--json", action="store_true", help="print JSON")
    fetching = commands.add_parser("fetch", help="download a file or folder of the hub into the cache")
    fetching.add_argument("source", help="hf://owner/repo/file, or hf://owner/repo for a folder in diffusers' layout")
    options = parser.parse_args()
    try:
        print(COMMANDS[options.command](options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def _description(options: argparse.Namespace) -> str:
    found = tailprune.inspect(
        options.source,
        family=options.family,
        key=options.key,
        classes=options.classes,
        num_heads=options.num_heads,
        decode_layer=options.decode_layer,
        check=options.check,
    )
    if not options.json:
        return str(found)
    return json.dumps(dataclasses.asdict(found) | {"path": str(found.path), "adaln_share": found.adaln_share})


def _fetched(options: argparse.Namespace) -> str:
    return str(fetch(options.source))


def _anatomy(options: argparse.Namespace) -> str:
    from tailprune.transformers import anatomy, as_text

    found = anatomy(options.source)
    if not options.json:
        return as_text(found, shutil.get_terminal_size().columns)
    return json.dumps(dataclasses.asdict(found) | {"adaln_share": found.adaln_share})


COMMANDS = {"inspect": _description, "anatomy": _anatomy, "fetch": _fetched}


if __name__ == "__main__":
    raise SystemExit(main())
