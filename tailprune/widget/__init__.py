"""A view of condition vectors in a notebook: sorted magnitudes, with a threshold to drag. `pip install ".[notebook]"`.

    view = ThresholdView(system)
    view                                    # the last line of a cell shows it
    tailprune.sample(system, inputs, prune=view.prune, seeds=range(8))

The modules beside this file draw it; the pages of the service have them too. Nothing is fetched from the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.arguments import as_number, as_tensor
from tailprune.extras import require
from tailprune.pruning import Prune
from tailprune.spec import InputError
from tailprune.systems.base import System

require("notebook", "anywidget")

import anywidget  # noqa: E402
import traitlets  # noqa: E402

__all__ = ["ThresholdView", "bundled"]

HERE = Path(__file__).parent
MODULES = ("colours", "statistics", "threshold", "view")
"""The modules of the view; each imports those before it alone."""
IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
MOST_COMPONENTS = 1 << 24
"""64 MiB of float32 go to the browser at most."""
DIGITS = 3
START = 0.5
"""The share of the components below the threshold that a view begins with."""


def bundled() -> str:
    """The modules of the view as one, since a notebook loads a widget from a single text."""
    parts = []
    for name in MODULES:
        source = (HERE / f"{name}.js").read_text()
        source = IMPORT.sub(lambda found: f"const {found[1]} = {found[2]};", source)
        exported = ", ".join(EXPORT.findall(source))
        source = EXPORT.sub("", source)
        if name == MODULES[-1]:
            parts.append(source)
        else:
            parts.append(f"const {name} = (() => {{\n{source}\nreturn {{ {exported} }};\n}})();")
    return "\n".join(parts)


class ThresholdView(anywidget.AnyWidget):
    """The magnitudes of condition vectors, one vector at a time, and what a threshold removes from it and from all.

    vectors: N vectors of d components, with shape (N, d) or (d,); or a system with classes, of which they are the
        condition vectors of all classes at the time where sampling starts
    threshold: a magnitude, 0 or more; by default about half of the components are below it
    side: `tail` removes the components below the threshold (the default), `head` those above it
    names: N names of the vectors; by default their numbers

    `threshold`, `side` and `row`, the number of the vector that is shown, follow the view, and the view follows them;
    `prune` is the prune that they describe. The shares are of one time: a prune removes others over a sampling run.

    Raises InputError for vectors, a threshold, a side or names that do not fit, and for more than 16,777,216
    components.
    """

    _esm = bundled()
    _values = traitlets.Bytes().tag(sync=True)
    _dim = traitlets.Int().tag(sync=True)
    names = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    threshold = traitlets.Float().tag(sync=True)
    side = traitlets.Enum(("tail", "head"), "tail").tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        vectors: System | Tensor | Any,
        threshold: float | None = None,
        side: str = "tail",
        names: Iterable[object] | None = None,
    ) -> None:
        word = "vector"
        if isinstance(vectors, System):
            word = "class"
            with torch.inference_mode():
                vectors = vectors.condition(vectors.facts.noise_time, vectors.all_inputs())
        values = torch.atleast_2d(as_tensor("vectors", vectors)).detach().to("cpu", torch.float32)
        if values.ndim != 2 or not all(values.shape) or not values.isfinite().all():
            raise InputError(f"vectors must be finite, with shape (N, d) or (d,), not {tuple(values.shape)}")
        if values.numel() > MOST_COMPONENTS:
            raise InputError(
                f"{values.numel():,} components are more than the {MOST_COMPONENTS:,} that a view can hold: give fewer "
                "vectors"
            )
        shown = [f"{word} {n}" for n in range(len(values))] if names is None else [str(name) for name in names]
        if len(shown) != len(values):
            raise InputError(f"give a name for each of the {len(values)} vectors, or none; there are {len(shown)}")
        if threshold is None:
            middle = values.abs().flatten().kthvalue(max(1, int(START * values.numel()))).values.item()
            threshold = float(f"{middle:.{DIGITS}g}")
        Prune(side, threshold)  # type: ignore[arg-type]  # which checks both
        super().__init__(
            _values=values.contiguous().numpy().tobytes(), _dim=values.shape[1], threshold=threshold, side=side
        )
        self.set_trait("names", shown)

    @traitlets.validate("threshold")
    def _check_threshold(self, proposal: dict[str, Any]) -> float:
        return as_number("threshold", proposal["value"], least=0)

    @traitlets.validate("row")
    def _check_row(self, proposal: dict[str, Any]) -> int:
        count = len(self._values) // (4 * self._dim)
        row = int(proposal["value"])
        if not 0 <= row < count:
            raise InputError(f"row {row} is outside 0 to {count - 1}, the vectors of this view")
        return row

    @property
    def prune(self) -> Prune:
        """The prune that the view describes, at every step."""
        return Prune(self.side, self.threshold)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"ThresholdView({len(self.names)} vectors of {self._dim} components, {self.side} {self.threshold:g})"
