"""A trained transformer whose c is of the time alone, whole and compacted: `python -m evidence.transformer`.

Writes the table of `docs/large-transformers.md`, the numbers behind it as `docs/evidence/transformer.json`, and samples
as `docs/images/shapes-qwen.png`. All is in float32, into which the file is loaded, so that what is exact can be seen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import tailprune
from demo import ROOT
from evidence.measuring import EACH, STEPS, Measured, number_range, replaced
from tailprune.decoders import pixels
from tailprune.image_grid import grid
from tailprune.quality.images import bootstrap_relative_norm, wilson
from tailprune.shapes.classifier import load_classifier
from tailprune.shapes.dataset import CLASS_NAMES, NUM_CLASSES
from tailprune.training.shapes_transformer import FOLDER, GUIDANCE, LORA, SIZE, add_lora, sample
from tailprune.transformers import compact, project_lora

__all__ = ["WAYS", "Row", "main", "table"]

WAYS: dict[str, dict[str, Any]] = {
    f"exact table of {STEPS} steps": {"steps": STEPS},
    **{f"rank {rank}": {"rank": rank} for rank in (64, 32, 16, 8, 4, 2, 1)},
}
SHOWN = (0, 11, 22, 33, 44, 55, 66, 77, 88, 99)
"""The classes of the picture."""
PIECE = 50
"""Samples in a call."""


@dataclass(frozen=True)
class Row:
    """The model compacted in one way, and its samples."""

    way: str
    rank: int
    adaln_removed: float
    """The share of AdaLN's parameters that are gone."""
    error: float
    """Of the modulations over what is covered, root mean square."""
    worst_error: float
    alone: Measured
    with_lora: Measured
    """Of the model with the projected LoRA, against the whole one with the LoRA."""


class Reference:
    """Samples of the whole model, with the LoRA or without."""

    def __init__(self, transformer: Any, sign: float, each: int) -> None:
        self._labels = torch.arange(NUM_CLASSES).repeat_interleave(each)
        generator = torch.Generator().manual_seed(0)
        self._noise = torch.randn(len(self._labels), 3, SIZE, SIZE, generator=generator)
        self._sign = sign
        self._classifier = load_classifier(ROOT / "models" / "shapes-classifier" / "model.safetensors")
        self.samples = self.sampled(transformer)
        self.accuracy = wilson(self._right(self.samples))

    def sampled(self, transformer: Any) -> Tensor:
        """Samples of a transformer from the same noise."""
        rows = torch.arange(len(self._labels)).split(PIECE)
        return torch.cat([sample(transformer, self._labels[row], self._noise[row], STEPS) for row in rows])

    def measure(self, samples: Tensor) -> Measured:
        """Their drift from those of the whole model, and their accuracy."""
        errors, energies = (part.double().flatten(1).square().sum(1) for part in (samples - self.samples, self.samples))
        return Measured(bootstrap_relative_norm(errors, energies), wilson(self._right(samples)))

    def shown(self, samples: Tensor) -> Any:
        """The first sample of the classes of the picture."""
        each = len(self._labels) // NUM_CLASSES
        return pixels(samples[[label * each for label in SHOWN]]).numpy()

    def _right(self, samples: Tensor) -> Tensor:
        return (self._classifier.classify((self._sign * samples).clamp(-1, 1)) == self._labels).double()


def main(arguments: Sequence[str] | None = None) -> None:
    """Compact the trained transformer in every way, and write the table and the picture."""
    parser = argparse.ArgumentParser(prog="python -m evidence.transformer", description=main.__doc__)
    parser.add_argument("--each", type=int, default=EACH, help=f"samples of each class; {EACH} by default")
    options = parser.parse_args(arguments)
    lora = ROOT / FOLDER / LORA
    whole, altered = _whole(), _whole()
    add_lora(altered, load_file(lora))
    alone, with_lora = Reference(whole, 1.0, options.each), Reference(altered, -1.0, options.each)
    pictures = {"whole": (alone.shown(alone.samples), with_lora.shown(with_lora.samples))}
    rows = []
    with tempfile.TemporaryDirectory(prefix="tailprune-evidence-") as work:
        whole.save_pretrained(f"{work}/whole")
        for row, shown in _compacted(lora, Path(work), alone, with_lora):
            rows.append(row)
            pictures[row.way] = shown
            print(
                f"{row.way}: error {row.error:.2g}, {_cells(row.alone)}, with the LoRA {_cells(row.with_lora)}",
                flush=True,
            )
    accuracies = {"alone": number_range(alone.accuracy), "with the LoRA": number_range(with_lora.accuracy)}
    found = {"samples_per_class": options.each, "steps": STEPS, "guidance": GUIDANCE, "whole": accuracies}
    numbers = ROOT / "docs" / "evidence" / "transformer.json"
    numbers.write_text(json.dumps(found | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    document = ROOT / "docs" / "large-transformers.md"
    how = (
        f"{NUM_CLASSES * options.each} samples in {STEPS} steps, guidance {GUIDANCE:g}, from the whole model's noise. "
        "Error: of all shifts, scales and gates over what is covered, root mean square, and at the worst time. "
        "Drift: |x - x0| / |x0| of the samples. Accuracy: of `shapes-classifier`, in negatives of the samples with the "
        "LoRA, with its 95 % interval (Wilson)."
    )
    document.write_text(replaced(document.read_text(), "evidence.transformer", f"{how}\n\n{table(rows, accuracies)}"))
    _draw(pictures).save(ROOT / "docs" / "images" / "shapes-qwen.png")


def table(rows: Sequence[Row], accuracies: Mapping[str, str]) -> str:
    """The table of the document. rows: the compactions; accuracies: of the whole model, in words."""
    lines = [
        "| AdaLN reads | directions | AdaLN's parameters gone | error | worst | drift, accuracy | with the LoRA |",
        "|---|---|---|---|---|---|---|",
        f"| SiLU(c), whole | | | | | {accuracies['alone']} | {accuracies['with the LoRA']} |",
    ]
    lines += [
        f"| {row.way} | {row.rank} | {100 * row.adaln_removed:.0f} % | {row.error:.1g} | {row.worst_error:.1g} "
        f"| {_cells(row.alone)} | {_cells(row.with_lora)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _cells(measured: Measured) -> str:
    return f"{measured.drift.mean:.2g}, {number_range(measured.accuracy)}"


def _whole() -> Any:
    from diffusers import QwenImageTransformer2DModel

    loaded = QwenImageTransformer2DModel.from_pretrained(ROOT / FOLDER, low_cpu_mem_usage=False)
    return loaded.float().eval()


def _compacted(lora: Path, work: Path, alone: Reference, with_lora: Reference) -> Iterator[tuple[Row, tuple[Any, Any]]]:
    """Each way with its pictures, without and with the LoRA."""
    for place, (way, options) in enumerate(WAYS.items()):
        small, merged = work / f"{place}", work / f"{place}-lora"
        written = compact(work / "whole", small, **options)
        project_lora(lora, small, merged, merge=True)
        found = alone.sampled(tailprune.load_transformer(small))
        altered = with_lora.sampled(tailprune.load_transformer(merged))
        before, after = written.adaln_parameters
        row = Row(
            way,
            written.rank,
            1 - after / before,
            written.error,
            written.worst_error,
            alone.measure(found),
            with_lora.measure(altered),
        )
        yield row, (alone.shown(found), with_lora.shown(altered))


def _draw(pictures: Mapping[str, tuple[Any, Any]]) -> Image.Image:
    """The samples of each way, a row each, without the LoRA and below with it."""
    names = [*pictures, *(f"{way}, LoRA" for way in pictures)]
    rows = [*(without for without, _ in pictures.values()), *(altered for _, altered in pictures.values())]
    return Image.fromarray(grid(rows, names, [CLASS_NAMES[label].split()[1] for label in SHOWN]))


if __name__ == "__main__":
    main()
