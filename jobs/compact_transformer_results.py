"""The result of the job `compact-transformer`: a large transformer with a smaller AdaLN, and how large its error is."""

from __future__ import annotations

from pydantic import Field

from jobs.anatomy_results import TransformerUsed
from jobs.results import Change, Result

__all__ = ["CompactTransformerResult", "CompactTransformerTiming"]


class CompactTransformerTiming(Result):
    """The time that each part of the job took, in seconds."""

    queue: float = Field(description="From the creation of the job to its start.")
    compact: float = Field(
        description="Reading the model and writing the smaller one, in the last attempt if it was interrupted."
    )
    store: float = Field(description="Storing its files.")


class CompactTransformerResult(Result):
    """A compacted large transformer. Its files are artifacts, which together are a folder in diffusers' layout."""

    model: TransformerUsed = Field(description="The model that was compacted.")
    name: str = Field(description="The name of its class in diffusers.", examples=["FluxTransformer2DModel"])
    rank: int = Field(description="How many directions AdaLN reads in place of SiLU(c).")
    covers: str = Field(
        description="The times and inputs that it was made for; for people, and may change.",
        examples=["the plain schedules of 28 steps, guidance 3.5, no pooled text"],
    )
    error: float = Field(
        description="The root mean square error of all shifts, scales and gates over what is covered, relative to "
        "their part that depends on c, in the type in which they are stored."
    )
    worst_error: float = Field(description="The same at the worst of what is covered.")
    error_between: float | None = Field(
        description="The worst at times halfway between covered ones; null if it was not measured."
    )
    text_error: float | None = Field(
        default=None,
        description="How much of the shifts, scales and gates it changes that all pooled texts count as one, over some "
        "of `population`; in none of the other errors. Null where they do not, or without a population.",
    )
    parameters: Change = Field(description="The parameters of the whole model.")
    adaln_parameters: Change = Field(description="The parameters of AdaLN, after it with the directions.")
    bytes: Change = Field(description="The bytes of all tensors of its files of weights.")
    dtype: str = Field(description="The type of AdaLN's weights, as safetensors names it.", examples=["BF16"])
    read_dtypes: list[str] = Field(description="The types that they have in the model that was compacted.")
    notes: list[str] = Field(
        default=[],
        description="What is to be known besides, as the card has it: how the files were read where they can be read "
        "in several ways, what of them is left out, and where AdaLN is written in another type. For people, and may "
        "change.",
        examples=[["The rows of q, k and v in qkv_proj were taken to be stacked."]],
    )
    sources: dict[str, str] = Field(description="The sha256 of each file of weights that was read, by its name.")
    files: dict[str, str] = Field(description="The sha256 of each file of the folder, by its name; all are artifacts.")
    card: str = Field(description="The name of the artifact that describes it (Markdown).")
    account: str = Field(description="The name of the artifact with the numbers, by which it is verified (JSON).")
    timing: CompactTransformerTiming
