"""Conditions from an uploaded file: its arrays are checked against the features of a family, and made canonical."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jobs.problems import Fault, InvalidRequest, quoted
from jobs.settings import Settings
from jobs.storage.condition_files import ANY, FEATURES, Conditions, Shape, fits
from jobs.storage.upload_arrays import FLOATS, StoredArray, Unreadable, body_fault, read_arrays
from tailprune.spec.safetensors import encode_header

__all__ = ["parse"]


def parse(content: bytes, settings: Settings) -> Conditions:
    """The conditions in the bytes of a safetensors or npz file.

    Raises InvalidRequest with everything that is wrong with it, or only that it cannot be read.
    """
    family, count, values = _read_all(content, settings)
    canonical = _canonical(values)
    return Conditions(hashlib.sha256(canonical).hexdigest(), family, count, canonical)


def _read_all(content: bytes, settings: Settings) -> tuple[str, int, dict[str, NDArray[np.float32]]]:
    """The family, the number of conditions, and the values of each feature. Raises InvalidRequest."""
    stored = {array.name: array for array in read_arrays(content, settings.max_conditions_bytes)}
    family = _family(stored)
    features = FEATURES[family]
    faults = _name_faults(stored, family)
    counts: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    for array in (stored[name] for name in features if name in stored):
        one = features[array.name]
        if array.type not in FLOATS:
            faults.append(body_fault(_wrong_type(array), array.name))
        if fits(array.shape, one):
            counts[array.name], shapes[array.name] = 1, array.shape
        elif fits(array.shape[1:], one):
            counts[array.name], shapes[array.name] = array.shape[0], array.shape[1:]
        else:
            faults.append(body_fault(_wrong_shape(array, one), array.name))
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} of {name}" for name, count in counts.items())
        faults.append(
            body_fault(f"the arrays hold different numbers of conditions: {each}; send the same number of each")
        )
    wrong_size = _wrong_size(counts, shapes, settings)
    if wrong_size:
        raise InvalidRequest([*faults, body_fault(wrong_size)])
    values: dict[str, NDArray[np.float32]] = {}
    for name, count in counts.items():
        if stored[name].type in FLOATS:
            try:
                values[name] = _read(stored[name], (count, *shapes[name]))
            except Unreadable as error:
                faults.append(body_fault(str(error), name))
    if faults:
        raise InvalidRequest(faults)
    return family, max(counts.values()), values


def _canonical(values: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The safetensors file of these values. Its digest is the id that clients keep: the bytes must never change."""
    tensors = {name: ("F32", values[name].shape, values[name].nbytes) for name in sorted(values)}
    return b"".join([encode_header(tensors), *(values[name].data for name in tensors)])


def _family(stored: Mapping[str, StoredArray]) -> str:
    """The family that has most of these arrays among its features."""
    best = max(FEATURES, key=lambda name: (len(FEATURES[name].keys() & stored), -len(FEATURES[name])))
    if FEATURES[best].keys() & stored:
        return best
    takes = "; or ".join(f"{_taken(name)}, for {name}" for name in FEATURES)
    if not stored:
        raise InvalidRequest([Fault(location="body", message=f"the file holds no arrays; send {takes}")])
    raise InvalidRequest(
        [
            body_fault(f"no family of models is conditioned on {quoted(name)}; send {takes}", name)
            for name in sorted(stored)
        ]
    )


def _name_faults(stored: Mapping[str, StoredArray], family: str) -> list[Fault]:
    """The arrays that a family does not have, and those that are missing."""
    features = FEATURES[family]
    present = " and ".join(name for name in features if name in stored)
    missing = f"missing; the file holds {present} of {family}, which takes {_taken(family)}"
    return [
        *(body_fault(_stray(name, family), name) for name in sorted(stored.keys() - features.keys())),
        *(body_fault(missing, name) for name in features if name not in stored),
    ]


def _stray(name: str, family: str) -> str:
    for other, features in FEATURES.items():
        if name in features:
            return f"this array is for {other}, and the others are for {family}; send a separate file for each family"
    return f"{family} is not conditioned on {quoted(name)}, but on {_taken(family)}"


def _wrong_type(array: StoredArray) -> str:
    return f"type {array.type} is not accepted; send {', '.join(FLOATS[:-1])} or {FLOATS[-1]}"


def _wrong_shape(array: StoredArray, one: Shape) -> str:
    given = quoted(_shape(array.shape))[1:-1]
    return f"shape {given} is not {_shape(one)} (one condition) or N x {_shape(one)} (N conditions)"


def _wrong_size(counts: Mapping[str, int], shapes: Mapping[str, Shape], settings: Settings) -> str | None:
    """Why arrays with these numbers of conditions of these shapes are refused, or None."""
    if not counts:
        return None
    least, most = min(counts.values()), max(counts.values())
    if least < 1:
        return f"an array holds {least} conditions; send at least one"
    if most > settings.max_conditions:
        return f"the file holds {most} conditions; at most {settings.max_conditions} are accepted"
    size = 4 * sum(count * math.prod(shapes[name]) for name, count in counts.items())
    if size > settings.max_conditions_bytes:
        return f"the conditions are {size} bytes as float32; at most {settings.max_conditions_bytes} are accepted"
    return None


def _read(array: StoredArray, shape: Shape) -> NDArray[np.float32]:
    """The values of an array as float32, in this shape. Raises Unreadable for NaN and infinity."""
    given = array.read().reshape(shape)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(given, "<f4")
    finite = np.isfinite(values)
    if finite.all():
        return values
    kinds = {
        "NaN": np.isnan(given),
        "infinite": np.isinf(given),
        "too large for float32": np.isfinite(given) & ~finite,
    }
    counted = ", ".join(f"{where.sum()} {kind}" for kind, where in kinds.items() if where.any())
    row = int(np.argmin(finite.reshape(shape[0], -1).all(axis=1)))
    raise Unreadable(f"of {values.size} values, some are not finite in float32: {counted}; the first is in row {row}")


def _shape(shape: Shape) -> str:
    return " x ".join("W" if size == ANY else str(size) for size in shape) or "of a single number"


def _taken(family: str) -> str:
    """`pose (257 x 768), image (257 x 1536) and latents (4 x 32 x 32)`."""
    *others, last = [f"{name} ({_shape(shape)})" for name, shape in FEATURES[family].items()]
    return f"{', '.join(others)} and {last}" if others else last
