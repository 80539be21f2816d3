"""What is wrong with a request, in the words of the command that made it: by its options in place of fields."""

from __future__ import annotations

import re
from collections.abc import Mapping

import typer

from jobs.problems import Fault, Problem

__all__ = ["explained", "option_of", "options_of"]

ALIASES = {
    "prunes_keep": "--keep",
    "prunes_fill": "--fill",
    "prunes_schedule": "--schedule",
    "prunes_of": "--of",
    "search_fill": "--fill",
    "search_of": "--of",
    "search_schedule": "--schedule",
}
"""The options of fields for which no parameter is named, since an option stands for several."""
WORDINGS = {
    r"POST /conditions, which returns": "`tailprune upload`, which prints",
    r"POST /conditions": "`tailprune upload`",
    r"POST /compact": "`tailprune compact`",
    r"GET /models/(\S+)": r"`tailprune models show \1 --json`",
    r"give prunes, a grid of them, or a search": "give --threshold, --keep or --search",
    r"the body is neither (.*?); send .*": r"the file is neither \1",
    r"\b(and|or) null\b(?! condition)": r"\1 none",
}
"""What a command does in place of a call, and says in place of fields that no single option sets: patterns."""


def explained(problem: Problem, context: typer.Context | None) -> str:
    """A problem in words: its title, and its detail or the faults of the request."""
    if not problem.errors:
        return f"{problem.title}: {problem.detail if context is None else _reworded(problem.detail)}"
    options = {} if context is None or context.params.get("body") else options_of(context)
    faults = dict.fromkeys(f"  {_words(fault, options)}" for fault in problem.errors)  # an option may set many fields
    return "\n".join([f"{problem.title}:", *faults])


def options_of(context: typer.Context) -> dict[str, str]:
    """The options of a command by the fields that they set: parameters are named as the fields of the request."""
    own = {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if parameter.param_type_name == "option"
    }
    arguments = {str(parameter.name) for parameter in context.command.params} - own.keys()
    aliases = {field: option for field, option in ALIASES.items() if option in own.values()}
    return {name: name for name in arguments} | aliases | own


def option_of(location: str, options: Mapping[str, str]) -> str | None:
    """The option that sets what is at a location of the request, or None: `body.labels.0` is set by --label."""
    parts = _parts(location)
    for length in range(len(parts), 0, -1):
        if (option := options.get("_".join(parts[:length]))) is not None:
            return option
    return None


def _parts(location: str) -> list[str]:
    return [part for part in location.split(".")[1:] if not part.isdigit()]


def _words(fault: Fault, options: Mapping[str, str]) -> str:
    """A line about a fault, of an option if one is known."""
    message = _reworded(fault.message) if options else fault.message
    option = option_of(fault.location, options)
    if option is not None:
        return f"{option}: {_named(message, options, sure=False)}"
    parts = _parts(fault.location)
    inside = "".join(f"{part}_" for part in parts)
    within = {name.removeprefix(inside): option for name, option in options.items() if name.startswith(inside)}
    changed = _named(message, within, sure=True)
    # Of a whole request, its message is enough: the command has no body.
    if "--" in changed or (options and not parts):
        return changed
    return f"{', '.join(within.values()) or fault.location}: {message}"


def _reworded(message: str) -> str:
    """A message with commands in place of calls."""
    for http, command in WORDINGS.items():
        message = re.sub(http, command, message)
    return message


def _named(message: str, options: Mapping[str, str], *, sure: bool) -> str:
    """A message with options in place of fields; of words that may mean something else only where `sure`."""
    for name, option in options.items():
        if not option.startswith("--"):
            continue
        word = rf"(?<![\w'-]){re.escape(name)}(?![\w'-])"
        if name == "of":
            word = rf"{word}(?= ')|(?<=\bleave ){word}(?= out)"
        elif not sure and "_" not in name:
            word = rf"(?<=\bleave ){word}(?= out)|(?:(?<=\bwith )|(?<=\bgive )){word}(?=$|[,;])"
        message = re.sub(word, option, message)
    return message
