"""The result of the job `anatomy`: what a large transformer's AdaLN takes, and what could stand in its place."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.results import Result

__all__ = ["AnatomyResult", "LinearGroup", "Rank", "Ranks", "Replacement", "TransformerUsed"]


class TransformerUsed(Result):
    """The large transformer that a result is of, and the state of its files."""

    name: str = Field(description="The name of the model.")
    files_digest: str = Field(
        description="The sha256 of the names, sizes, times of modification and headers of its files. Their values are "
        "not in it: it changes also where a file is written anew as it was."
    )


class LinearGroup(Result):
    """Linear layers that read SiLU(c), with one name but for the number of the block, and one shape."""

    name: str = Field(description="Their name, with `*` for the number of the block.")
    count: int = Field(description="How many there are.")
    inputs: int = Field(description="The width of c.")
    outputs: int = Field(description="How many rows each has.")
    pieces: list[str] = Field(description="What the output is cut into: shifts, scales and gates, in order.")
    parameters: int = Field(description="The parameters of all of them together, with biases.")


class Rank(Result):
    """How many directions an error needs."""

    error: float = Field(
        description="The root mean square of the change of all shifts, scales and gates, relative to their part that "
        "depends on c."
    )
    rank: int = Field(description="The smallest number of directions of SiLU(c) with at most this error.")


class Ranks(Result):
    """How many directions the time's curve of SiLU(c) needs, the guidance and the pooled text held as they are."""

    needed: list[Rank] = Field(description="The rank for each error, the largest error first.")
    errors: list[float] = Field(
        description="The error by the number of directions: of none, of 1, and so on to the last of `needed`."
    )
    times: int = Field(description="At how many times, spread evenly over what a pipeline may pass, it was measured.")
    rows: int = Field(description="How many rows of the layers were read; the ranks are estimates if not all were.")
    of_rows: int = Field(description="How many rows the layers have.")


class Replacement(Result):
    """What AdaLN would take if it read fewer columns."""

    what: Literal["rank", "steps"] = Field(
        description="`rank` for directions that serve any time, `steps` for the exact table of a schedule."
    )
    number: int = Field(description="The rank, or the number of steps.")
    error: float | None = Field(description="The error as in `ranks`; null if it was not measured.")
    columns: int = Field(description="How many columns each layer reads.")
    parameters: int = Field(description="The parameters of all of it.")
    bytes: int = Field(description="Its bytes, in the types of AdaLN as it is.")
    saved_bytes: int = Field(description="By how many bytes that is less than AdaLN; negative if it is more.")


class AnatomyResult(Result):
    """The anatomy of a large transformer."""

    model: TransformerUsed
    name: str = Field(description="The name of its class in diffusers.", examples=["FluxTransformer2DModel"])
    models: str = Field(description="Models of this class.")
    naming: str = Field(description="Whose names the tensors have, such as `diffusers`.")
    parameters: int = Field(description="How many parameters it has.")
    bytes: int = Field(description="The bytes of all of them.")
    adaln_parameters: int = Field(description="The parameters of all linear layers that read SiLU(c).")
    adaln_bytes: int = Field(description="Their bytes.")
    adaln_share: float = Field(description="adaln_parameters / parameters, from 0 to 1.")
    adaln_types: list[str] = Field(
        description="The types of AdaLN's weights, the most frequent first, as safetensors names them.",
        examples=[["BF16"]],
    )
    embedder_parameters: int = Field(description="The parameters of what makes c.")
    condition_dim: int = Field(description="The width of c.")
    depends_on: list[str] = Field(description="What c is the sum of, the time first.", examples=[["time", "guidance"]])
    time_range: list[float] = Field(description="The first and the last of the times that diffusers' pipeline passes.")
    time_factor: float = Field(description="What a time is multiplied with before its sinusoids are taken.")
    linears: list[LinearGroup] = Field(description="The linear layers that read SiLU(c).")
    ranks: Ranks | None = Field(description="The ranks that errors need; null if they were not measured.")
    unmeasured: str | None = Field(description="Why there are no ranks; null if there are.")
    replacements: list[Replacement] = Field(
        description="Each rank of `ranks`, or rank 64 if there are none; then the exact table of 50 steps."
    )
    recommendation: str = Field(description="What to put in place of AdaLN, in words.")
