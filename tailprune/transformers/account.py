"""What a compacted folder says of itself: in numbers, and as a card."""

from __future__ import annotations

from dataclasses import dataclass

from tailprune.spec.display import Shown
from tailprune.transformers.describe import in_words
from tailprune.transformers.writing import MODELING

__all__ = ["CARD", "COMPACTION", "Written", "card_of"]

COMPACTION = "compaction.json"
"""The file with the numbers."""
CARD = "README.md"


@dataclass(frozen=True, repr=False)
class Written(Shown):
    """A compacted transformer, and what it was measured to be."""

    path: str
    name: str
    """diffusers' name of its class."""
    rank: int
    covers: str
    """What it covers, as a text."""
    error: float
    """The root mean square error of the modulations over what is covered, relative to their part that depends on c."""
    worst_error: float
    """The same at the worst of them."""
    error_between: float | None
    """The worst at times halfway between covered ones; None if it was not measured."""
    text_error: float | None
    """What it changes that all pooled texts count as one, over the population; None where they do not, or there is no
    population. It is in none of the other errors."""
    parameters: tuple[int, int]
    """Of the whole model, before and after."""
    adaln_parameters: tuple[int, int]
    """Of AdaLN, before and after, the directions in."""
    bytes: tuple[int, int]
    """Of the files of weights, before and after."""
    dtype: str
    """The type of AdaLN's weights."""
    read_dtypes: tuple[str, ...]
    """The types of AdaLN's weights in the source."""
    sources: dict[str, str]
    """The sha256 of each file that was read."""
    files: dict[str, str]
    """The sha256 of each file that was written."""
    notes: tuple[str, ...] = ()
    """How the source was read, where it can be read in several ways, what of its files is left out, and where AdaLN is
    written in another type, as sentences."""


def card_of(written: Written) -> str:
    """The card of a compacted folder, in Markdown."""
    saved = written.bytes[0] - written.bytes[1]
    between = (
        ""
        if written.error_between is None
        else f"Halfway between covered times it is up to {written.error_between:.2g}.\n"
    )
    if written.text_error is not None:
        between += f"That all pooled texts count as one changes them by another {written.text_error:.2g}.\n"
    notes = "".join(f"- {note}\n" for note in written.notes)
    notes = f"\nNotes:\n\n{notes}" if notes else ""
    return f"""# {written.name}, compacted

AdaLN reads {written.rank} directions of SiLU(c). Covered: {written.covers}.

The error of all shifts, scales and gates, relative to their part that depends on c, in the type that they are stored
in ({written.dtype}): {written.error:.2g} over what is covered, {written.worst_error:.2g} at worst.
{between}{notes}
| | before | after |
|---|---|---|
| parameters | {written.parameters[0]:,} | {written.parameters[1]:,} |
| of AdaLN | {written.adaln_parameters[0]:,} | {written.adaln_parameters[1]:,} |
| bytes | {written.bytes[0]:,} | {written.bytes[1]:,} |

{in_words(saved)} less. `{COMPACTION}` has the same in numbers, with the sha256 of each file read and written.

Load it in Python with tailprune and diffusers, `tailprune.load_transformer(FOLDER)`, or with diffusers alone,
`AutoModel.from_pretrained(FOLDER, trust_remote_code=True)`, which runs `{MODELING}`. Check it against the whole model:
`python -m tailprune verify FOLDER --against SOURCE`.
"""
