"""The results of jobs, by kind; workers write them, `openapi.yaml` documents them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.requests.base import Reads
from jobs.requests.fields import FigureName, Part
from tailprune.spec.compaction import CompactFill, CompactRule
from tailprune.spec.display import Shown
from tailprune.spec.prune import PruneSpec

__all__ = [
    "CONDITION_DIGEST",
    "DIGEST",
    "DIGEST_OF",
    "MODULATION_DIGEST",
    "BelowOverTime",
    "Change",
    "CompactResult",
    "CompactTiming",
    "Compared",
    "Cosine",
    "CosineMatrix",
    "CosineOfPairs",
    "CosineOverTime",
    "CosineResult",
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
    "Modulation",
    "OverTime",
    "OverTimeResult",
    "Pictures",
    "PruneRemoval",
    "PruneSampleResult",
    "RegisterResult",
    "RemovalResult",
    "Removed",
    "Result",
    "Sound",
    "Sparsity",
    "Statistics",
    "Timing",
    "Variance",
    "Variant",
]


NPR = (
    "nPR is the normalised participation ratio of a vector v with d components, (sum |v_i|)^2 / (d * sum v_i^2): from "
    "1 / d for a single component that is not 0, to 1 for components of equal magnitude. It is that of magnitudes, not "
    "that of squares, (sum v_i^2)^2 / (d * sum v_i^4), which is never larger."
)
DIGEST = "The sha256 of the whole checkpoint: of its file, or of the names and contents of the files of its folder."
CONDITION_DIGEST = (
    "The sha256 of the tensors alone that make condition vectors, with their names and shapes. It equals `digest` for "
    "checkpoints that are not safetensors files, and for compacted models."
)
MODULATION_DIGEST = (
    "The sha256 of the condition's and AdaLN's tensors alone, with their names and shapes. It equals `digest` where "
    "`condition_digest` does."
)
DIGEST_OF: Mapping[Reads, str] = {
    "model": "digest",
    "condition": "condition_digest",
    "named condition": "condition_digest",
    "modulation": "modulation_digest",
    "training": "training_digest",
}
"""The field of `ModelUsed` that has the digest of a part of a model."""


class Result(Shown, BaseModel):
    """The base of every part of a result."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, defer_build=True)

    def shown(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def __str__(self) -> str:
        return repr(self)


class ModelUsed(Result):
    """The model that a result is of, with the digest of the part of it that the result depends on; the others are null.

    Results of the same digest are of the same weights. `GET /models/{model}` has the digests of a model as it is now.
    """

    name: str = Field(description="The name of the model.")
    digest: str | None = Field(default=None, description=DIGEST)
    condition_digest: str | None = Field(default=None, description=CONDITION_DIGEST)
    modulation_digest: str | None = Field(default=None, description=MODULATION_DIGEST)
    training_digest: str | None = Field(
        default=None, description="The sha256 of the record of its training, of which the figure `training` is."
    )

    @classmethod
    def of(cls, name: str, reads: Reads, digest: str) -> Self:
        """The model of a result. reads: the part of the model that the result depends on; digest: of that part."""
        return cls.model_validate({"name": name, DIGEST_OF[reads]: digest})


class Removed(Result):
    """How many components of `c` were removed from each vector, over all pruned vectors."""

    mean: float = Field(description="The mean number of removed components.")
    min: int = Field(description="The least number.")
    max: int = Field(description="The greatest number.")
    fraction: float = Field(description="mean / d, from 0 to 1.")
    by_step: list[float] = Field(description="The mean number at each sampling step; 0 at steps without pruning.")
    threshold: float | None = Field(
        default=None,
        description="The threshold of the prune: for `remove_fraction`, what that came to. Null where a number or a "
        "share of the components is kept, and where `prune` has one for each step.",
    )


class Embedding(Result):
    """Statistics of the condition vectors before and after the prune."""

    npr_before: float = Field(description=f"The mean nPR of the unpruned vectors. {NPR}")
    npr_after: float = Field(description="The mean nPR of the pruned vectors, by the same formula and the same d.")
    cosine_before: float | None = Field(
        description="The mean cosine over all pairs of unpruned vectors; null for a single vector."
    )
    cosine_after: float | None = Field(description="The same of the pruned vectors.")


class Drift(Result):
    """How far the samples are from the unpruned ones."""

    latent: float = Field(description="|pruned - baseline| / |baseline|, the Euclidean norms over all latents.")
    psnr: float | None = Field(
        description="The PSNR of the decoded images, in dB; null if they are equal, and for pictures of principal "
        "components of latents, each of which has its own colours."
    )
    ssim: float | None = Field(
        description="The structural similarity (Wang et al.) of the decoded images, from -1 to 1; null for images with "
        "a side below 11 pixels, and where PSNR cannot compare pictures."
    )


class Image(Result):
    """One sample as a picture."""

    label: int | None = Field(description="The class label; null for a model that takes conditions.")
    class_name: str | None = Field(description="The name of the class; null if it has none.")
    condition: int | None = Field(
        default=None, description="The row of the condition; null for a model that takes labels."
    )
    sample: int = Field(description="The number of the sample among those of its label or condition, from 0.")
    artifact: str = Field(description="The name of the artifact (PNG).")


class Sound(Result):
    """One sample as sound."""

    condition: int = Field(description="The row of the condition.")
    sample: int = Field(description="The number of the sample among those of its condition, from 0.")
    seconds: float = Field(description="The length of the sound.")
    artifact: str = Field(description="The name of the artifact (WAV).")


class Pictures(Result):
    """What the pictures of a result show."""

    show: Literal["image", "latents", "spectrogram"] = Field(
        description="The samples as images, the spectrograms of sounds, or the latents if the model's decoder is "
        "missing."
    )
    decoder: str = Field(description="The decoder that made them.")
    note: str | None = Field(
        description="Why they show the latents: which files of the model's decoder are missing; null otherwise."
    )


class Variant(Result):
    """The samples of one prune, or of none (the baseline)."""

    name: str = Field(description="The prune in words, or `baseline`.")
    prune: PruneSpec | None = Field(description="The prune; null for the baseline.")
    removed: Removed | None = Field(default=None, description="What was removed; null for the baseline.")
    embedding: Embedding | None = Field(default=None, description="Null for the baseline.")
    drift: Drift | None = Field(default=None, description="Null for the baseline, and for all without `compare`.")
    images: list[Image] = Field(description="A picture of each sample.")
    sounds: list[Sound] = Field(default_factory=list, description="Each sample as sound, of models that make sound.")
    latents: str = Field(description="The name of the artifact with the final latents (safetensors).")


class Timing(Result):
    """The time that each part of the job took, in seconds."""

    queue: float = Field(description="From the creation of the job to its start.")
    load: float = Field(description="Loading the model; close to 0 if it was in memory.")
    sample: float = Field(description="Sampling, of the whole batch if jobs shared one.")
    decode: float = Field(description="Decoding the latents, measuring the drift and storing the artifacts.")
    samples_per_second: float = Field(
        description="The samples of this job, over all variants, divided by `sample`. The rates of jobs that shared a "
        "batch add up."
    )
    batch_jobs: int = Field(default=1, ge=1, description="How many jobs shared the batch, this one included.")


class Engine(Result):
    """The device, the precision and the software that made a result."""

    device: str = Field(description="The device, such as cpu or cuda:0.")
    dtype: str = Field(
        description="The precision in which the blocks of the network computed; conditions are always float32."
    )
    dtype_drift: float | None = Field(
        default=None,
        description="How far this precision moves one unpruned sample of the model, sampled with the same settings: "
        "the norm of the difference from the float32 latents, divided by the norm of those. Null in float32.",
    )
    bfloat16_speed: float | None = Field(
        default=None,
        description="For bfloat16 on a CPU, its speed as a multiple of float32's, as measured on the worker's machine "
        "for the products, attention and GELU of this model; below 1 it is slower. Null in float32, on a GPU, and "
        "where nothing was measured.",
    )
    kernels: dict[str, str] = Field(
        default_factory=dict,
        description="On a CPU, the form of each layer of the network, as it was measured fastest on the worker's "
        "machine, by the layer's kind, sizes and precision; empty where nothing was measured, and layers are torch's "
        "own.",
    )
    versions: dict[str, str] = Field(description="The versions of the software, by package.")


class PruneSampleResult(Result):
    """The samples of every variant, what was removed from their conditions, and how far that moved them."""

    model: ModelUsed
    pictures: Pictures
    variants: list[Variant] = Field(description="One for each prune, and the baseline if `compare` is true.")
    grid: str = Field(
        description="The name of the artifact that shows the variants in one picture, a row each, the baseline on top."
    )
    timing: Timing
    engine: Engine


class Cosine(Result):
    """The cosine similarity over all pairs of vectors."""

    mean: float = Field(description="The mean.")
    min: float = Field(description="The least.")
    max: float = Field(description="The greatest.")


class Sparsity(Result):
    """The fraction of components whose magnitude is below a threshold."""

    threshold: float = Field(description="The threshold.")
    fraction: float = Field(description="The fraction, from 0 to 1.")


class Histogram(Result):
    """A histogram of the magnitudes of all components."""

    edges: list[float] = Field(description="The edges of the bins: one more than there are counts.")
    counts: list[int] = Field(description="How many components lie in each bin.")


class Variance(Result):
    """The variance of each component over the vectors."""

    components: list[float] = Field(description="The variance of each component, in their order.")
    components_for: dict[str, int] = Field(
        description="The least number of components that hold this share of the total variance, by share.",
        examples=[{"0.9": 12}],
    )


class Statistics(Result):
    """Statistics of vectors of a part of the condition."""

    model: Result
    part: Part = Field(description="What was measured: the condition c, its input part y, or its time part t.")
    timestep: float | None = Field(
        description="The time at which c was measured; null for the parts y and t, and for vectors at many times."
    )
    count: int = Field(description="How many vectors were measured.")
    dim: int = Field(description="The width d of the vectors.")
    cosine: Cosine | None = Field(description="The cosine over all pairs of vectors; null for a single vector.")
    pr: float = Field(
        description="The participation ratio PR = (sum |v_i|)^2 / sum v_i^2, from 1 to d, averaged over the vectors."
    )
    npr: float = Field(description=f"The mean nPR of the vectors, which is `pr` / d. {NPR}")
    norm: float = Field(description="The mean Euclidean norm of the vectors.")
    sparsity: list[Sparsity] = Field(description="The sparsity at each threshold.")
    histogram: Histogram
    variance: Variance


class MetricsResult(Statistics):
    """Statistics of condition vectors."""

    model: ModelUsed


class CosineOverTime(Result):
    """The cosine over all pairs of vectors at each time."""

    mean: list[float] = Field(description="The mean at each time.")
    min: list[float] = Field(description="The least at each time.")
    max: list[float] = Field(description="The greatest at each time.")


class BelowOverTime(Result):
    """The share of components that a prune of the tail at a threshold removes at each time."""

    threshold: float = Field(description="The threshold.")
    fraction: list[float] = Field(description="The share of the components below it at each time, from 0 to 1.")
    mean: float = Field(description="The mean of these shares.")


FRACTION = "How much of sampling is done at each of these times, from 0 to 1."


class OverTime(Result):
    """Statistics of vectors at many times."""

    model: Result
    part: Literal["c"] = Field(default="c", description="What was measured: the condition c.")
    count: int = Field(description="How many vectors there are at each time.")
    dim: int = Field(description="The width d of the vectors.")
    timesteps: list[float] = Field(description="The times, in the model's own time, from noise to data.")
    fraction: list[float] = Field(description=FRACTION)
    cosine: CosineOverTime | None = Field(description="Null for a single vector.")
    npr: list[float] = Field(description=f"The mean nPR of the vectors at each time. {NPR}")
    pr: list[float] = Field(description="The mean participation ratio of the vectors at each time.")
    norm: list[float] = Field(description="The mean Euclidean norm of the vectors at each time.")
    removed: list[BelowOverTime] = Field(
        description="What prunes of the tail remove. The times are evenly spaced: those of a sampler may not be, and "
        "`/removal` has what is removed over its steps."
    )


class OverTimeResult(OverTime):
    """Statistics of condition vectors at many times."""

    model: ModelUsed


class CosineOfPairs(Result):
    """Of which vectors cosines are, and what they are over all pairs."""

    model: ModelUsed
    part: Part = Field(description="Of what: the condition c, its input part y, or its time part t.")
    timestep: float | None = Field(description="The time of c; null for the parts y and t.")
    count: int = Field(description="N, the number of vectors.")
    order: Literal["class", "likeness", "name"] = Field(description="The order of rows and columns.")
    mean: float = Field(description="The mean over all pairs.")
    min: float = Field(description="The least.")
    max: float = Field(description="The greatest.")


class CosineResult(CosineOfPairs):
    """The cosine of every pair of condition vectors, in files."""

    artifact: str = Field(description="The name of the artifact (safetensors): `cosine` (N, N) and `labels` (N).")
    matrix: str | None = Field(
        description="The name of the artifact with the same as JSON, a `CosineMatrix`; null for more vectors than that "
        "is made for."
    )


class CosineMatrix(CosineOfPairs):
    """The cosine of every pair of condition vectors."""

    labels: list[int] = Field(
        description="The label of each row and column; the row of uploaded conditions, or the number of a time, from 0."
    )
    names: list[str] = Field(description="Their names: of classes, or else numbers; times of part t.")
    values: list[list[float]] = Field(description="The cosines, row by row, from -1 to 1.")


class Modulation(Result):
    """How much a prune changes the modulations of a run: the shifts, scales and gates that AdaLN makes of `c`.

    All numbers are relative to the root mean square of the modulations over the run, as far as they depend on `c`.
    """

    error: float = Field(
        description="The modulation error: the root mean square of the change over the vectors and steps of the run."
    )
    by_step: list[float] = Field(
        description="The same at each sampling step; 0 at steps without pruning. Their root mean square is `error`."
    )
    largest: float = Field(description="The change of the vector of the run that changes most.")
    bound: float | None = Field(
        description="No vector changes by more, whichever class and time it is of. Only prunes of the tail by a "
        "threshold or a share, filled with zero, have one: of all others it is null."
    )


class PruneRemoval(Result):
    """What one prune removes over a sampling run, and what that changes."""

    name: str = Field(description="The prune in words.")
    prune: PruneSpec = Field(description="The prune.")
    removed: Removed
    embedding: Embedding
    modulation: Modulation | None = Field(
        default=None,
        description="What it changes in the modulations; null for a checkpoint of the condition alone, without AdaLN.",
    )


class RemovalResult(Result):
    """What prunes remove from condition vectors over a sampling run."""

    model: ModelUsed
    sampler: str = Field(description="The sampler of the run.")
    steps: int = Field(description="The number of its steps.")
    timesteps: list[float] = Field(description="The time of each step, in the model's own time, from noise to data.")
    fraction: list[float] = Field(description=FRACTION)
    labels: list[int] | None = Field(description="The labels of the vectors; null for a model that takes conditions.")
    conditions: list[int] | None = Field(
        description="The rows of the conditions of the vectors; null for a model that takes labels."
    )
    prunes: list[PruneRemoval] = Field(description="The prunes, in the order in which they were asked for.")


class Extracted(Result):
    """How many vectors were extracted."""

    timesteps: int = Field(description="T, the number of times; 0 if only the part y was extracted.")
    inputs: int = Field(description="N, the number of classes or conditions; 0 if only the part t was extracted.")
    dim: int = Field(description="The width d of the vectors.")


class ExtractResult(Result):
    """Condition vectors, in a safetensors file."""

    model: ModelUsed
    artifact: str = Field(description="The name of the artifact (safetensors).")
    shapes: dict[str, list[int]] = Field(
        description="The shapes of its tensors: c (T, N, d), y (N, d), t (T, d), timesteps (T), and labels or "
        "conditions (N).",
        examples=[{"c": [1, 100, 128], "y": [100, 128], "t": [1, 128], "timesteps": [1], "labels": [100]}],
    )
    counts: Extracted
    bytes: int = Field(description="The size of the file in bytes.")


class FigureResult(Result):
    """A figure, as PNG and as SVG."""

    model: ModelUsed
    figure: FigureName = Field(description="Which figure it is.")
    caption: str = Field(description="What the figure shows, in a sentence or two.")
    png: str = Field(description="The name of the artifact with the figure as PNG.")
    svg: str = Field(description="The name of the artifact with the figure as SVG.")
    data: str | None = Field(
        default=None,
        description="The name of the artifact with the numbers behind the figure as JSON, a `FigureNumbers`; null for "
        "a figure of more cosines than that is made for.",
    )
    samples: int = Field(
        description="How many samples were made for the figure, over all its rows; 0 for all figures but `removal`."
    )


class Change(Result):
    """A number before and after the compaction."""

    before: int = Field(description="Of the model that was compacted.")
    after: int = Field(description="Of the compacted model.")


class Covered(Result):
    """The times and inputs that a compacted model was made for."""

    timesteps: list[float] = Field(description="The times, in the model's own time.")
    labels: list[int] | None = Field(description="The class labels; null for a model that takes conditions.")
    conditions: int | None = Field(description="How many conditions; null for a model that takes labels.")
    guided: bool = Field(description="Whether the null condition, which guided sampling needs, is covered too.")
    guidance_scale: float | None = Field(
        default=None,
        description="The covered guidance scale, of a model that takes the scale as an input; null for others.",
    )


class Compared(Result):
    """How far the compacted model's samples are from the original model's, and how both were sampled."""

    drift: Drift
    samples: int = Field(description="How many samples were compared, each of another label or condition.")
    sampler: str = Field(description="The sampler.")
    steps: int = Field(description="The number of sampling steps.")
    guidance_scale: float = Field(description="The guidance scale; 1 is unguided.")


class RegisterResult(Result):
    """A model that was added: what its checkpoint is."""

    model: ModelUsed = Field(description="The model, by the name under which requests can use it.")
    family: str = Field(description="The family of systems that it belongs to.")
    size: str | None = Field(description="The size as published, such as XL/2; null for any other.")
    parameters: int = Field(description="How many parameters the checkpoint has.")
    condition_dim: int = Field(description="The width d of the condition vectors.")
    latent_shape: list[int] = Field(description="The shape of a latent: channels, height, width.")
    classes: int | None = Field(description="How many class labels it has; null for a model that takes conditions.")
    null_condition: bool = Field(description="Whether it has a null condition, which guidance needs.")
    assumptions: list[str] = Field(
        description="What this rests on besides the tensors, and the field of the request that says otherwise; for "
        "people, and may change."
    )


class CompactTiming(Result):
    """The time that each part of the job took, in seconds."""

    queue: float = Field(description="From the creation of the job to its start.")
    load: float = Field(description="Loading the model; close to 0 if it was in memory.")
    compact: float = Field(description="Computing the smaller weights.")
    store: float = Field(description="Writing and storing the checkpoint.")
    compare: float = Field(description="Sampling both models and comparing the samples.")


class CompactResult(Result):
    """A compacted model: its name, what was removed, and how its samples differ from the original model's."""

    model: ModelUsed = Field(description="The model that was compacted.")
    compacted: ModelUsed = Field(description="The compacted model, by the name under which requests can use it.")
    by: CompactRule = Field(description="The rule that chose the components or directions that stay.")
    fill: CompactFill = Field(
        description="What takes the place of the removed components: zero, their mean over the classes at each time, "
        "or (`refit`) their prediction from the components that are kept."
    )
    components: int = Field(description="The width d of the condition vectors.")
    kept: int = Field(description="How many components, or principal directions, AdaLN still reads.")
    kept_components: list[int] | None = Field(description="The indices of the kept components; null for directions.")
    time_columns: int = Field(description="How many further columns give AdaLN the mean as a function of time.")
    width: int = Field(description="How many columns AdaLN reads in all, instead of d.")
    bias_error: float | None = Field(
        description="The relative error of the mean's contribution to the blocks, over the covered times; null for any "
        "other fill and for directions."
    )
    covered: Covered
    parameters: Change = Field(description="The parameters of the whole model.")
    adaln_parameters: Change = Field(description="The parameters of AdaLN alone.")
    bytes: Change = Field(description="The sizes of the checkpoint files in bytes.")
    compared: Compared
    samples: str = Field(description="The name of the artifact with the samples of both, the original model's on top.")
    checkpoint: str = Field(description="The name of the artifact with the checkpoint (safetensors).")
    card: str = Field(description="The name of the artifact that describes the compacted model (Markdown).")
    timing: CompactTiming
    engine: Engine
