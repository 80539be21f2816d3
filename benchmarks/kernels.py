"""How long does each layer take in each of its forms on this CPU, and which form is chosen?

The layers of the shipped models, of DiT-S/2 and of DiT-XL/2, in both precisions, timed as they are where a choice is
made (`tailprune.systems.choices`); nothing is kept. `python -m benchmarks.kernels` writes the table into
docs/performance.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.report import Section
from benchmarks.sampling import S2
from demo import ROOT
from tailprune import load
from tailprune.systems import DiT, System
from tailprune.systems.choices import Choice, Layer, choice_from, measure, processor
from tailprune.systems.dit import DiTConfig
from tailprune.systems.kernels import FORMS, forms_of
from tailprune.systems.speed import layers_of

PERFORMANCE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- kernels: written by python -m benchmarks.kernels -->", "<!-- end of kernels -->"
XL2 = S2 | {"hidden_size": 1152, "depth": 28, "num_heads": 16}
SHIPPED = ("shapes-dit", "shapes-sit", "shapes-mdt", "shapes-lightningdit", "shapes-repa", "shapes-mg")
PRECISIONS = (torch.float32, torch.bfloat16)


def run() -> Section:
    """A table of layers, a row for each shape and precision, and one of models."""
    choices: dict[Layer, Choice] = {}
    load_before = os.getloadavg()[0]
    models = {name: layers_of(system) for name, system in _systems()}
    for layers in models.values():
        for layer in sorted(layers, key=lambda layer: (layer.kind, layer.sizes)):
            for each in (layer._replace(dtype=precision) for precision in PRECISIONS):
                if each not in choices:
                    forms = forms_of(each)
                    choices[each] = choice_from(measure(forms, each.dtype), forms.samples)
    rows = [_row(layer, choice) for layer, choice in choices.items()]
    totals = []
    for name, layers in models.items():
        wide, narrow = (
            sum(count * choices[layer._replace(dtype=precision)].time for layer, count in layers.items())
            for precision in PRECISIONS
        )
        totals.append(f"| {name} | {_time(wide)} ms | {_time(narrow)} ms | {wide / narrow:.2f} |")
    return Section(
        "## Kernels\n\n"
        f"On {processor()} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, load {load_before:.1f} at the start: milliseconds of each layer in each of its forms, "
        "the least of several rounds in turn. A form without a time is not of this CPU, or does not compute a sample "
        "alike in any batch.\n\n"
        "| layer | samples | torch's own | the others | chosen |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "Their sum over the network, for one sample:\n\n"
        "| model | float32 | bfloat16 | speed of bfloat16 |\n|---|---|---|---|\n" + "\n".join(totals) + "\n",
        [],
    )


def _systems() -> Iterator[tuple[str, System]]:
    for name in SHIPPED:
        yield name, load(ROOT / "models" / name)
    yield "DiT-S/2", DiT(DiTConfig(**S2))
    yield "DiT-XL/2", DiT(DiTConfig(**XL2))


def _row(layer: Layer, choice: Choice) -> str:
    own, *others = FORMS[layer.kind]
    shown = (f"{form} {_time(choice.milliseconds.get(form, math.nan))}" for form in others)
    first = f"{own} {_time(choice.milliseconds[own])}"
    return f"| {layer} | {choice.samples} | {first} | {', '.join(shown)} | {choice.form} |"


def _time(milliseconds: float) -> str:
    if math.isnan(milliseconds):
        return "-"
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def main() -> None:
    """Write the tables into docs/performance.md."""
    text = PERFORMANCE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PERFORMANCE} has no place for the tables"
    tables = run().text.partition("\n\n")[2]
    Path(PERFORMANCE).write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
