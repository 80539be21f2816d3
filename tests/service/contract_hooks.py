"""Loaded by schemathesis (`SCHEMATHESIS_HOOKS`): files that it cannot make up, and an end of an endless stream."""

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


@schemathesis.hook.apply_to(method="GET", path="/events")
def before_call(context: HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """The events of all jobs end soon, unless what is asked for is refused."""
    query = dict(case.query or {})
    given = query.get("seconds", 0.1)
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= 86_400:
        case.query = query | {"seconds": 0.1}
