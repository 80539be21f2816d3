"""Describe and download checkpoints from the shell.

`python -m tailprune inspect SOURCE` describes a checkpoint, as text or as JSON; one on the hub is downloaded first.
`python -m tailprune anatomy SOURCE` says what AdaLN takes in a large transformer of diffusers, and what it needs.
`python -m tailprune compact SOURCE OUT` writes such a transformer with a smaller AdaLN.
`python -m tailprune verify OUT --against SOURCE` checks such a smaller transformer against the whole one.
`python -m tailprune project-lora LORA --onto OUT --out FILE` writes a LoRA of the whole one for the smaller one.
`python -m tailprune convert OUT OTHER --layout comfyui` writes a smaller MiniMax-H3 as another program reads it.
`python -m tailprune fetch hf://owner/repo/file` downloads a file into the cache and prints its local path.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tailprune
from tailprune.checkpoints import fetch

if TYPE_CHECKING:
    from tailprune.transformers import Anatomy

FAILED = 1
PICTURES = (".png", ".svg")


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
    anatomy.add_argument(
        "--figure", type=_picture, help="also draw the errors by the rank into this file, ending in .png or .svg"
    )
    compact = commands.add_parser("compact", help="write such a transformer with a smaller AdaLN")
    compact.add_argument(
        "source",
        help="a folder in diffusers' layout; of FLUX.1 and MiniMax-H3 also a safetensors file with the original names",
    )
    compact.add_argument("out", help="the folder that is made")
    covers = compact.add_mutually_exclusive_group(required=True)
    covers.add_argument("--steps", type=int, nargs="+", help="exact for the schedules of so many steps")
    covers.add_argument("--times", type=float, nargs="+", help="exact for these times, as the pipeline passes them")
    covers.add_argument("--rank", type=int, help="so many directions, for any time")
    covers.add_argument("--error", type=float, help="as few directions as have at most this error, such as 0.01")
    compact.add_argument("--scheduler", help="the folder of the scheduler that makes the steps; plain ones without it")
    compact.add_argument(
        "--resolution",
        type=_resolution,
        nargs="+",
        default=[],
        help="WxH, where the scheduler shifts its times by it, or the model takes sizes",
    )
    compact.add_argument("--guidance", type=float, nargs="+", help="the scales of a model that takes one")
    compact.add_argument(
        "--pooled", choices=["zero", "mean"], help="take every pooled text for zeros, or for the mean of --population"
    )
    compact.add_argument(
        "--population",
        help="pooled texts to cover: a safetensors file, or prompts, a .txt with one a line or a folder with such",
    )
    compact.add_argument("--classes", type=int, nargs="+", help="the classes to cover, of a model that takes one")
    _takes_qkv(compact)
    compact.add_argument("--json", action="store_true", help="print JSON")
    verify = commands.add_parser("verify", help="check such a smaller transformer against the whole one")
    verify.add_argument("folder", help="what compact wrote")
    verify.add_argument("--against", required=True, help="the whole transformer that it was made of")
    _takes_qkv(verify)
    verify.add_argument("--json", action="store_true", help="print JSON")
    project = commands.add_parser("project-lora", help="write a LoRA of the whole transformer for the smaller one")
    project.add_argument("lora", help="a safetensors file")
    project.add_argument("--onto", required=True, help="what compact wrote")
    project.add_argument("--out", required=True, help="the file that is made, or with --merge the folder")
    project.add_argument("--merge", action="store_true", help="write the smaller transformer with the LoRA added")
    project.add_argument("--strength", type=float, help="what the LoRA is multiplied with when merged; 1 by default")
    project.add_argument("--json", action="store_true", help="print JSON")
    convert = commands.add_parser("convert", help="write a smaller MiniMax-H3 in the layout of another program")
    convert.add_argument("folder", help="what compact wrote, or a smaller MiniMax-H3 in any of the layouts")
    convert.add_argument("out", help="what is made: a file for comfyui and musubi, a folder for the others")
    convert.add_argument("--layout", required=True, choices=["comfyui", "sglang", "fastvideo", "musubi", "diffusers"])
    convert.add_argument("--json", action="store_true", help="print JSON")
    fetching = commands.add_parser("fetch", help="download a file or folder of the hub into the cache")
    fetching.add_argument("source", help="hf://owner/repo/file, or hf://owner/repo for a folder in diffusers' layout")
    options = parser.parse_args()
    try:
        print(COMMANDS[options.command](options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def _takes_qkv(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--qkv",
        choices=["stacked", "interleaved"],
        help="the order of rows in qkv_proj of a MiniMax-H3 under its original names: stacked in single files for "
        "ComfyUI, interleaved in MiniMax's own shards",
    )


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
    if options.figure is not None:
        _draw(found, options.figure)
    if not options.json:
        return as_text(found, shutil.get_terminal_size().columns)
    return json.dumps(dataclasses.asdict(found) | {"adaln_share": found.adaln_share})


def _draw(found: Anatomy, path: Path) -> None:
    from tailprune.figures.rank import draw_rank
    from tailprune.figures.style import render

    rendered = render(draw_rank(found, "/".join(Path(found.path).parts[-2:])))
    path.write_bytes(rendered.svg if path.suffix.lower() == ".svg" else rendered.png)


def _picture(text: str) -> Path:
    """The file of a figure."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text} ends in neither of {', '.join(PICTURES)}")
    return path


def _resolution(text: str) -> tuple[int, int]:
    """A width and a height from a text such as 1024x768."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is no width and height in pixels, such as 1024x768")
    return int(width), int(height)


def _compacted(options: argparse.Namespace) -> str:
    import torch

    from tailprune.transformers import compact

    written = compact(
        options.source,
        options.out,
        steps=options.steps,
        scheduler=options.scheduler,
        resolutions=options.resolution,
        times=None if options.times is None else torch.tensor(options.times),
        rank=options.rank,
        error=options.error,
        guidance=options.guidance,
        pooled=options.pooled,
        population=options.population,
        classes=options.classes,
        qkv=options.qkv,
        progress=sys.stderr.isatty(),
    )
    if options.json:
        return json.dumps(dataclasses.asdict(written))
    return (Path(options.out) / "README.md").read_text().rstrip()


def _verified(options: argparse.Namespace) -> str:
    from tailprune.transformers import verify

    found = verify(options.folder, options.against, qkv=options.qkv, progress=sys.stderr.isatty())
    if options.json:
        return json.dumps(dataclasses.asdict(found))
    between = "" if found.error_between is None else f", {found.error_between:.2g} halfway between covered times"
    return (
        f"{found.tensors:,} tensors are those of the whole model, and {found.layers} layers of AdaLN have an error of "
        f"{found.error:.2g} over what is covered, {found.worst_error:.2g} at worst{between}"
    )


def _projected(options: argparse.Namespace) -> str:
    from tailprune.transformers import project_lora

    made = project_lora(
        options.lora,
        options.onto,
        options.out,
        merge=options.merge,
        strength=options.strength,
        progress=sys.stderr.isatty(),
    )
    if options.json:
        return json.dumps(dataclasses.asdict(made))
    merged = f", merged with strength {made.strength:g}" if made.merged else ""
    return (
        f"{made.path}: {made.adaln_layers} layers of AdaLN projected, {made.other_layers} others as they were{merged}"
    )


def _converted(options: argparse.Namespace) -> str:
    from tailprune.transformers import convert

    found = convert(options.folder, options.out, layout=options.layout, progress=sys.stderr.isatty())
    if options.json:
        return json.dumps(dataclasses.asdict(found))
    table = f", a table of {found.times:,} times" if found.times else ""
    between = (
        ""
        if found.error_between is None
        else f", and between the times of the table by up to {found.error_between:.2g} more"
    )
    return (
        f"{found.path}, {found.bytes:,} bytes, in {found.layout}'s layout: {found.columns} columns{table}. Shifts, "
        f"scales and gates are off by {found.error:.2g} of how they vary over the times, by rounding{between}."
    )


COMMANDS = {
    "inspect": _description,
    "anatomy": _anatomy,
    "compact": _compacted,
    "verify": _verified,
    "project-lora": _projected,
    "convert": _converted,
    "fetch": _fetched,
}


if __name__ == "__main__":
    raise SystemExit(main())
