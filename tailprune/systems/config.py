"""The size of a transformer: the argument of its constructor, read from the tensors of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar

__all__ = ["SquareConfig", "TransformerConfig"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ABC):
    """The configuration that every transformer is built from.

    hidden_size: d, the width of tokens and condition vectors
    depth: the number of blocks
    num_heads: attention heads of a block, a divisor of d
    mlp_ratio: the width of an MLP's hidden layer, as a multiple of d, 4 by default
    """

    hidden_size: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0

    metadata_fields: ClassVar[Mapping[str, type[int] | type[float]]] = {"num_heads": int}
    """The fields that names and shapes of tensors may not determine; a file's metadata or a registry gives them."""
    published_sizes: ClassVar[Mapping[tuple[int, int], str]] = {
        (12, 384): "S", (12, 768): "B", (24, 1024): "L", (28, 1152): "XL"
    }  # fmt: skip
    """The names of the published sizes by depth and width."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a sample."""

    @property
    @abstractmethod
    def out_channels(self) -> int:
        """The number of output channels of the final layer."""

    @property
    def mlp_hidden(self) -> int:
        """The width of an MLP's hidden layer."""
        return round(self.hidden_size * self.mlp_ratio)

    @property
    def size(self) -> str | None:
        """The name of the published size, such as XL/2; None for any other size."""
        return self.published_sizes.get((self.depth, self.hidden_size))

    def described(self, given: Container[str]) -> dict[str, Any]:
        """The fields by name, without those whose default stands because neither tensors nor `given` determine them."""
        open_fields = {
            each.name
            for each in fields(self)
            if each.name in self.metadata_fields and each.name not in given and each.default is not MISSING
        }
        return {name: value for name, value in asdict(self).items() if name not in open_fields}


@dataclass(frozen=True, kw_only=True)
class SquareConfig(TransformerConfig):
    """A transformer over the patches of square latents.

    input_size: height and width of the latents
    patch_size: height and width of a patch
    in_channels: channels of the latents, C
    learn_sigma: whether the output has C more channels, for the variance, true by default
    """

    input_size: int
    patch_size: int
    in_channels: int
    learn_sigma: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        side = self.input_size // self.patch_size
        return (side, side)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return (self.in_channels, self.input_size, self.input_size)

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def size(self) -> str | None:
        name = super().size
        return None if name is None else f"{name}/{self.patch_size}"
