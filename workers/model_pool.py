"""Warm models: loaded once, kept by the content of their checkpoint, the longest unused dropped first."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import structlog
import torch
from cachetools import LRUCache
from torch import nn

import tailprune
from jobs.registry.catalogue import Catalogue
from jobs.registry.decoding import NEEDS_SOURCE, Decoding
from jobs.registry.digests import Identity, content_digest, identify
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.requests.base import Reads
from jobs.requests.sampled import Precision
from jobs.settings import Settings
from tailprune.checkpoints.recognition import parameter_counts
from tailprune.decoders import Decoder, load_decoder
from tailprune.sampling import compile_network
from tailprune.spec import InputError, MissingFileError
from tailprune.systems import Condition, System

__all__ = ["ModelPool", "Source", "WarmModules", "choose_device", "tensor_bytes"]

Module = TypeVar("Module")

AMPERE = (8, 0)
"""The compute capability that came with bfloat16."""

log = structlog.get_logger(__name__)


def choose_device(name: str, worker_index: int) -> torch.device:
    """The device a worker runs on. "auto" spreads workers over the GPUs; without any, the CPU.

    Raises InputError where there is no such device.
    """
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"TAILPRUNE_DEVICE={name} is no device of this machine: {error}") from error
    if torch.cuda.is_available():
        return torch.device("cuda", worker_index % torch.cuda.device_count())
    return torch.device("cpu")


@dataclass(frozen=True)
class Source:
    """A model's entry in the registry, and the content of its files at this moment."""

    entry: ModelEntry
    identity: Identity
    reads: Reads
    """What of the model the identity is of."""
    dtype: torch.dtype = torch.float32
    """What the blocks compute in."""

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint lies. Raises FileNotFoundError where it is gone."""
        path = self.entry.local_checkpoint
        if path is None:
            raise MissingFileError(f"{self.entry.checkpoint} is not there")
        return path

    @property
    def size(self) -> int:
        """The bytes of the checkpoint."""
        return _size(self.checkpoint)

    @property
    def decoding(self) -> Decoding:
        """The decoder, of a job that makes pictures."""
        assert self.identity.decoding is not None, "a job that makes pictures reads the whole model"
        return self.identity.decoding

    @property
    def given(self) -> dict[str, int]:
        """What the checkpoint's names and shapes do not say."""
        said = {"num_heads": self.entry.num_heads, "decode_layer": self.entry.decode_layer}
        return {name: value for name, value in said.items() if value is not None}


class WarmModules(Generic[Module]):
    """Modules by key, below a limit of bytes; the one asked for stays, however large it is.

    key: what makes a module. size: the bytes of the files that it is made from, for which room is made. load: makes it.
    """

    def __init__(
        self,
        limit_bytes: int,
        key: Callable[[Source], Hashable],
        size: Callable[[Source], int],
        load: Callable[[Source], Module],
    ) -> None:
        self.limit_bytes = limit_bytes
        self._key, self._size, self._load = key, size, load
        # Room is made before a module is loaded, so the cache itself sets no limit.
        self._modules: LRUCache[Hashable, Module] = LRUCache(math.inf, getsizeof=tensor_bytes)

    def get(self, source: Source) -> Module:
        """The module of this content, loaded if it is not warm."""
        key = self._key(source)
        if key in self._modules:
            return self._modules[key]
        self._make_room(self._size(source))
        module = self._modules[key] = self._load(source)
        log.info("model loaded", model=source.entry.name, part=type(module).__name__, bytes=tensor_bytes(module))
        return module

    @property
    def bytes(self) -> int:
        """What the warm modules occupy."""
        return int(self._modules.currsize)

    def __len__(self) -> int:
        return len(self._modules)

    def _make_room(self, needed: int) -> None:
        while self._modules and self.bytes + needed > self.limit_bytes:
            _, module = self._modules.popitem()
            if isinstance(module, System):
                module.compiled = None  # which holds the system that holds it


class ModelPool:
    """The systems and decoders of a worker, and apart from them the bare conditions that statistics need."""

    def __init__(self, registry: Registry | Catalogue, settings: Settings, device: torch.device) -> None:
        self.device = device
        self._registry = registry
        self._data_dir = settings.data_dir
        self.compiles = settings.compile
        limit = settings.model_memory_bytes
        self.systems: WarmModules[System] = WarmModules(limit, _of_weights, _size_of_weights, self._load_system)
        self.conditions: WarmModules[Condition] = WarmModules(
            limit // 8, _of_weights, lambda _: 0, self._load_condition
        )
        self.decoders: WarmModules[Decoder] = WarmModules(limit // 4, _of_decoder, _size_of_decoder, self._load_decoder)

    def entry(self, name: str) -> ModelEntry:
        """A model of the registry, or one that was compacted of it. Raises UnknownModel."""
        return self._registry.get(name)

    def source(self, name: str, reads: Reads, instruments: Mapping[str, Path | str] = MappingProxyType({})) -> Source:
        """A model by name, for a job that reads this of it. Raises UnknownModel, or FileNotFoundError for a file.

        instruments: as of `jobs.registry.digests.identify`.
        """
        entry = self._registry.get(name)
        return Source(entry, identify(reads, entry, self._data_dir, instruments), reads)

    def system(self, source: Source, precision: Precision) -> System:
        """A model's system, warm, in the precision that a request names."""
        return self.systems.get(replace(source, dtype=self.dtype_of(precision)))

    def dtype_of(self, precision: Precision) -> torch.dtype:
        """What that is on this device."""
        if precision != "auto":
            return torch.bfloat16 if precision == "bfloat16" else torch.float32
        fast = self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= AMPERE
        return torch.bfloat16 if fast else torch.float32

    def as_registered(self, name: str, text: str) -> str:
        """A text for clients: with the registry's names in place of this machine's paths."""
        try:
            return self._registry.get(name).place_of(text)
        except UnknownModel:
            return text

    def _load_system(self, source: Source) -> System:
        self._check_copy(source)
        known: dict[str, Any] = {"family": source.entry.family, **source.given}
        system = tailprune.load(source.checkpoint, device=self.device, **known)
        parameters, adaln = parameter_counts({name: tuple(part.shape) for name, part in system.state_dict().items()})
        log.info(
            "checkpoint read", model=source.entry.name, family=system.family, parameters=parameters,
            adaln_share=round(adaln / parameters, 4),
        )  # fmt: skip
        _check(source, system.condition_dim, getattr(system, "num_classes", None), system.latent_shape)
        system.compute_in(source.dtype)
        if self.compiles:
            compile_network(system)
        self._check_weights(source)
        return system

    def _load_condition(self, source: Source) -> Condition:
        self._check_copy(source)
        given: dict[str, Any] = dict(source.given)
        condition = tailprune.load_condition(source.checkpoint, family=source.entry.family, **given)
        _check(source, condition.condition_dim, getattr(condition, "num_classes", None))
        self._check_weights(source)
        return condition

    def _load_decoder(self, source: Source) -> Decoder:
        decoding = source.decoding
        if decoding.in_use not in NEEDS_SOURCE:
            return load_decoder(decoding.in_use)
        decoder = load_decoder(
            decoding.in_use,
            decoding.source,
            statistics=decoding.statistics,
            scale=decoding.scale,
            device=self.device,
        )
        digests = [content_digest(part, self._data_dir) for part in decoding.files]
        if digests != source.identity.reading["decoder_files"]:
            raise InputError(f"{decoding.source} was written to while it was loaded: ask again when it is whole")
        return decoder

    def _check_copy(self, source: Source) -> None:
        """Raise InputError where this machine's copy of a compacted model's checkpoint is damaged, and removes it."""
        made = source.entry.compacted
        if made is None or content_digest(source.checkpoint, self._data_dir) == made.checkpoint.digest:
            return
        source.checkpoint.unlink()
        raise InputError(
            f"the worker's copy of the checkpoint of {source.entry.name!r} is damaged, and was removed: ask again, and "
            f"it is fetched anew. If that is damaged too, delete artifact {made.checkpoint.digest}, and POST /compact "
            "again what made it"
        )

    def _check_weights(self, source: Source) -> None:
        """Raise InputError where what was loaded may not be what the source says: its checkpoint has changed since."""
        if identify(source.reads, source.entry, self._data_dir).weights != source.identity.weights:
            raise InputError(f"{source.checkpoint} was written to while it was loaded: ask again when it is whole")


def _check(
    source: Source, condition_dim: int, classes: int | None, latent_shape: tuple[int, int, int] | None = None
) -> None:
    """Raise InputError where the registry says of a model what its checkpoint does not."""
    entry = source.entry
    said = {"condition_dim": entry.condition_dim, "classes": entry.classes, "latent_shape": entry.latent_shape}
    found = {"condition_dim": condition_dim, "classes": classes, "latent_shape": latent_shape or entry.latent_shape}
    different = (name for name in said if said[name] != found[name])
    wrong = [f"{name} = {said[name]}, and its checkpoint has {found[name]}" for name in different]
    if wrong:
        raise InputError(f"the registry says of {entry.name!r} {'; '.join(wrong)}: mend its entry")


def _of_weights(source: Source) -> Hashable:
    """What makes a system: the same file may be read as two families, and be wanted in two precisions."""
    entry = source.entry
    return source.identity.weights, entry.family, entry.num_heads, entry.decode_layer, source.dtype


def _of_decoder(source: Source) -> Hashable:
    return source.decoding.in_use, source.decoding.scale, *source.identity.reading["decoder_files"]


def _size_of_weights(source: Source) -> int:
    return source.size


def _size_of_decoder(source: Source) -> int:
    return sum(map(_size, source.decoding.files))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def tensor_bytes(found: object) -> int:
    """What the tensors of a module occupy, or of the modules and tensors that an object holds."""
    parts = [found] if isinstance(found, nn.Module | torch.Tensor) else vars(found).values()
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    for module in (part for part in parts if isinstance(part, nn.Module)):
        tensors += [*module.parameters(), *module.buffers()]
    return sum(tensor.nbytes for tensor in tensors)
