"""What files have in them, as arrays and pictures, by packages that need not be installed for anything else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Content", "bytes_of", "picture_reader", "tensor_reader"]

Content = bytes | str | os.PathLike[str] | Mapping[str, Any]
"""A file, as a path or as its bytes; or arrays by name."""


def tensor_reader() -> Callable[[bytes], dict[str, np.ndarray[Any, Any]]]:
    """What reads the tensors of a safetensors file, by name. Raises ImportError."""
    try:
        from safetensors.numpy import load
    except ImportError:
        raise ImportError("tensors are read by safetensors and NumPy: pip install safetensors numpy") from None
    return lambda content: dict(load(content))


def picture_reader() -> Callable[[bytes], Image]:
    """What reads a picture. Raises ImportError."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("pictures are read by Pillow: pip install pillow") from None
    return lambda content: Image.open(io.BytesIO(content))


def bytes_of(content: Content) -> bytes:
    """The bytes of a file. Raises ImportError for arrays without NumPy, and OSError."""
    if isinstance(content, bytes):
        return content
    if not isinstance(content, Mapping):
        return Path(content).read_bytes()
    try:
        import numpy as np
    except ImportError:
        raise ImportError("arrays are packed by NumPy: pip install numpy") from None
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in content.items()}
    np.savez(file, **arrays)
    return file.getvalue()
