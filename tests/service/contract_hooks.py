"""Loaded by schemathesis (`SCHEMATHESIS_HOOKS`): files that it cannot make up itself."""

from __future__ import annotations

import io

import numpy as np
import schemathesis
from hypothesis import strategies
from schemathesis import HookContext


def _file() -> bytes:
    """Conditions of the family mdsgen."""
    file = io.BytesIO()
    np.savez(file, video=np.ones((2, 32, 512), np.float32))
    return file.getvalue()


@schemathesis.hook.apply_to(method="POST", path="/conditions")
def before_generate_body(
    context: HookContext, strategy: strategies.SearchStrategy[object]
) -> strategies.SearchStrategy[object]:
    """Half of the uploads are files of conditions."""
    return strategy | strategies.just(_file())
