"""A system's network compiled by torch.compile, once for each of a few batch sizes.

A batch is filled up to the next of these sizes, so that a size that was not there before seldom waits for a compiler.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import torch
from torch import Tensor

from tailprune.systems.base import Modulations, System

__all__ = ["SIZES", "compile_network"]

SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Rows of a batch; beyond the last, its multiples. At most a half more than was asked for, from 8 on."""
MOST_SIZES = 64
"""After so many, torch stops to compile."""


def compile_network(system: System, backend: str | Any = "inductor") -> None:
    """Has a system sampled by a compiled network, on a GPU with CUDA graphs. It is compiled when it is first run.

    backend: as of `torch.compile`, whose own needs a C++ compiler on a CPU and Triton on a GPU.
    """
    graphs = backend == "inductor" and next(system.parameters()).device.type == "cuda"
    options: dict[str, Any] = {"mode": "reduce-overhead"} if graphs else {}
    network = torch.compile(  # type: ignore[call-overload]
        system.forward_modulated, dynamic=False, backend=backend,
        recompile_limit=MOST_SIZES, isolate_recompiles=True, **options,
    )  # fmt: skip

    def run(x: Tensor, modulations: Modulations) -> Tensor:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        size = _size(len(x))
        out = network(_filled(x, size), [_filled(tensor, size) for tensor in modulations])
        return out[: len(x)].clone() if graphs else out[: len(x)]  # a graph writes where it wrote before

    system.compiled = run


def _size(rows: int) -> int:
    if rows > SIZES[-1]:
        return -(-rows // SIZES[-1]) * SIZES[-1]
    return SIZES[bisect_left(SIZES, rows)]


def _filled(tensor: Tensor, size: int) -> Tensor:
    """The tensor with its first row again and again at its end, (size, ...)."""
    missing = size - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing else tensor
