"""`tailprune models`: the registry of this machine, listed, added to, and its files fetched.

Compacted models are in no registry: a running service is asked to delete one.

What a checkpoint is, and where the hub has it, the science says: it is asked in a process of its own, since a service
may run where it is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import tomli_w
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.registry.decoding import DecoderName
from jobs.registry.document import RegistryError
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.settings import get_settings
from service.cli.client import Client
from service.cli.terminal import DEFAULT_URL, Url, told_plainly
from tailprune.spec.hub import is_hub

__all__ = ["app"]

app = typer.Typer(help="The registry of models on this machine; compacted models of a service.", no_args_is_help=True)
output = Console()
messages = Console(stderr=True, highlight=False)

Name = Annotated[str, typer.Argument(help="The model's name in the registry.")]


@app.command("list")
def show() -> None:
    """List the registered models: which are ready, and what the others lack."""
    table = Table("model", "family", "parameters", "ready", "pictures")
    lacking: list[ModelEntry] = []
    for entry in _registry():
        missing, shown = entry.missing, entry.decoding.shown
        if missing:
            lacking.append(entry)
        parameters = "" if entry.parameters is None else f"{entry.parameters / 1e6:.0f} M"
        pictures = shown.name if shown.ready else f"{shown.name}: absent"
        table.add_row(entry.name, entry.family, parameters, "no" if missing else "yes", pictures)
    output.print(table)
    for entry in lacking:
        how = entry.obtain or (f"tailprune models fetch {entry.name}" if is_hub(entry.missing[0]) else "put it there")
        _say(f"{entry.name} lacks {', '.join(entry.missing)}: {how}")


@app.command()
def add(
    name: Name,
    source: Annotated[str, typer.Argument(help="A checkpoint: file, diffusers folder, or hf://owner/repo/file.")],
    family: Annotated[str | None, typer.Option(help="Where files of several systems look the same.")] = None,
    num_heads: Annotated[int | None, typer.Option(help="Where the width is not a published one.")] = None,
    decode_layer: Annotated[int | None, typer.Option(help="Of X-MDPT and MDSGen, where not the published one.")] = None,
    title: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    class_names: Annotated[Path | None, typer.Option(help="A text file with one name a line.")] = None,
    decoder: Annotated[DecoderName | None, typer.Option(help="What makes pictures or sound of its samples.")] = None,
    decoder_source: Annotated[str | None, typer.Option(help="The decoder's file or folder.")] = None,
    decoder_statistics: Annotated[str | None, typer.Option(help="Mean and deviation of latents, for va-vae.")] = None,
    decoder_scale: Annotated[float | None, typer.Option(help="What latents are divided by.")] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of its weights.")] = None,
) -> None:
    """Add a model to the registry, from what its checkpoint turns out to be."""
    registry = get_settings().registry.absolute()
    if name in [entry.name for entry in _registry()]:
        _refuse(f"{registry} has a model {name!r} already; choose another name, or take that one out")
    given = {"family": family, "num-heads": num_heads, "decode-layer": decode_layer}
    options = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    at = source if is_hub(source) else str(Path(source).absolute())  # which is no model's name
    found = json.loads(_science("inspect", at, "--json", *options))
    said = {
        "title": title,
        "family": found["family"],
        "size": found["size"],
        "parameters": found["parameters"],
        "checkpoint": _place(source, registry.parent),
        "num_heads": num_heads,
        "decode_layer": decode_layer,
        "classes": found["classes"],
        "class_names": class_names and _place(str(class_names), registry.parent),
        "condition_dim": found["condition_dim"],
        "latent_shape": found["latent_shape"],
        "decoder": decoder,
        "decoder_source": decoder_source and _place(decoder_source, registry.parent),
        "decoder_statistics": decoder_statistics and _place(decoder_statistics, registry.parent),
        "decoder_scale": decoder_scale,
        "licence": licence,
    }
    table = {key: value for key, value in said.items() if value is not None}
    _append(registry, tomli_w.dumps({"models": {name: table}}))
    _say(f"added to {registry}; service and workers know it once they are started again")
    if found["also_fits"] and family is None:
        others = ", ".join(found["also_fits"])
        _say(f"read as {found['family']}; files of {others} can look the same: --family says otherwise")


@app.command()
def fetch(name: Name) -> None:
    """Fetch a model's files, and its decoder's, from the Hugging Face hub."""
    try:
        entry = _registry().get(name)
    except UnknownModel as error:
        _refuse(str(error))
    sources = [entry.checkpoint, entry.decoder_source, entry.decoder_statistics]
    wanted = [source for source in sources if source is not None and is_hub(source)]
    if not wanted:
        _refuse(f"no file of {name!r} is on the hub: {entry.obtain or 'put its files beside the registry'}")
    for source in wanted:
        messages.print(f"fetching {source}", markup=False, soft_wrap=True)
        _say(_science("fetch", source).strip())


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A compacted model, by the name that `tailprune compact` printed.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Have a running service delete a compacted model; its checkpoint stays an artifact of its job."""
    with told_plainly(), Client(url, messages) as client:
        client.remove_model(name)
    _say(f"{name} is deleted; the same request of `tailprune compact` makes it again")


def _registry() -> Registry:
    settings = get_settings()
    try:
        return Registry.read(settings.registry, settings.hub_cache)
    except RegistryError as error:
        _refuse(str(error))


def _science(*arguments: str) -> str:
    """What `python -m tailprune` answers; its complaint ends the command."""
    if find_spec("torch") is None:
        _refuse("this needs torch, to read checkpoints: install tailprune[worker], or run it where the workers run")
    # A person sees how far a download is, which is told on stderr; and then the complaint too.
    seen = sys.stderr.isatty() and any(map(is_hub, arguments))
    done = subprocess.run(
        [sys.executable, "-m", "tailprune", *arguments],
        stdout=subprocess.PIPE,
        stderr=None if seen else subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        _refuse((done.stderr or "that failed, as said above").strip())
    return done.stdout


def _place(source: str, folder: Path) -> str:
    """A source as the registry says it: relative to its folder where it lies inside."""
    if is_hub(source):
        return source
    path = Path(source).absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _append(registry: Path, entry: str) -> None:
    """Adds an entry to the registry, which stays as it was where that would break it."""
    text = registry.read_text().rstrip() + "\n\n" + entry
    handle, temporary = tempfile.mkstemp(dir=registry.parent, suffix=".toml")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    try:
        Registry.read(Path(temporary))
    except RegistryError as error:
        os.unlink(temporary)
        _refuse(str(error).replace(temporary, str(registry)))
    os.chmod(temporary, registry.stat().st_mode)
    os.replace(temporary, registry)


def _say(line: str) -> None:
    """Prints a line as it is: not broken, and brackets no markup."""
    output.print(line, soft_wrap=True, highlight=False, markup=False)


def _refuse(why: str) -> NoReturn:
    messages.print(f"[red]tailprune:[/red] {escape(why)}", soft_wrap=True)
    raise typer.Exit(1)
