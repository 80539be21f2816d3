"""`python -m tailprune inspect SOURCE`: what a checkpoint is, for people or as JSON; one on the hub is fetched."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import tailprune

FAILED = 1


def main() -> int:
    """Prints what the source is; the exit status is 1, with the reason on stderr, where it is no checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m tailprune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what a checkpoint is")
    inspect.add_argument("source", help="a file, a diffusers folder, hf://owner/repo/file, or a model of the registry")
    inspect.add_argument("--family", help="where several systems have the same tensors")
    inspect.add_argument("--num-heads", type=int, help="where the width is not a published one")
    inspect.add_argument("--decode-layer", type=int, help="of X-MDPT and MDSGen, where it is not the published one")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    given = {"num_heads": asked.num_heads, "decode_layer": asked.decode_layer}
    try:
        found = tailprune.inspect(
            asked.source,
            family=asked.family,
            **{name: value for name, value in given.items() if value is not None},
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    if asked.json:
        said = dataclasses.asdict(found) | {"path": str(found.path), "adaln_share": found.adaln_share}
        print(json.dumps(said))
    else:
        print(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
