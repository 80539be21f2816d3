"""A study's request with its defaults filled in, and what of it model, limits or instruments do not allow."""

from __future__ import annotations

from typing import Any

from jobs.problems import Fault, InvalidRequest
from jobs.registry.evaluation import MEASURES, EvaluationAssets, Measure
from jobs.registry.models import ExtractorName, ModelEntry
from jobs.requests.prunes import Grid, Schedule, keep_fault, schedule_faults, single_fault, unprunable_fault
from jobs.requests.sampled import sampling_faults, sampling_of
from jobs.requests.study import Search, StudyRequest
from jobs.requests.subjects import subject_faults
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo

__all__ = ["resolve_study"]

MOST_LABELS = 4096
"""As many as a request may name."""
FEATURE_EXTRACTORS: tuple[ExtractorName, ...] = ("shapes-classifier", "inception", "clip")
LEAST_FEATURES: dict[Measure, int] = {"fid": 2, "kid": 2, "precision": 4, "recall": 4}
"""Fewer samples have no covariance, or no third neighbour."""
OF_SINGLE_IMAGES: tuple[Measure, ...] = ("kid", "precision", "recall")
"""What a reference of moments alone does not do for."""
SSIM_WINDOW = 11
"""The least side of an image that SSIM is measured of."""


def resolve_study(
    request: StudyRequest,
    entry: ModelEntry,
    settings: Settings,
    instruments: EvaluationAssets,
    conditions: ConditionInfo | None = None,
) -> StudyRequest:
    """The request with every default filled in, its grids as `prunes`, none of them twice.

    conditions: what is known of those that the request names. Raises InvalidRequest with everything that the model, the
    limits or the registered instruments do not allow.
    """
    grids = _grids(request)
    too_many = _too_many(request, settings)
    prunes = [prune.resolved() for prune in request.prunes or []]
    if too_many is None:
        prunes += [prune for _, grid in grids for prune in grid.prunes]
    given: dict[str, Any] = sampling_of(request, entry, conditions) | {
        "prunes": list(dict.fromkeys(prunes)) or None,
        "grid": None,
        "extractor": request.extractor or entry.extractor,
        "reference": request.reference or entry.reference,
    }
    if request.labels is None and entry.classes is not None:
        given["labels"] = list(
            range(min(entry.classes, MOST_LABELS))
        )  # a study is of the whole model, or of much of it
    resolved = request.model_copy(update=given)
    asked = request.measures
    if asked is None:
        asked = [name for name in MEASURES if _lack(name, resolved, entry, instruments) is None]
    measures = _with_search(asked, request.search)
    facts = [MEASURES[name] for name in measures]
    used = {
        "extractor": any(fact.by == "features" for fact in facts),
        "reference": any(fact.reference for fact in facts),
        "targets": any(fact.paired for fact in facts),
    }
    resolved = resolved.model_copy(
        update={"measures": measures} | {field: None for field, is_used in used.items() if not is_used}
    )
    faults = [
        *_trial_faults(request, entry),
        *subject_faults(request.labels, request.rows, entry, conditions),
        *([] if too_many is None else [too_many]),
        *_prune_faults(request, resolved, entry, conditions),
        *sampling_faults(resolved, entry, settings, settings.max_study_samples),
        *_measure_faults(request, resolved, entry, instruments),
    ]
    if faults:
        raise InvalidRequest(faults)
    return resolved


def _trial_faults(request: StudyRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with trying prunes on this model, or with trying none."""
    tried = [name for name in ("prunes", "grid", "search") if getattr(request, name) is not None]
    if not tried and entry.compacted is None:
        return [Fault(location="body", message="say what to try: prunes, a grid of them, or a search")]
    fault = unprunable_fault(entry)
    return [] if fault is None else [Fault(location=f"body.{name}", message=fault) for name in tried]


def _grids(request: StudyRequest) -> list[tuple[str, Grid]]:
    """The grids of a request, each with where it is in the body."""
    if isinstance(request.grid, list):
        return [(f"grid.{place}", grid) for place, grid in enumerate(request.grid)]
    return [] if request.grid is None else [("grid", request.grid)]


def _too_many(request: StudyRequest, settings: Settings) -> Fault | None:
    """What is wrong with the number of prunes; None where it is within the limit, counted before grids are spread."""
    count = len(request.prunes or []) + sum(grid.count for _, grid in _grids(request))
    if count <= settings.max_study_variants:
        return None
    where = "prunes" if request.grid is None else "grid"
    return Fault(
        location=f"body.{where}",
        message=f"{count} prunes is more than the {settings.max_study_variants} of one study; ask in several studies",
    )


def _with_search(measures: list[Measure], search: Search | None) -> list[Measure]:
    """The measures and the one that is searched by, in their order."""
    return [name for name in MEASURES if name in measures or (search is not None and name == search.measure)]


def _prune_faults(
    request: StudyRequest, resolved: StudyRequest, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What does not fit of prunes, grids and search, in the body of a request as it came."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    def check(location: str, schedule: Schedule) -> None:
        for field, fault in schedule_faults(schedule, resolved.sampler, resolved.steps):
            wrong(f"{location}.{field}", fault)

    def check_population(location: str, asked: str) -> None:
        if fault := single_fault(asked, conditions):
            wrong(location, fault)

    for place, prune in enumerate(request.prunes or []):
        where = f"prunes.{place}"
        check(f"{where}.schedule", prune.schedule)
        if prune.keep is not None:
            if fault := keep_fault(prune.keep, entry):
                wrong(f"{where}.keep", fault)
            check_population(f"{where}.keep", "keep")
        elif prune.fill == "mean":
            check_population(f"{where}.fill", "fill")
    for where, grid in _grids(request):
        for place, schedule in enumerate(grid.schedules):
            check(f"{where}.schedules.{place}", schedule)
        if "mean" in grid.fills:
            check_population(f"{where}.fills.{grid.fills.index('mean')}", "fill")
    if request.search is not None:
        check("search.schedule", request.search.schedule)
        if request.search.fill == "mean":
            check_population("search.fill", "fill")
    return faults


def _measure_faults(
    request: StudyRequest, resolved: StudyRequest, entry: ModelEntry, instruments: EvaluationAssets
) -> list[Fault]:
    """What the named instruments and the measures lack; in the place of the request where each was asked for."""
    named = {
        "extractor": request.extractor and _extractor_fault(request.extractor, instruments),
        "reference": request.reference and instruments.missing_reference(request.reference),
        "targets": request.targets and instruments.missing_reference(request.targets),
    }
    faults = [Fault(location=f"body.{field}", message=lack) for field, lack in named.items() if lack]
    for name in resolved.measures or []:
        lack = _lack(name, resolved, entry, instruments)
        if lack is None or lack in named.values():
            continue
        place = request.measures.index(name) if request.measures and name in request.measures else None
        where = "search.measure" if place is None else f"measures.{place}"
        faults.append(Fault(location=f"body.{where}", message=f"measure {name!r}: {lack}"))
    return faults


def _lack(name: Measure, request: StudyRequest, entry: ModelEntry, instruments: EvaluationAssets) -> str | None:
    """What is missing of a measure, or None where it can be had."""
    facts = MEASURES[name]
    if name == "drift":
        return None
    if not entry.shows_images:
        return f"it is of images, and {entry.name} shows {entry.decoding.in_use}; measure 'drift' can be had"
    if facts.by == "features" and (lack := _lack_of_extractor(name, request.extractor, entry, instruments)):
        return lack
    if facts.by == "classes":
        if entry.classifier is None:
            return f"no classifier of the classes of {entry.name} is registered (`classifier` of its entry)"
        if lack := instruments.missing_extractor(entry.classifier):
            return f"the classifier {entry.classifier!r} is missing; {lack}"
    if facts.by in ("clip", "lpips") and (lack := instruments.missing_extractor(facts.by)):
        return f"the extractor {facts.by!r} is missing; {lack}"
    if name == "clip-score" and len(entry.names) <= max(request.subjects, default=0):
        return (
            f"it compares images with the names of their classes, and {entry.name} has {len(entry.names)} "
            "(`class_names` of its entry)"
        )
    if facts.reference:
        if request.reference is None:
            return f"it needs a reference, and {entry.name} has none of its own; say one of those registered"
        if lack := instruments.missing_reference(request.reference):
            return lack
        count = instruments.image_count(request.reference) if name in OF_SINGLE_IMAGES else None
        if count is not None and count < LEAST_FEATURES[name]:
            return (
                f"it compares single images, and reference {request.reference!r} has {count}, with or without moments; "
                f"register one with {LEAST_FEATURES[name]} images or more"
            )
    if facts.paired and request.targets is not None and not instruments.missing_reference(request.targets):
        count = instruments.image_count(request.targets)
        if count is not None and count <= max(request.subjects, default=0):
            return (
                f"targets {request.targets!r} has {count} images, and there is to be one for each label or condition "
                f"up to {max(request.subjects)}"
            )
    least = LEAST_FEATURES.get(name, 1)
    if request.sample_count < least:
        return f"it needs {least} samples or more, and {request.sample_count} are asked for"
    if name == "ssim" and min(entry.image_size) < SSIM_WINDOW:
        height, width = entry.image_size
        return f"it needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW}, and {entry.name} makes {height} x {width}"
    return None


def _lack_of_extractor(
    name: Measure, extractor: ExtractorName | None, entry: ModelEntry, instruments: EvaluationAssets
) -> str | None:
    if extractor is None:
        return f"no extractor of features is registered for {entry.name}; say `extractor`"
    if name == "inception-score" and extractor == "clip":
        return "it is of class probabilities, and 'clip' gives none; say another extractor, or leave this measure out"
    return _extractor_fault(extractor, instruments)


def _extractor_fault(extractor: ExtractorName, instruments: EvaluationAssets) -> str | None:
    """What is wrong with taking the features of an extractor, or None."""
    if extractor not in FEATURE_EXTRACTORS:
        return f"{extractor!r} gives no features; extractors are {', '.join(FEATURE_EXTRACTORS)}"
    if lack := instruments.missing_extractor(extractor):
        return f"the extractor {extractor!r} is missing; {lack}"
    return None
