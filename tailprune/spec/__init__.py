"""What the rooms share, without torch: the vocabulary of the science.

`families`      the facts of each architecture family: samplers, times, inputs, how its authors sample
`prune`         the grammar of prunes
`hub`           addresses of files on the Hugging Face hub
`layouts`       the names of the files that checkpoints and decoders are made of
`safetensors`   the one reader and writer of the format's header

Errors that whoever asked can mend are of one type, `InputError`, raised where the fact is known; all others are bugs.
"""

from __future__ import annotations

__all__ = ["InputError", "MissingFileError"]


class InputError(ValueError):
    """What was asked for cannot be done; the message names the value, the limit and the way out."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that is needed is not there; the message names it, and how to have it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
