"""The vocabulary of the science, without torch, for every other package to import.

    families      the facts of each architecture family: samplers, times, inputs, how its authors sample
    prune         the grammar of prunes
    display       how results look where they are printed
    hub           addresses of files on the Hugging Face hub
    layouts       the names of the files that checkpoints and decoders consist of
    registry      where the registry of models is
    safetensors   reader and writer of the format's header
    transformers  the classes of large transformers: what makes c of each, and what reads it

An error in what the caller gave is an `InputError`, raised where the fact is known; any other exception is a bug.
"""

from __future__ import annotations

__all__ = ["InputError", "MissingFileError"]


class InputError(ValueError):
    """An argument or a file that cannot be used; the message names the value, the limit and the way out."""


class MissingFileError(InputError, FileNotFoundError):
    """A required file does not exist; the message names it, and how to get it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
