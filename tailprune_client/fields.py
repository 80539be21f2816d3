"""The fields of requests, as the methods of a client take them; `jobs.requests` describes each.

What starts a job of a model takes the fields of `jobs.requests.subscriber.Subscriber` besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from jobs.registry.decoding import DecoderName
from jobs.registry.measures import ExtractorName, Measure
from jobs.requests.fields import Part
from jobs.requests.study import Grid, Search
from jobs.requests.subscriber import WebhookEvent
from tailprune.spec.compaction import CompactBy, CompactFill
from tailprune.spec.prune import Block, By, Fill, Of, PruneSpec, Schedule, Side

__all__ = [
    "CompactFields", "EditFields", "ExtractFields", "FigureFields", "PruneSampleFields", "RegisterFields",
    "StudyFields",
]  # fmt: skip

Labels = Sequence[int | str]
Sampler = Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"]


class _Posted(TypedDict, total=False):
    webhook: str | None
    webhook_events: Sequence[WebhookEvent] | None


class _Sampled(_Posted, total=False):
    labels: Labels | None
    conditions: str | None
    rows: Sequence[int] | None
    samples_per_label: int | None
    seed: int
    sampler: Sampler | None
    steps: int | None
    guidance_scale: float | None
    guidance_interval: Sequence[float] | None
    guidance_power: float | None
    guided_channels: int | Literal["all"] | None
    modulation: Mapping[str, Any] | None
    timestep_shift: float | None
    diffusion: Literal["sigma", "linear"] | None
    last_step: Literal["mean", "tweedie"] | None
    precision: Literal["float32", "bfloat16", "auto"]


class PruneSampleFields(_Sampled, total=False):
    """The fields of `jobs.requests.prune_sample.PruneSampleRequest`."""

    threshold: float | Sequence[float] | None
    threshold_by_step: Sequence[float | None] | None
    remove_fraction: float | Sequence[float] | None
    keep: int | Sequence[int] | None
    keep_fraction: float | Sequence[float] | None
    by: By | None
    of: Of | None
    side: Side | None
    fill: Fill | None
    schedule: Schedule | Mapping[str, Any]
    blocks: Sequence[Block] | None
    compare: bool


class EditFields(_Sampled, total=False):
    """The fields of `jobs.requests.edit.EditRequest`, besides `source` and `target`."""

    strength: float | Sequence[float] | None
    components: int | None
    directions: int | None
    schedule: Schedule | Mapping[str, Any]


class StudyFields(_Sampled, total=False):
    """The fields of `jobs.requests.study.StudyRequest`."""

    prunes: Sequence[PruneSpec | Mapping[str, Any]] | None
    grid: Grid | Mapping[str, Any] | Sequence[Grid | Mapping[str, Any]] | None
    search: Search | Mapping[str, Any] | None
    measures: Sequence[Measure] | None
    extractor: str | None
    reference: str | None
    targets: str | None


class CompactFields(_Posted, total=False):
    """The fields of `jobs.requests.compact.CompactRequest`, and of `compact_transformer.CompactTransformerRequest`."""

    threshold: float | None
    keep: int | None
    by: CompactBy | None
    of: Of | None
    side: Side | None
    fill: CompactFill | None
    sampler: Sampler | None
    steps: int | Sequence[int] | None
    timestep_shift: float | None
    timesteps: Sequence[float] | None
    labels: Labels | None
    conditions: str | None
    rows: Sequence[int] | None
    guided: bool | None
    scheduler: Literal["own", "plain"] | None
    resolutions: Sequence[Sequence[int]] | None
    times: Sequence[float] | None
    rank: int | None
    error: float | None
    guidance: float | Sequence[float] | None
    pooled: Literal["zero", "mean"] | None
    population: str | None
    classes: Sequence[int] | None
    qkv: Literal["stacked", "interleaved"] | None


class ExtractFields(_Posted, total=False):
    """The fields of `jobs.requests.extract.ExtractRequest`."""

    labels: Labels | None
    conditions: str | None
    rows: Sequence[int] | None
    timesteps: Sequence[float] | None
    parts: Sequence[Part] | None


class RegisterFields(TypedDict, total=False):
    """The fields of `jobs.requests.register.RegisterRequest`, besides `name` and `source`."""

    family: Literal["dit", "sit", "mdt", "lightningdit", "repa", "mg", "x-mdpt", "mdsgen"] | None
    key: str | None
    classes: int | None
    num_heads: int | None
    decode_layer: int | None
    title: str | None
    class_names: Sequence[str] | None
    decoder: DecoderName | None
    decoder_source: str | None
    decoder_statistics: str | None
    decoder_scale: float | None
    display_scale: int | None
    extractor: ExtractorName | None
    classifier: Literal["shapes-classifier"] | None
    reference: str | None
    prompt: str | None
    licence: str | None


class FigureFields(TypedDict, total=False):
    """The options of `jobs.requests.figure.FigureRequest`, named as in the query."""

    part: Part | None
    timestep: float | None
    conditions: str | None
    classes: int | None
    threshold: float | Sequence[float] | None
    side: Side | None
    attribute: str | Sequence[str] | None
    range: Sequence[float] | None
    study: str | None
    seed: int | None
