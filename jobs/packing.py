"""How records in Redis have requests and preliminary results: as JSON, which is compressed where it is long."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

__all__ = ["packed", "unpacked"]

PACKED_BYTES = 1024
"""More bytes are compressed."""


def packed(data: Mapping[str, Any]) -> bytes:
    """Data as a field of a record. Raises ValueError for NaN and infinity."""
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    return zlib.compress(content, 9) if len(content) > PACKED_BYTES else content


def unpacked(field: str | bytes | None) -> str | bytes | None:
    """The JSON in a field of a record; what is compressed begins with a byte of its own. Raises zlib.error."""
    return zlib.decompress(field) if isinstance(field, bytes) and field[:1] == b"x" else field
