"""`tailprune models`: list the registry of this machine, add to it, and fetch its files.

With the address of a running service, `list` and `show` are of the models that it serves, with the compacted ones,
which are in no registry; `remove` calls it to delete one of these.

Checkpoints are inspected and fetched by `python -m tailprune` in a separate process, since the dependencies of that
package may not be installed where the service runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from jobs.registry.decoding import DecoderName
from jobs.registry.document import RegistryError
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.settings import SettingsError, get_settings
from service.cli.client import Client
from service.cli.options import Url
from service.cli.running import print_json
from service.cli.terminal import Sheet, errors_shown, fail, line, say, show, show_facts
from tailprune.spec.hub import is_hub
from tailprune.spec.registry import is_installed
from tailprune_client.core import DEFAULT_URL, URL_VARIABLE

__all__ = ["app"]

app = typer.Typer(
    help="List, show, add and fetch the models of this machine; list, show and remove those of a service.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The name of the model in the registry.")]


ServiceUrl = Annotated[
    str | None,
    typer.Option(
        envvar=URL_VARIABLE, help="The address of a service; without one, the registry of this machine is read."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the fields of GET /models.")]


@app.command("list")
def list_models(as_json: AsJson = False, url: ServiceUrl = None) -> None:
    """List the registered models, or those that a service serves: which are ready, and what the others lack."""
    if url is None:
        found = [_summary(entry) for entry in _registry()]
    else:
        with errors_shown(), Client(url) as client:
            found = client.data("models")["models"]
    if as_json:
        print_json(found)
        return
    rows = []
    for model in found:
        parameters = "" if model["parameters"] is None else f"{model['parameters'] / 1e6:.3g} M"
        decoder = model["decoder"]
        pictures = decoder["name"] if decoder["ready"] else f"{decoder['name']}: absent"
        rows.append([model["name"], model["family"], parameters, "yes" if model["ready"] else "no", pictures])
    headings = ["model", "family", "parameters", "ready", "pictures"]
    show(Sheet(headings, rows, borders=False, expendable=["pictures", "parameters"]))
    for model in found:
        if model["missing"]:
            line(_lacks(model))


@app.command("show")
def show_model(name: Name, as_json: AsJson = False, url: ServiceUrl = None) -> None:
    """Show a registered model, or one that a service serves: its shapes, samplers and defaults, and what it lacks."""
    if url is None:
        model = _description(_entry(name))
    else:
        with errors_shown(), Client(url) as client:
            model = client.data("models", name)
    if as_json:
        print_json(model)
        return
    show_facts({key: value for key, value in model.items() if key not in ("links", "class_names")})
    if model["missing"]:
        line(_lacks(model))


@app.command()
def add(
    name: Name,
    source: Annotated[str, typer.Argument(help="A checkpoint: a file, a diffusers folder, or hf://owner/repo/file.")],
    family: Annotated[str | None, typer.Option(help="The family, where checkpoints of several look the same.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The key of the weights, where the file has several copies, such as ema.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="The classes, if the label table has no row for a null condition.")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option(help="The number of heads, where the width is not a published one.")
    ] = None,
    decode_layer: Annotated[
        int | None, typer.Option(help="The decode layer of X-MDPT and MDSGen, if it is not the published one.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title to show.")] = None,
    class_names: Annotated[Path | None, typer.Option(help="A text file with the name of one class a line.")] = None,
    decoder: Annotated[
        DecoderName | None, typer.Option(help="The decoder that turns samples into pictures or sound.")
    ] = None,
    decoder_source: Annotated[str | None, typer.Option(help="The file or folder of the decoder.")] = None,
    decoder_statistics: Annotated[
        str | None, typer.Option(help="The file with mean and deviation of the latents, for va-vae.")
    ] = None,
    decoder_scale: Annotated[
        float | None, typer.Option(help="The scale by which latents are divided before decoding.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the weights.")] = None,
) -> None:
    """Add a model to the registry, described by what its checkpoint contains."""
    registered = _registry()
    registry = registered.document.path.absolute()
    if is_installed(registry):
        fail(
            f"{registry} is part of the installed package, and the next installation would replace it: "
            f"cp -r {registry.parent} models copies it, and from this folder tailprune then uses models/{registry.name}"
        )
    if not os.access(registry, os.W_OK) or not os.access(registry.parent, os.W_OK):
        fail(f"{registry} cannot be written; copy its folder, and name the copy with TAILPRUNE_REGISTRY")
    if name in registered:
        fail(f"{registry} already has a model {name!r}; choose another name, or remove that entry")
    given = {
        "family": family, "key": key, "classes": classes, "num-heads": num_heads, "decode-layer": decode_layer
    }  # fmt: skip
    options = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    at = source if is_hub(source) else str(Path(source).absolute())  # absolute: not mistaken for the name of a model
    found = json.loads(_science("inspect", at, "--json", "--check", *options))
    fields = {
        "title": title,
        "family": found["family"],
        "size": found["size"],
        "parameters": found["parameters"],
        "checkpoint": _place(source, registry.parent),
        "key": found["held_under"] or None,
        "num_heads": found["configuration"]["num_heads"] if found["heads_assumed"] else num_heads,
        "num_heads_assumed": found["heads_assumed"] or None,
        "decode_layer": decode_layer,
        "classes": found["classes"],
        "null_condition": None if found["null_condition"] else False,
        "class_names": class_names and _place(str(class_names), registry.parent),
        "condition_dim": found["condition_dim"],
        "latent_shape": found["latent_shape"],
        "decoder": decoder,
        "decoder_source": decoder_source and _place(decoder_source, registry.parent),
        "decoder_statistics": decoder_statistics and _place(decoder_statistics, registry.parent),
        "decoder_scale": decoder_scale,
        "licence": licence,
    }
    table = {key: value for key, value in fields.items() if value is not None}
    _append(registry, tomli_w.dumps({"models": {name: table}}))
    line(f"added to {registry}; restart service and workers to use it")
    for assumption in _assumptions(found, family, classes):
        line(assumption)


def _assumptions(found: dict[str, Any], family: str | None, classes: int | None) -> Iterator[str]:
    """What a description of a checkpoint rests on besides its tensors, and the options that say otherwise."""
    if found["also_fits"] and family is None:
        others = ", ".join(found["also_fits"])
        yield f"read as {found['family']}; files of {others} have the same tensors: choose with --family"
    if found["held_under"]:
        beside = f", not those under {', '.join(map(repr, found['beside']))}" if found["beside"] else ""
        yield f"uses the weights under {found['held_under']!r}{beside}: choose with --key"
    if found["heads_assumed"]:
        heads, width = found["configuration"]["num_heads"], found["configuration"]["hidden_size"]
        yield f"{heads} attention heads assumed, as published for a width of {width}: --num-heads gives another number"
    if found["classes"] is not None and not found["null_condition"]:
        yield f"{_classes(found['classes'])} and no null condition, so it cannot be guided"
    elif found["classes"] is not None and classes is None:
        count = found["classes"]
        yield f"{_classes(count)} and the null condition; --classes {count + 1} if the last row is a class too"


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


@app.command()
def fetch(name: Name) -> None:
    """Fetch a model's files, and its decoder's, from the Hugging Face hub."""
    entry = _entry(name)
    sources = [entry.checkpoint, entry.decoder_source, entry.decoder_statistics]
    wanted = [source for source in sources if source is not None and is_hub(source)]
    if not wanted:
        if not entry.missing:
            say(f"nothing to fetch: no file of {name!r} is on the hub, and all are on this machine")
            return
        fail(f"no file of {name!r} is on the hub: {entry.obtain or 'put its files beside the registry'}")
    for source in wanted:
        say(f"fetching {source}")
        line(_science("fetch", source).strip())


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A compacted model, by the name that `tailprune compact` printed.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a compacted model from a running service; its checkpoint stays an artifact of its job."""
    with errors_shown(), Client(url) as client:
        client.delete_model(name)
    line(f"{name} is deleted; the same `tailprune compact` makes it again")


def _registry() -> Registry:
    try:
        settings = get_settings()
        return Registry.read(settings.registry, settings.hub_cache)
    except (RegistryError, SettingsError) as error:
        fail(str(error))


def _entry(name: str) -> ModelEntry:
    try:
        return _registry().get(name)
    except UnknownModel as error:
        fail(str(error))


def _summary(entry: ModelEntry) -> dict[str, Any]:
    """A registered model, in the fields of `GET /models` that the registry alone tells."""
    missing = entry.missing
    return {
        "name": entry.name,
        "title": entry.title,
        "family": entry.family,
        "size": entry.size,
        "parameters": entry.parameters,
        "ready": not missing,
        "missing": missing,
        "obtain": entry.obtain,
        "decoder": entry.decoding.shown.model_dump(mode="json"),
    }


def _description(entry: ModelEntry) -> dict[str, Any]:
    """A registered model, in the fields of `GET /models/{model}` that the registry alone tells."""
    facts = entry.facts
    return _summary(entry) | {
        "classes": entry.classes,
        "null_condition": entry.null_condition,
        "key": entry.key,
        "num_heads": entry.num_heads,
        "num_heads_assumed": entry.num_heads_assumed,
        "conditions": {name: list(shape) for name, shape in facts.features.items()},
        "class_names": entry.names,
        "condition_dim": entry.condition_dim,
        "latent_shape": list(entry.latent_shape),
        "samplers": list(facts.samplers),
        "times": {"first": facts.noise_time, "last": facts.data_time, "whole": facts.whole_times},
        "defaults": entry.defaults.model_dump(mode="json"),
        "licence": entry.licence,
        "source": entry.source,
    }


def _lacks(model: dict[str, Any]) -> str:
    """What a model lacks, and how to get it."""
    missing = model["missing"]
    how = model["obtain"] or (f"tailprune models fetch {model['name']}" if is_hub(missing[0]) else "put it there")
    return f"{model['name']} lacks {', '.join(missing)}: {how}"


def _science(*arguments: str) -> str:
    """The output of `python -m tailprune`; its errors end the command."""
    if find_spec("torch") is None:
        fail("reading checkpoints needs torch: install tailprune[worker], or run this command on a worker's machine")
    # At a terminal, stderr passes through: it shows the progress of a download, and then errors too.
    seen = sys.stderr.isatty() and any(map(is_hub, arguments))
    done = subprocess.run(
        [sys.executable, "-m", "tailprune", *arguments],
        stdout=subprocess.PIPE,
        stderr=None if seen else subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        fail((done.stderr or "that failed, see above").strip())
    return done.stdout


def _place(source: str, folder: Path) -> str:
    """A source as it is written into the registry: relative to the registry's folder if it lies inside."""
    if is_hub(source):
        return source
    path = Path(source).absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _append(registry: Path, entry: str) -> None:
    """Add an entry to the registry, unless that would make it invalid."""
    text = registry.read_text().rstrip() + "\n\n" + entry
    handle, temporary = tempfile.mkstemp(dir=registry.parent, suffix=".toml")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    try:
        Registry.read(Path(temporary))
    except RegistryError as error:
        os.unlink(temporary)
        fail(str(error).replace(temporary, str(registry)))
    os.chmod(temporary, registry.stat().st_mode)
    os.replace(temporary, registry)
