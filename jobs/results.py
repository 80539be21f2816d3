"""What comes out of a job, by kind; written by workers, documented in `openapi.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.registry.compacted import Rule
from jobs.requests.fields import FigureName, Part
from tailprune.spec.prune import PruneSpec

__all__ = [
    "Change",
    "CompactResult",
    "CompactTiming",
    "Compared",
    "Cosine",
    "Covered",
    "Drift",
    "Embedding",
    "Engine",
    "ExtractResult",
    "Extracted",
    "FigureResult",
    "Histogram",
    "Image",
    "MetricsResult",
    "ModelUsed",
    "Pictures",
    "PruneSampleResult",
    "Removed",
    "Result",
    "Sound",
    "Sparsity",
    "Timing",
    "Variance",
    "Variant",
]


class Result(BaseModel):
    """What every part of a result is."""

    model_config = ConfigDict(extra="forbid")


class ModelUsed(Result):
    """The model that a result came from."""

    name: str
    digest: str = Field(
        description="sha256 of its checkpoint; of the condition tensors of a safetensors file, or of the record of its "
        "training, where no more was read."
    )


class Removed(Result):
    """How many components of `c` were removed from a vector, over the vectors that were pruned."""

    mean: float
    min: int
    max: int
    fraction: float = Field(description="mean / d, in [0, 1].")
    by_step: list[float] = Field(description="The mean at each step of sampling; 0 where nothing was pruned.")


class Embedding(Result):
    """The condition vectors before and after the prune."""

    npr_before: float
    npr_after: float
    cosine_before: float | None = Field(description="Mean pairwise cosine; null where there is one vector.")
    cosine_after: float | None


class Drift(Result):
    """How far the samples moved from the unpruned ones."""

    latent: float = Field(description="|pruned - baseline| / |baseline| of the latents.")
    psnr: float | None = Field(description="Of the decoded images, in dB; null where they are equal.")
    ssim: float | None = Field(
        description="Wang's, of the decoded images, in [-1, 1]; null for images of a side below 11 and, as PSNR, where "
        "each picture is in colours of its own."
    )


class Image(Result):
    """One sample as a picture."""

    label: int | None = Field(description="Null for a model that takes conditions.")
    class_name: str | None
    condition: int | None = Field(default=None, description="The row of the condition, for a model that takes them.")
    sample: int = Field(description="Which of the label's or condition's samples, from 0.")
    artifact: str


class Sound(Result):
    """One sample as sound."""

    condition: int
    sample: int
    seconds: float
    artifact: str = Field(description="A WAV file.")


class Pictures(Result):
    """What the pictures of a result are."""

    show: Literal["image", "latents", "spectrogram"] = Field(
        description="The samples as images, or a sound's spectrogram; the latents themselves where no decoder is there."
    )
    decoder: str = Field(description="The decoder that made them.")
    note: str | None = Field(description="Why they show no more, where the model's own decoder is not there.")


class Variant(Result):
    """The samples of one prune, or of none (the baseline)."""

    name: str
    prune: PruneSpec | None = Field(description="Null for the baseline.")
    removed: Removed | None = None
    embedding: Embedding | None = None
    drift: Drift | None = Field(default=None, description="Null for the baseline and without `compare`.")
    images: list[Image]
    sounds: list[Sound] = Field(default_factory=list)
    latents: str = Field(description="The artifact with the final latents (safetensors).")


class Timing(Result):
    """Where the time went, in seconds."""

    queue: float
    load: float
    sample: float = Field(description="Of the batch, where jobs shared one.")
    decode: float
    samples_per_second: float = Field(
        description="This job's samples, over all variants, by `sample`: the rates of jobs that shared a batch add up."
    )
    batch_jobs: int = Field(default=1, ge=1, description="How many jobs shared the batch; 1 is this one alone.")


class Engine(Result):
    """What the job ran on."""

    device: str
    dtype: str = Field(description="What the blocks of the network computed in; its condition always is float32.")
    dtype_drift: float | None = Field(
        default=None,
        description="|latents - those in float32| / |those in float32|, of one unpruned sample of this model, sampled "
        "so; null in float32.",
    )
    versions: dict[str, str]


class PruneSampleResult(Result):
    """The samples of every variant, what was removed and what that did."""

    model: ModelUsed
    pictures: Pictures
    variants: list[Variant]
    grid: str = Field(description="The artifact with all samples in one picture, the baseline on top.")
    timing: Timing
    engine: Engine


class Cosine(Result):
    """Cosine over all pairs of vectors."""

    mean: float
    min: float
    max: float


class Sparsity(Result):
    """The fraction of components below a threshold."""

    threshold: float
    fraction: float


class Histogram(Result):
    """Counts of magnitudes; `edges` has one entry more than `counts`."""

    edges: list[float]
    counts: list[int]


class Variance(Result):
    """The variance of each component over the vectors."""

    components: list[float]
    components_for: dict[str, int] = Field(
        description="How few components hold this share of the summed variance.", examples=[{"0.9": 12}]
    )


class MetricsResult(Result):
    """Statistics of condition vectors."""

    model: ModelUsed
    part: Part
    timestep: float | None
    count: int = Field(description="Vectors measured.")
    dim: int = Field(description="Their width d.")
    cosine: Cosine
    pr: float = Field(description="Participation ratio, the mean over the vectors.")
    npr: float = Field(description="pr / d, in [0, 1].")
    norm: float = Field(description="Mean Euclidean norm.")
    sparsity: list[Sparsity]
    histogram: Histogram
    variance: Variance


class Extracted(Result):
    """How many vectors were extracted."""

    timesteps: int = Field(description="T; 0 where the parts depend on no time.")
    inputs: int = Field(description="N, classes or conditions; 0 where the parts depend on none.")
    dim: int = Field(description="Their width d.")


class ExtractResult(Result):
    """Condition vectors, in a safetensors file."""

    model: ModelUsed
    artifact: str = Field(description="The safetensors file.")
    shapes: dict[str, list[int]] = Field(
        description="Its tensors: c (T, N, d), y (N, d), t (T, d), timesteps (T), and labels or conditions (N).",
        examples=[{"c": [1, 100, 128], "y": [100, 128], "t": [1, 128], "timesteps": [1], "labels": [100]}],
    )
    counts: Extracted
    bytes: int = Field(description="The size of the file.")


class FigureResult(Result):
    """A figure in both formats."""

    model: ModelUsed
    figure: FigureName
    caption: str = Field(description="What the figure shows, in a sentence or two.")
    png: str = Field(description="The artifact with the figure as PNG.")
    svg: str = Field(description="The artifact with the figure as SVG.")
    samples: int = Field(
        description="How many samples were made for it, over all rows; 0 of other figures than removal."
    )


class Change(Result):
    """A number of the whole model, and of the compacted one."""

    before: int
    after: int


class Covered(Result):
    """What a compacted model was made for."""

    timesteps: list[float] = Field(description="The times, in the model's own time.")
    labels: list[int] | None = Field(description="The classes; null for a model that takes conditions.")
    conditions: int | None = Field(description="How many conditions, for a model that takes them.")
    guided: bool = Field(description="Whether the null condition too.")
    guidance_scale: float | None = Field(
        default=None, description="The one scale that a model was told which takes it as an input; null for any other."
    )


class Compared(Result):
    """How far the compacted model's samples are from the whole model's, and how both were made."""

    drift: Drift
    samples: int = Field(description="How many, each of a label or condition of its own.")
    sampler: str
    steps: int
    guidance_scale: float


class CompactTiming(Result):
    """Where the time went, in seconds."""

    queue: float
    load: float
    compact: float
    store: float
    compare: float


class CompactResult(Result):
    """A compacted model: what it is called, what was removed, and what that cost."""

    model: ModelUsed = Field(description="The model that was compacted.")
    compacted: ModelUsed = Field(description="The model that was made of it, for requests to name.")
    by: Rule = Field(description="By what it was chosen what stays.")
    fill: Literal["zero", "mean"]
    components: int = Field(description="The width d of the condition vectors.")
    kept: int = Field(description="How many components, or principal directions, AdaLN still reads.")
    kept_components: list[int] | None = Field(description="Which components; null for directions.")
    time_columns: int = Field(description="How many columns besides tell AdaLN of the mean, by the time.")
    width: int = Field(description="All columns that AdaLN reads, in place of d.")
    bias_error: float | None = Field(
        description="How far off what the blocks are told of the mean is at the covered times, relative to all of it; "
        "null where components stand at zero, and of directions."
    )
    covered: Covered
    parameters: Change
    adaln_parameters: Change
    bytes: Change = Field(description="The sizes of the checkpoints' files.")
    compared: Compared
    samples: str = Field(description="The artifact with the samples of both, the whole model's above.")
    checkpoint: str = Field(description="The artifact with the checkpoint (safetensors).")
    card: str = Field(description="The artifact that says in words what was made of what (Markdown).")
    timing: CompactTiming
    engine: Engine
