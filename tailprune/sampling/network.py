"""The network of a sampling run: guided, with modulations computed in advance, batched for a CPU, or compiled."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tailprune.arguments import of_kind
from tailprune.condition_table import ConditionTable
from tailprune.edit import AnyEdit
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.trajectories import Trajectories
from tailprune.systems.base import Modulations, System

__all__ = ["BATCH_SIZES", "GuidedNetwork", "compile_network"]

MODULATION_BYTES = 128 * 2**20
"""The memory for modulations computed in advance. Those of one condition vector are 0.8 MB in DiT-XL/2."""
CPU_ELEMENTS = 2**20
"""The most numbers of tokens (rows x N x d) in one CPU batch: the activations of more do not fit its caches."""
BATCH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Sizes of compiled batches; beyond the last, its multiples. From 8 on, padding adds at most half of the rows."""
MOST_SIZES = 64
"""The number of sizes after which torch stops compiling new ones."""


class GuidedNetwork:
    """network(x, i, stage): the guided output for the trajectories of step i.

    Modulations are computed once for each distinct vector, and for as many steps at once as fit into
    `MODULATION_BYTES`: AdaLN's weights, a third of a network, are then read once for all these steps.

    system: the system
    table: the condition vectors of every evaluation
    trajectories: the trajectories of each step
    guidance: the guidance, for its channels
    scales: the guidance scale of each step; at 1 the null condition is not evaluated
    """

    def __init__(
        self,
        system: System,
        table: ConditionTable,
        trajectories: Sequence[Trajectories],
        guidance: Guidance,
        scales: Sequence[float],
    ) -> None:
        self._system = system
        self._table = table
        self._trajectories = trajectories
        self._guidance = guidance
        self._scales = scales
        self._modulations: dict[tuple[int, int], Modulations] = {}
        numbers = sum(layer.adaLN_modulation.linear.out_features for layer in system.modulated)
        self._vector_bytes = numbers * system.precision.itemsize

    def __call__(self, x: Tensor, i: int, stage: int) -> Tensor:
        """x, with shape (R, C, H, W) -> the same shape, or (R, 2 C, H, W) if the variance is learned."""
        if (i, stage) not in self._modulations:
            self._modulations = self._modulations_from(i)
        modulations, current, scale = self._modulations[i, stage], self._trajectories[i], self._scales[i]
        rows = x.float()
        if scale == 1.0:
            return _forward(self._system, rows, [tensor[current.conditional] for tensor in modulations]).to(x.dtype)
        both = torch.cat([current.conditional, current.null])
        out = _forward(self._system, torch.cat([rows, rows]), [tensor[both] for tensor in modulations]).to(x.dtype)
        conditional, null = out.chunk(2)
        return self._guidance.combine(conditional, null, scale)

    def _modulations_from(self, first: int) -> dict[tuple[int, int], Modulations]:
        """The modulations of as many steps from `first` on as fit, by (step, stage), with V rows each."""
        evaluations: dict[tuple[int, int], Tensor] = {}
        count = 0
        for i in range(first, len(self._trajectories)):
            distinct = _with_unedited(self._trajectories[i].vectors)
            count += self._table.stages * sum(len(rows) for _, rows in distinct)
            if evaluations and count * self._vector_bytes > MODULATION_BYTES:
                break
            for stage in range(self._table.stages):
                vectors = [self._table.conditions_at(i, stage, edit)[rows] for edit, rows in distinct]
                evaluations[i, stage] = torch.cat(vectors)  # (V, d), and what blocks see that are left out of an edit
        modulations = self._system.modulations(torch.cat(list(evaluations.values())))
        sizes = [len(vectors) for vectors in evaluations.values()]
        each = zip(*(tensor.split(sizes) for tensor in modulations), strict=True)
        return {
            (i, stage): self._by_block(found, self._trajectories[i].vectors)
            for (i, stage), found in zip(evaluations, each, strict=True)
        }

    def _by_block(self, modulations: Modulations, vectors: Sequence[tuple[AnyEdit | None, Tensor]]) -> Modulations:
        """The modulations of the V vectors, each of the edited vector only in the blocks that see the edit.

        modulations: of the vectors, followed by those of `_with_unedited`
        vectors: the V vectors, as in `Trajectories`
        """
        if all(edit is None or edit.blocks is None for edit, _ in vectors):
            return modulations
        own = torch.arange(sum(len(rows) for _, rows in vectors), device=self._table.device)
        by_layer = [own.clone() for _ in modulations]
        place, unedited = 0, len(own)
        for edit, rows in vectors:
            if edit is not None and edit.blocks is not None:
                for layer, sees in zip(by_layer, self._system.layers_of(edit.blocks), strict=True):
                    if not sees:
                        layer[place : place + len(rows)] = own[: len(rows)] + unedited
                unedited += len(rows)
            place += len(rows)
        return [tensor[layer] for tensor, layer in zip(modulations, by_layer, strict=True)]


def _with_unedited(vectors: Sequence[tuple[AnyEdit | None, Tensor]]) -> list[tuple[AnyEdit | None, Tensor]]:
    """The vectors of a step, and unedited those of each edit that only some blocks see."""
    return [*vectors, *((None, rows) for edit, rows in vectors if edit is not None and edit.blocks is not None)]


def _forward(system: System, x: Tensor, modulations: Modulations) -> Tensor:
    """The system's `forward_modulated`, or its compiled network; on a CPU, some rows at a time."""
    run = system.compiled or system.forward_modulated
    at_once = max(1, CPU_ELEMENTS // (math.prod(system.grid) * modulations[0].shape[-1]))
    if x.device.type != "cpu" or len(x) <= at_once:
        return run(x, modulations)
    size = math.ceil(len(x) / math.ceil(len(x) / at_once))  # parts of equal size
    parts = zip(*(tensor.split(size) for tensor in modulations), strict=True)
    return torch.cat([run(*part) for part in zip(x.split(size), parts, strict=True)])


def compile_network(system: System, backend: str | Any = "inductor") -> None:
    """Set the network of a system to be compiled when it is first run, with CUDA graphs on a GPU.

    It is compiled once for each of `BATCH_SIZES`; a batch is padded to the next of these sizes, so that a new size
    seldom waits for the compiler.

    system: the system, changed in place
    backend: as in `torch.compile`; its default needs a C++ compiler on a CPU and Triton on a GPU
    """
    of_kind(System, "system", system, "a system, such as tailprune.load('models/shapes-sit')")
    graphs = backend == "inductor" and next(system.parameters()).device.type == "cuda"
    options: dict[str, Any] = {"mode": "reduce-overhead"} if graphs else {}
    network = torch.compile(  # type: ignore[call-overload]
        system.forward_modulated, dynamic=False, backend=backend,
        recompile_limit=MOST_SIZES, isolate_recompiles=True, **options,
    )  # fmt: skip

    def run(x: Tensor, modulations: Modulations) -> Tensor:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        size = _batch_size(len(x))
        out = network(_padded(x, size), [_padded(tensor, size) for tensor in modulations])
        return out[: len(x)].clone() if graphs else out[: len(x)]  # the next run of the graph overwrites its output

    system.compiled = run


def _batch_size(rows: int) -> int:
    """The smallest compiled size of at least this many rows."""
    if rows > BATCH_SIZES[-1]:
        return -(-rows // BATCH_SIZES[-1]) * BATCH_SIZES[-1]
    return BATCH_SIZES[bisect_left(BATCH_SIZES, rows)]


def _padded(tensor: Tensor, size: int) -> Tensor:
    """The tensor, padded with copies of its first row -> (size, ...)."""
    missing = size - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing else tensor
