"""From a checkpoint to the entry of a model, for the registry's file and for `POST /models` alike.

Checkpoints are inspected and fetched by `python -m tailprune` in a process of its own: its dependencies may not be
installed where the service runs, it can be ended at any time, and no file can do harm to who asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tailprune.spec import InputError

__all__ = ["GIVEN", "assumptions", "entry_table", "fetch", "inspect", "science"]

GIVEN = ("family", "key", "classes", "num_heads", "decode_layer")
"""What may be said of a checkpoint where its tensors do not show it."""
LOOK_SECONDS = 0.1
"""How often it is asked whether to go on."""
TRACEBACK = "Traceback (most recent call last)"

Found = Mapping[str, Any]
"""The description of a checkpoint, as `python -m tailprune inspect --json` prints it."""


def inspect(source: str, given: Mapping[str, Any], check: Callable[[], None], *, visible: bool = False) -> Found:
    """The description of a checkpoint, once all its weights were read and none is damaged.

    source: an absolute path, or an address on the hub, which is fetched if it is not there.
    given: values of GIVEN; those that are None, or other fields, do not count.
    check, visible: see `science`.

    Raises InputError for a checkpoint that cannot be used.
    """
    said = [f"--{name.replace('_', '-')}={given[name]}" for name in GIVEN if given.get(name) is not None]
    found: Found = json.loads(science(["inspect", source, "--json", "--check", *said], check, visible=visible))
    return found


def fetch(source: str, check: Callable[[], None], *, visible: bool = False) -> str:
    """The local path of a source on the hub, which is downloaded if it is not there. See `science`."""
    return science(["fetch", source], check, visible=visible).strip()


def science(arguments: list[str], check: Callable[[], None], *, visible: bool = False) -> str:
    """The output of `python -m tailprune` with these arguments.

    check: called while it runs; it is ended when this raises.
    visible: whether its errors, and the progress of a download, go to stderr, which the message then leaves out.

    Raises InputError with its message where it fails.
    """
    command = [sys.executable, "-m", "tailprune", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=None if visible else pipe, text=True) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    check()
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return output
    if process.returncode < 0:
        raise InputError(
            f"the process that read the checkpoint was ended by signal {-process.returncode}, perhaps for want of "
            "memory: give it more, or a file of safetensors, which is read tensor by tensor"
        )
    if TRACEBACK in (errors or ""):
        raise RuntimeError(f"python -m tailprune {' '.join(arguments)} broke: {errors}")
    raise InputError((errors or "that failed, see above").strip())


def entry_table(found: Found, given: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """The entry of a model, as the registry's file has it.

    found: the description of its checkpoint.
    given: what was said of it, by the names of the fields of an entry; `source` is that of the checkpoint.
    place: a source as the entry names it.
    """
    named = {key: given.get(key) for key in ("decoder_source", "decoder_statistics")}
    fields = {
        "title": given.get("title"),
        "family": found["family"],
        "size": found["size"],
        "parameters": found["parameters"],
        "checkpoint": place(given["source"]),
        "key": found["held_under"] or None,
        "num_heads": found["configuration"]["num_heads"] if found["heads_assumed"] else given.get("num_heads"),
        "num_heads_assumed": found["heads_assumed"] or None,
        "decode_layer": given.get("decode_layer"),
        "classes": found["classes"],
        "null_condition": None if found["null_condition"] else False,
        "class_names": given.get("class_names"),
        "condition_dim": found["condition_dim"],
        "depth": found["configuration"]["depth"],
        "latent_shape": found["latent_shape"],
        "decoder": given.get("decoder"),
        **{key: source and place(source) for key, source in named.items()},
        **{key: given.get(key) for key in ("decoder_scale", "display_scale")},
        **{key: given.get(key) for key in ("extractor", "classifier", "reference", "prompt", "licence")},
    }
    return {key: value for key, value in fields.items() if value is not None}


def assumptions(found: Found, given: Mapping[str, Any], named: Callable[[str], str] = str) -> Iterator[str]:
    """What a description of a checkpoint rests on besides its tensors, and what says otherwise.

    given: what was said of the checkpoint.
    named: what a field of GIVEN is called where it is given; its name by default.
    """
    if found["also_fits"] and given.get("family") is None:
        others = ", ".join(found["also_fits"])
        yield f"read as {found['family']}; files of {others} have the same tensors: choose with {named('family')}"
    if found["held_under"]:
        beside = f", not those under {', '.join(map(repr, found['beside']))}" if found["beside"] else ""
        yield f"uses the weights under {found['held_under']!r}{beside}: choose with {named('key')}"
    if found["heads_assumed"]:
        heads, width = found["configuration"]["num_heads"], found["configuration"]["hidden_size"]
        yield (
            f"{heads} attention heads assumed, as published for a width of {width}: {named('num_heads')} gives "
            "another number"
        )
    if found["classes"] is not None and not found["null_condition"]:
        yield f"{_classes(found['classes'])} and no null condition, so it cannot be guided"
    elif found["classes"] is not None and given.get("classes") is None:
        count = found["classes"]
        yield (
            f"{_classes(count)} and the null condition; {named('classes')} {count + 1} if the last row is a class too"
        )


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
