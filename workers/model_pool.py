"""The models in a worker's memory: loaded once for each content, the least recently used dropped first."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
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
from tailprune.checkpoints import parameter_counts
from tailprune.decoders import Decoder, load_decoder
from tailprune.modulation import ModulationMetric
from tailprune.sampling import compile_network
from tailprune.spec import InputError, MissingFileError
from tailprune.systems import Condition, System
from tailprune.systems.speed import faster_in_bfloat16, forms_in_use

__all__ = ["ModelPool", "Source", "WarmModules", "choose_device", "tensor_bytes"]

Module = TypeVar("Module")

AMPERE = (8, 0)
"""The least compute capability with bfloat16."""

log = structlog.get_logger(__name__)


def choose_device(name: str, worker_index: int) -> torch.device:
    """The device of a worker. Raises InputError where this machine does not have it.

    name: a device of torch; "auto" is a GPU by the worker's index, or the CPU where there is no GPU.
    worker_index: the number of the worker on this machine, from 0.
    """
    if name != "auto":
        try:
            probe = torch.zeros(1, device=name)
            probe.item()
        except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
            # Only its first sentence: torch goes on with a list of all that it has for other devices.
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise InputError(
                f"TAILPRUNE_DEVICE={name} is not a device of this machine, which has {', '.join(_devices())} ({reason})"
            ) from error
        return probe.device
    if torch.cuda.is_available():
        return torch.device("cuda", worker_index % torch.cuda.device_count())
    return torch.device("cpu")


def _devices() -> list[str]:
    """The devices of this machine."""
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *mps]


@dataclass(frozen=True)
class Source:
    """A model's entry in the registry, and the content of its files at this moment."""

    entry: ModelEntry
    identity: Identity
    reads: Reads
    """The parts of the model that the identity covers."""
    dtype: torch.dtype = torch.float32
    """The precision of the blocks."""

    @property
    def checkpoint(self) -> Path:
        """The file or folder of the checkpoint. Raises FileNotFoundError where it is missing."""
        path = self.entry.local_checkpoint
        if path is None:
            raise MissingFileError(f"{self.entry.checkpoint} is missing")
        return path

    @property
    def size(self) -> int:
        """The bytes of the checkpoint."""
        return _size(self.checkpoint)

    @property
    def decoding(self) -> Decoding:
        """The decoder, for a job that makes pictures."""
        assert self.identity.decoding is not None, "a job that makes pictures reads the whole model"
        return self.identity.decoding

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `tailprune.load` that the registry gives."""
        return {name: value for name, value in self.entry.read_as.items() if value is not None}


class WarmModules(Generic[Module]):
    """Modules by key, within a limit of memory; the last one stays, however large it is, and so do those in use.

    limit_bytes: of all modules together.
    key: identifies the module of a source.
    size: the bytes of its files, for which room is made before it is loaded.
    load: loads it.
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
        self._in_use: set[Hashable] | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep each module that is asked for within the context until its end, as the job that asked holds it."""
        self._in_use = set()
        try:
            yield
        finally:
            self._in_use = None
            self._make_room(0, least=1)

    def get(self, source: Source) -> Module:
        """The module of a source, loaded if it is not in memory."""
        key = self._key(source)
        if key not in self._modules:
            in_use = self._in_use or set()
            for used in in_use:
                self._modules[used]  # used last, so that the others are dropped
            self._make_room(self._size(source), least=len(in_use))
            module = self._modules[key] = self._load(source)
            log.info("model loaded", model=source.entry.name, part=type(module).__name__, bytes=tensor_bytes(module))
        if self._in_use is not None:
            self._in_use.add(key)
        return self._modules[key]

    @property
    def bytes(self) -> int:
        """The memory of all modules, in bytes."""
        return int(self._modules.currsize)

    def __len__(self) -> int:
        return len(self._modules)

    def _make_room(self, needed: int, least: int) -> None:
        """Drop the least recently used modules until so many bytes fit, but for so many that were used last."""
        while len(self._modules) > least and self.bytes + needed > self.limit_bytes:
            _, module = self._modules.popitem()
            if isinstance(module, System):
                module.compiled = None  # it refers back to the system, so that neither would be freed


class ModelPool:
    """The systems and decoders of a worker; separately, what statistics need: conditions and modulation metrics."""

    def __init__(self, registry: Registry | Catalogue, settings: Settings, device: torch.device) -> None:
        self.device = device
        self._registry = registry
        self._data_dir = settings.data_dir
        self.compiles = settings.compile
        self._faster_in_bfloat16: dict[Hashable, bool] = {}
        limit = settings.model_memory_bytes
        self.systems: WarmModules[System] = WarmModules(limit, _key_of_weights, _size_of_weights, self._load_system)
        self.conditions: WarmModules[Condition] = WarmModules(
            limit // 8, _key_of_weights, lambda _: 0, self._load_condition
        )
        self.metrics: WarmModules[ModulationMetric] = WarmModules(
            limit // 8, _key_of_weights, lambda _: 0, self._load_metric
        )
        self.decoders: WarmModules[Decoder] = WarmModules(
            limit // 4, _key_of_decoder, _size_of_decoder, self._load_decoder
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep what a job loads, or finds loaded, until the context ends: it holds it, and may load more beside it."""
        with self.systems.in_use(), self.conditions.in_use(), self.metrics.in_use(), self.decoders.in_use():
            yield

    def entry(self, name: str) -> ModelEntry:
        """A model of the registry, or a compacted one. Raises UnknownModel."""
        return self._registry.get(name)

    def source(self, name: str, reads: Reads, evaluation: Mapping[str, Path | str] = MappingProxyType({})) -> Source:
        """A model, with the identity of its files.

        name: in the registry.
        reads: the parts of the model that the job reads.
        evaluation: the extractors and references that score the samples, see `jobs.registry.digests.identify`; none by
            default.
        Raises UnknownModel, or FileNotFoundError for a missing file.
        """
        entry = self._registry.get(name)
        return Source(entry, identify(reads, entry, self._data_dir, evaluation), reads)

    def system(self, source: Source, precision: Precision) -> System:
        """A model's system in the precision of a request."""
        return self.systems.get(replace(source, dtype=self.dtype_of(source, precision)))

    def dtype_of(self, source: Source, precision: Precision) -> torch.dtype:
        """The type of a precision of a model on this device."""
        if precision == "auto":
            return torch.bfloat16 if self._is_faster_in_bfloat16(source) else torch.float32
        return torch.bfloat16 if precision == "bfloat16" else torch.float32

    def _is_faster_in_bfloat16(self, source: Source) -> bool:
        """Whether a GPU has bfloat16; whether it was measured faster for this model on a CPU."""
        if self.device.type != "cpu":
            return self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= AMPERE
        key = _key_of_weights(source)
        if key not in self._faster_in_bfloat16:
            wide = self.systems.get(replace(source, dtype=torch.float32))
            self._faster_in_bfloat16[key] = faster_in_bfloat16(wide)
        return self._faster_in_bfloat16[key]

    def as_registered(self, name: str, text: str) -> str:
        """A text for clients, with the registry's names in place of this machine's paths."""
        try:
            return self._registry.get(name).place_of(text)
        except UnknownModel:
            return text

    def _load_system(self, source: Source) -> System:
        system = tailprune.load(source.checkpoint, device=self.device, **source.arguments)
        parameters, adaln = parameter_counts({name: tuple(each.shape) for name, each in system.state_dict().items()})
        log.info(
            "checkpoint read", model=source.entry.name, family=system.family, size=system.config.size,
            parameters=parameters, adaln_share=round(adaln / parameters, 4),
        )  # fmt: skip
        classes = getattr(system, "num_classes", None)
        _check(
            source, system.condition_dim, classes, system.null_condition, system.latent_shape, len(system.all_blocks)
        )
        system.compute_in(source.dtype)
        if self.compiles:
            compile_network(system)
        self._check_weights(source)
        forms_in_use(system)  # measures the layers that no process of this machine has measured yet
        return system

    def _load_condition(self, source: Source) -> Condition:
        condition = tailprune.load_condition(source.checkpoint, **source.arguments)
        _check(source, condition.condition_dim, getattr(condition, "num_classes", None), condition.null_condition)
        self._check_weights(source)
        return condition

    def _load_metric(self, source: Source) -> ModulationMetric:
        metric = ModulationMetric.load(source.checkpoint, device=self.device, **source.arguments)
        self._check_weights(source)
        return metric

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
            raise InputError(
                f"{decoding.source} was written to while it was loaded: post the request again when it is complete"
            )
        return decoder

    def _check_weights(self, source: Source) -> None:
        """Raise InputError where the checkpoint changed while it was loaded."""
        if identify(source.reads, source.entry, self._data_dir).weights != source.identity.weights:
            raise InputError(
                f"{source.checkpoint} was written to while it was loaded: post the request again when it is complete"
            )


def _check(
    source: Source,
    condition_dim: int,
    classes: int | None,
    null_condition: bool,
    latent_shape: tuple[int, int, int] | None = None,
    depth: int | None = None,
) -> None:
    """Raise InputError where the registry's entry contradicts the checkpoint.

    source: with the entry.
    condition_dim, classes, null_condition, latent_shape, depth: of the checkpoint; the entry's shape and depth are
        checked only against ones that are given.
    """
    entry = source.entry
    found = {"condition_dim": condition_dim, "classes": classes, "latent_shape": latent_shape or entry.latent_shape}
    if entry.depth is not None and depth is not None:
        found["depth"] = depth
    if not entry.null_condition:  # true by default, so that classes as many as rows are enough to say so
        found["null_condition"] = null_condition
    registered = {name: getattr(entry, name) for name in found}
    different = (name for name in registered if registered[name] != found[name])
    wrong = [f"{name} = {registered[name]}, and its checkpoint has {found[name]}" for name in different]
    if wrong:
        raise InputError(f"the registry gives {entry.name!r} {'; '.join(wrong)}: correct its entry")


def _key_of_weights(source: Source) -> Hashable:
    """The key of a system: the same file may be read as two families, and used in two precisions."""
    return source.identity.weights, *source.entry.read_as.items(), source.dtype


def _key_of_decoder(source: Source) -> Hashable:
    return source.decoding.in_use, source.decoding.scale, *source.identity.reading["decoder_files"]


def _size_of_weights(source: Source) -> int:
    return source.size


def _size_of_decoder(source: Source) -> int:
    return sum(map(_size, source.decoding.files))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error


def tensor_bytes(holder: object) -> int:
    """The bytes of all tensors of a module, or of the modules and tensors that an object holds."""
    parts = [holder] if isinstance(holder, nn.Module | torch.Tensor) else vars(holder).values()
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    for module in (part for part in parts if isinstance(part, nn.Module)):
        tensors += [*module.parameters(), *module.buffers()]
    return sum(tensor.nbytes for tensor in tensors)
