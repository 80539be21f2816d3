"""Warm models: loaded once, kept by the content of their checkpoint, the longest unused dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
import torch
from torch import nn

import tailprune
from jobs.registry import ModelEntry, Registry, content_digest
from jobs.settings import Settings
from tailprune.systems import Condition, System

__all__ = ["Models", "Pool", "choose_device"]

Module = TypeVar("Module", bound=nn.Module)

log = structlog.get_logger(__name__)


def choose_device(name: str, worker_index: int) -> torch.device:
    """The device a worker runs on. "auto" spreads workers over the GPUs; without any, the CPU.

    Raises ValueError where there is no such device.
    """
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"TAILPRUNE_DEVICE={name} is no device of this machine: {error}") from error
    if torch.cuda.is_available():
        return torch.device("cuda", worker_index % torch.cuda.device_count())
    return torch.device("cpu")


@dataclass(frozen=True)
class Source:
    """A model's entry in the registry and the content of its checkpoint at this moment."""

    entry: ModelEntry
    digest: str

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """What makes its module: the same file may be read as two families."""
        return self.digest, self.entry.family, self.entry.num_heads


class Pool(Generic[Module]):
    """Modules by key, below a limit of bytes. The one asked for stays, however large it is."""

    def __init__(self, limit_bytes: int, load: Callable[[Source], Module]) -> None:
        self.limit_bytes = limit_bytes
        self._load = load
        self._modules: OrderedDict[tuple[str | int | None, ...], Module] = OrderedDict()

    def get(self, source: Source) -> Module:
        """The module of this content, loaded if it is not warm."""
        if source.key in self._modules:
            self._modules.move_to_end(source.key)
            return self._modules[source.key]
        self._make_room(source.entry.checkpoint.stat().st_size)
        module = self._modules[source.key] = self._load(source)
        log.info("model loaded", model=source.entry.name, part=type(module).__name__, bytes=_bytes(module))
        return module

    @property
    def bytes(self) -> int:
        """What the warm modules occupy."""
        return sum(_bytes(module) for module in self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def _make_room(self, needed: int) -> None:
        while self._modules and self.bytes + needed > self.limit_bytes:
            self._modules.popitem(last=False)


class Models:
    """The systems of a worker, and apart from them the bare conditions that statistics need."""

    def __init__(self, registry: Registry, settings: Settings, device: torch.device) -> None:
        self.device = device
        self._registry = registry
        self._data_dir = settings.data_dir
        self.systems: Pool[System] = Pool(settings.model_memory_bytes, self._load_system)
        self.conditions: Pool[Condition] = Pool(settings.model_memory_bytes // 8, self._load_condition)

    def source(self, name: str) -> Source:
        """A model by name. Raises UnknownModel, or FileNotFoundError where its checkpoint is not there."""
        entry = self._registry.get(name)
        return Source(entry, content_digest(entry, self._data_dir))

    def _load_system(self, source: Source) -> System:
        return tailprune.load(
            source.entry.checkpoint, device=self.device, family=source.entry.family, **_given(source.entry)
        )

    def _load_condition(self, source: Source) -> Condition:
        return tailprune.load_condition(source.entry.checkpoint, family=source.entry.family)


def _given(entry: ModelEntry) -> dict[str, int]:
    return {} if entry.num_heads is None else {"num_heads": entry.num_heads}


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
