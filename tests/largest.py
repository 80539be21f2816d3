"""How large the tensors are that torch makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Largest"]


class Largest(TorchDispatchMode):
    """The most bytes of any one tensor that an operation makes within the context."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple) else [made]:
            if isinstance(each, Tensor) and 0 not in each.stride():  # an expanded tensor has no memory of its own
                self.bytes = max(self.bytes, each.nbytes)
        return made
