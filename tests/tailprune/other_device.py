"""A device besides the CPU for machines that have none: its tensors compute on the CPU, and mix with no others.

Where a GPU would refuse an operation because its tensors lie on two devices, so does this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

__all__ = ["GPU", "OTHER", "MixedDevices", "moved", "other_device"]

_setup_privateuseone_for_python_backend("elsewhere")  # what torch asks a device for that has no kernels of its own
OTHER = torch.device("elsewhere", 0)
GPU = torch.device("cuda", 0)

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
"""torch takes their indices from the CPU, too."""


class MixedDevices(AssertionError):
    """An operation has tensors of two devices."""


class Elsewhere(Tensor):
    """A tensor that is on the other device, and has its numbers on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Elsewhere:
        said: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=OTHER,
        )
        said.numbers = numbers
        return said

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        """Its numbers, which torch does not tell of subclasses."""
        return self.numbers.tolist()

    def __format__(self, form: str) -> str:
        return format(self.numbers, form)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.numbers!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes tensors on the other device where that is asked for, which no tensor among the arguments tells."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


@contextmanager
def other_device(device: torch.device = OTHER) -> Iterator[torch.device]:
    """A device besides the CPU; `OTHER` exists within the context alone."""
    if device != OTHER:
        yield device
        return
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor([…], device=…) makes them on the CPU, and then moves them
    try:
        with _Factories():
            yield OTHER
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def moved(module: nn.Module, device: torch.device = OTHER) -> nn.Module:
    """A module whose parameters and buffers are on the other device."""
    if device != OTHER:
        return module.to(device)
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(Elsewhere(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = Elsewhere(buffer)
    return module


def _compute(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    here = [each for each in tensors if not isinstance(each, Elsewhere) and each.dim() > 0]
    if there and here and func not in MOVES and not (func in INDEXED and isinstance(args[0], Elsewhere)):
        raise MixedDevices(f"{func} has tensors of {OTHER} and of {here[0].device}")
    asked = kwargs.get("device")
    goes = bool(there) if asked is None else torch.device(asked).type == OTHER.type
    if func is aten.copy_.default:
        goes = isinstance(args[0], Elsewhere)
    if asked is not None and goes:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers = {id(each.numbers): each for each in there}
    args, kwargs = tree_map(lambda each: each.numbers if isinstance(each, Elsewhere) else each, (args, dict(kwargs)))
    result = func(*args, **kwargs)
    if not goes:
        return result
    return tree_map(lambda each: _there(each, wrappers) if isinstance(each, Tensor) else each, result)


def _there(numbers: Tensor, wrappers: Mapping[int, Elsewhere]) -> Elsewhere:
    """The tensor of these numbers: that of the arguments where an operation writes to one."""
    known = wrappers.get(id(numbers))
    return Elsewhere(numbers) if known is None else known
