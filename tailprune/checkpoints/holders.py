"""Which tensors of a file are the weights: training scripts save them under many keys, often raw and averaged.

A tensor's place in a file is the keys of the mappings that hold it, then its name:

    state_dict | model . blocks.0.attn.qkv.weight
       keys      prefix   official name

Names of wrappers (DistributedDataParallel's `module`, torch.compile's `_orig_mod` ...) count nowhere. The weights are
held wherever a tensor has the official name `anchor` behind some keys and some prefix. Of one raw and one averaged
copy the averaged one is used, as authors evaluate; any other choice is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Ambiguous", "Holder", "Place", "choose", "is_averaged", "official"]

WRAPPERS = {
    "module",  # DistributedDataParallel, DataParallel, AveragedModel
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_fpw_module",  # FairScale's FSDP
    "_checkpoint_wrapped_module",
    "_forward_module",  # Lightning Fabric
}
COUNTERS = ("n_averaged",)
"""Tensors that AveragedModel adds to those of its model."""
AVERAGED = {"ema", "emas", "swa", "shadow", "averaged", "average", "averaging", "avg", "polyak"}
TRAINED = ("weight", "bias")
"""The last parts of the names of tensors that every average has; buffers and fixed positions have others."""
OF_OPTIMIZERS = ("exp_avg", "grad_avg", "param_avg", "step_avg")
"""Names in the state of optimizers that speak of averages too."""


class Ambiguous(ValueError):
    """Several copies of the weights, or none under the key that was asked for; the message has the keys."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is in a file."""

    keys: tuple[str, ...]
    """The keys of the mappings that hold it; none for the top level, or for safetensors."""
    name: str
    dims: int = 1
    """The number of its dimensions."""


@dataclass
class Holder:
    """One copy of the weights in a file."""

    keys: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    """What all its names begin with, wrappers left out."""
    tensors: dict[str, Place] = field(default_factory=dict)
    """The place of each tensor by its official name."""
    others: tuple[str, ...] = ()
    """The keys of the other copies in the file."""

    @property
    def key(self) -> str:
        """What chooses this copy, such as `ema` or `state_dict.model`; empty for the top level."""
        return ".".join((*self.keys, *self.prefix))

    @property
    def averaged(self) -> bool:
        """Whether its key is one under which averages of the weights are saved."""
        return any(is_averaged(part) for part in (*self.keys, *self.prefix))


def choose(
    places: Iterable[Place], anchors: Sequence[str], key: str | None = None, unread: Sequence[str] = ()
) -> Holder:
    """The copy of the weights to use.

    places: all tensors of the file
    anchors: official names of tensors that every copy of the weights has; the first that the file has counts
    key: the key of the copy, as in `Holder.key`; None to use the only one, or the averaged one of two
    unread: keys whose values cannot be read as tensors by name; one of an average is not passed over in silence

    Raises Ambiguous, with the keys of the file.
    """
    places = [place for place in places if not _is_of_optimizer(place)]
    holders = next(filter(None, (_holders(places, anchor) for anchor in anchors)), [])
    if key is not None:
        return _beside_others(_named(key, holders, places), holders)
    if not holders:
        return _largest(places)
    averaged = [holder for holder in holders if holder.averaged]
    if not averaged and len(holders) == 1:
        averaged = _without_dots(places, holders[0])
    chosen = averaged or holders
    if len(chosen) > 1:
        raise Ambiguous(
            f"has {'averaged ' if averaged else ''}weights more than once, under {_listed(holders)}: give key, one of "
            "these"
        )
    missed = [] if averaged else [*unread, *_averages_without_names(places, holders)]
    if missed := [name for name in missed if any(map(is_averaged, name.split(".")))]:
        raise Ambiguous(
            f"has averaged weights under {missed[0]!r} in a form that cannot be read (not as tensors by the names of "
            f"the raw ones), beside raw weights under {_listed(holders)}: save the average as a state_dict, or give "
            f"key = {holders[0].key!r} to use the raw weights"
        )
    raw = [holder for holder in holders if not holder.averaged]
    if averaged and len(raw) == 1:
        _complete(chosen[0], raw[0])
    return _beside_others(chosen[0], holders)


def official(name: str) -> str:
    """A tensor's name without the names of wrappers, wherever they stand in it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def is_averaged(part: str) -> bool:
    """Whether a key speaks of averaged weights, such as `model_ema`, `EMA1` or `emaWeights`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Za-z][a-z]*", part)
    return not AVERAGED.isdisjoint(word.lower() for word in words)


def _is_of_optimizer(place: Place) -> bool:
    return any(name in part for part in (*place.keys, place.name) for name in OF_OPTIMIZERS)


def _holders(places: Iterable[Place], anchor: str) -> list[Holder]:
    """Every copy of the weights that has the tensor `anchor`, with its tensors."""
    places = list(places)
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], Holder] = {}
    for place in places:
        name = official(place.name)
        if name == anchor or name.endswith(f".{anchor}"):
            prefix = tuple(name.removesuffix(anchor).split(".")[:-1])
            found.setdefault((place.keys, prefix), Holder(place.keys, prefix))
    deepest_first = sorted(found.values(), key=lambda holder: -len(holder.prefix))
    for place in places:
        parts = tuple(official(place.name).split("."))
        if parts[-1] in COUNTERS:
            continue
        for holder in deepest_first:
            depth = len(holder.prefix)
            if place.keys == holder.keys and parts[:depth] == holder.prefix and len(parts) > depth:
                _add(holder, ".".join(parts[depth:]), place)
                break
    return list(found.values())


def _add(holder: Holder, name: str, place: Place) -> None:
    other = holder.tensors.setdefault(name, place)
    if other != place:
        raise Ambiguous(f"has two tensors for {name}: {other.name} and {place.name}; save a state_dict of one model")


def _without_dots(places: Iterable[Place], raw: Holder) -> list[Holder]:
    """The averages of the LDM code (arXiv 2112.10752), which leaves the dots of the raw names out; none or one."""
    beginnings = ["".join(raw.prefix[start:]) for start in range(len(raw.prefix) + 1)]
    names = {beginning + name.replace(".", ""): name for name in raw.tensors for beginning in beginnings}
    found: dict[tuple[str, ...], Holder] = {}
    for place in places:
        parts = place.name.split(".")
        if len(parts) == 2 and is_averaged(parts[0]) and parts[1] in names:
            holder = found.setdefault((*place.keys, parts[0]), Holder(place.keys, (parts[0],)))
            _add(holder, names[parts[1]], place)
    return list(found.values())


def _complete(averaged: Holder, raw: Holder) -> None:
    """Add the tensors that are not averaged, such as fixed positions, from the raw weights."""
    for name, place in raw.tensors.items():
        if name.rpartition(".")[2] not in TRAINED:
            averaged.tensors.setdefault(name, place)


def _beside_others(chosen: Holder, holders: Iterable[Holder]) -> Holder:
    chosen.others = tuple(holder.key for holder in holders if holder is not chosen)
    return chosen


def _named(key: str, holders: Iterable[Holder], places: Iterable[Place]) -> Holder:
    """The copy under a key: one of those found, or all tensors whose place begins with the key."""
    holders = list(holders)
    for fits in (
        lambda holder: key == holder.key,
        lambda holder: key == ".".join(holder.keys) or key in (*holder.keys, *holder.prefix),
    ):
        if len(found := list(filter(fits, holders))) == 1:
            return found[0]
    made = Holder((key,) if key else ())
    for place in places:
        at = ".".join((*place.keys, official(place.name)))
        if at.startswith(f"{key}." if key else ""):
            _add(made, official(at.removeprefix(f"{key}." if key else "")), place)
    if not made.tensors:
        raise Ambiguous(f"has no tensors under the key {key!r}; it has {_listed(holders) or _keys(places)}")
    return made


def _largest(places: Iterable[Place]) -> Holder:
    """The mapping with the most tensors, an averaged one first, of a file in which nothing has a name of `anchors`."""
    by_keys: dict[tuple[str, ...], Holder] = {}
    for place in places:
        holder = by_keys.setdefault(place.keys, Holder(place.keys))
        _add(holder, official(place.name), place)
    return max(by_keys.values(), key=lambda holder: (len(holder.tensors), holder.averaged), default=Holder(()))


def _averages_without_names(places: Iterable[Place], holders: Iterable[Holder]) -> list[str]:
    """The keys of tensors that are in no copy of the weights; single numbers, such as a decay, do not count."""
    held = {place for holder in holders for place in holder.tensors.values()}
    rest = (place for place in places if place.dims and place not in held)
    return list(dict.fromkeys(".".join((*place.keys, place.name.partition(".")[0])) for place in rest))


def _listed(holders: Iterable[Holder]) -> str:
    return " and ".join(repr(holder.key) if holder.key else "'' (the top level)" for holder in holders)


def _keys(places: Iterable[Place]) -> str:
    found = dict.fromkeys(".".join(place.keys) or place.name.partition(".")[0] for place in places)
    return ", ".join(list(found)[:12]) or "no tensors"
