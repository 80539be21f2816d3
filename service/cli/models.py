"""`tailprune models`: list the registry of this machine, add to it, and fetch its files.

With the address of a running service, `list` and `show` are of the models that it serves, with the added and compacted
ones, which are in no registry; `add` adds to these, and `remove` deletes one of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
import typer

from jobs.registry import registration
from jobs.registry.decoding import DecoderName
from jobs.registry.document import RegistryError
from jobs.registry.measures import ExtractorName
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.registry.transformers import TransformerEntry
from jobs.requests.register import RegisterRequest
from jobs.settings import SettingsError, get_settings
from service.cli.client import Client
from service.cli.options import Url, body_of
from service.cli.running import print_json, waited_for
from service.cli.terminal import Sheet, errors_shown, fail, line, say, show, show_facts
from tailprune.spec import InputError
from tailprune.spec.hub import is_hub
from tailprune.spec.registry import is_installed
from tailprune_client.core import DEFAULT_URL, URL_VARIABLE

__all__ = ["app"]

T = TypeVar("T")

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
    """List the registered models, or those that a service serves: which are ready, and what the others lack.

    Large transformers, which have no family, come last.
    """
    if url is None:
        registry = _registry()
        found = [_summary(entry) for entry in registry]
        transformers = [_transformer(entry) for entry in registry.transformers.values()]
    else:
        with errors_shown(), Client(url) as client:
            listed = client.data("models")
            found, transformers = listed["models"], listed.get("transformers", [])
    if as_json:
        print_json([*found, *transformers])
        return
    rows = []
    for model in found:
        parameters = "" if model["parameters"] is None else f"{model['parameters'] / 1e6:.3g} M"
        decoder = model["decoder"]
        pictures = decoder["name"] if decoder["ready"] else f"{decoder['name']}: absent"
        rows.append([model["name"], model["family"], parameters, "yes" if model["ready"] else "no", pictures])
    rows += [[each["name"], "large transformer", "", "yes" if each["ready"] else "no", ""] for each in transformers]
    headings = ["model", "family", "parameters", "ready", "pictures"]
    show(Sheet(headings, rows, borders=False, expendable=["pictures", "parameters"]))
    for model in [*found, *transformers]:
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
    context: typer.Context,
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint: a file, a diffusers folder, or hf://owner/repo/file; with --url, where the service "
            "finds it, in a folder that its TAILPRUNE_MODEL_FOLDERS names."
        ),
    ],
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
    display_scale: Annotated[int | None, typer.Option(help="The factor by which images are enlarged.")] = None,
    extractor: Annotated[ExtractorName | None, typer.Option(help="The network whose features studies compare.")] = None,
    classifier: Annotated[
        Literal["shapes-classifier"] | None, typer.Option(help="The network that predicts the class of a sample.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The registered set of images with which studies compare samples.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The text that CLIP compares with an image, with {} for the name of its class.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the weights.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="A service to add it to, without a restart; else the registry of this machine."),
    ] = None,
) -> None:
    """Add a model to the registry, or to those of a running service, described by what its checkpoint contains."""
    given = body_of(context, RegisterRequest)
    if url is None:
        _add_to_registry(name, given)
        return
    if class_names is not None:
        given["class_names"] = _lines(class_names)
    with errors_shown(context), Client(url) as client:
        waited_for(client, client.submit("register", given), as_json=False)
    line(f"{name} is served by {url}")


def _add_to_registry(name: str, given: dict[str, Any]) -> None:
    """Add a model to the registry of this machine. given: by the names of options, with underscores."""
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

    def place(source: str) -> str:
        return _place(source, registry.parent)

    source = given["source"]
    at = source if is_hub(source) else str(Path(source).absolute())  # absolute: not mistaken for the name of a model
    found = _asked(partial(registration.inspect, at, given, _go_on), at)
    if "class_names" in given:
        given["class_names"] = place(str(given["class_names"]))
    _append(registry, tomli_w.dumps({"models": {name: registration.entry_table(found, given, place)}}))
    line(f"added to {registry}; restart service and workers to use it")
    for assumption in registration.assumptions(found, given, lambda field: f"--{field.replace('_', '-')}"):
        line(assumption)


def _lines(path: Path) -> list[str]:
    """The names of classes in a text file, one a line."""
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {error}")


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
        line(_asked(partial(registration.fetch, source, _go_on), source))


@app.command()
def remove(
    name: Annotated[
        str, typer.Argument(help="A compacted model, by the name that `tailprune compact` printed, or an added one.")
    ],
    url: Url = DEFAULT_URL,
) -> None:
    """Delete an added or compacted model from a running service; files of the first, and artifacts, stay."""
    with errors_shown(), Client(url) as client:
        client.delete_model(name)
    line(f"{name} is deleted; the command that added or compacted it makes it again")


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


def _transformer(entry: TransformerEntry) -> dict[str, Any]:
    """A registered large transformer, in the fields of `GET /models` that the registry alone tells."""
    missing = entry.missing
    return {
        "name": entry.name,
        "title": entry.title,
        "ready": not missing,
        "missing": missing,
        "obtain": entry.obtain,
        "licence": entry.licence,
        "source": entry.source,
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
        "depth": entry.depth,
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
    fetch = (
        f"tailprune models fetch {model['name']}" if "family" in model else f"python -m tailprune fetch {missing[0]}"
    )
    how = model["obtain"] or (fetch if is_hub(missing[0]) else "put it there")
    return f"{model['name']} lacks {', '.join(missing)}: {how}"


def _asked(ask: Callable[..., T], source: str) -> T:
    """What is asked of the science, whose errors end the command.

    ask: asks it; `visible` shows stderr, as at a terminal, for the progress of a download.
    source: what it is asked about.
    """
    if find_spec("torch") is None:
        fail("reading checkpoints needs torch: install tailprune[worker], or run this command on a worker's machine")
    try:
        return ask(visible=sys.stderr.isatty() and is_hub(source))
    except InputError as error:
        fail(str(error))


def _go_on() -> None:
    """Nothing but Ctrl-C ends a command, which Python raises by itself."""


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
