"""LoRAs of a large transformer, for its compacted model: as a file for diffusers' loader, or merged.

Layers of AdaLN are projected (`projecting`): dW = u v of rank k becomes u (v D), of rank k, and what the mean leaves a
bias. All other layers are changed as before. A change of what makes c would change the directions, and is refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailprune.arguments import as_number
from tailprune.checkpoints.save import Pieces, write_tensors
from tailprune.progress import OnStep, reporting
from tailprune.spec import InputError
from tailprune.spec.display import Shown
from tailprune.transformers.adapters import Adapter, Change, open_adapter
from tailprune.transformers.alphas import DIFFUSERS
from tailprune.transformers.merging import write_merged
from tailprune.transformers.modeling import NARROW
from tailprune.transformers.projecting import Compacted, open_compacted, projected, whole_layers
from tailprune.transformers.source import TORCH
from tailprune.transformers.writing import check_new, needing_room

__all__ = ["ProjectedLora", "project_lora"]


@dataclass(frozen=True, repr=False)
class ProjectedLora(Shown):
    """What was written of an adapter."""

    path: str
    adaln_layers: int
    """How many layers of AdaLN it changes, projected."""
    other_layers: int
    """How many others it changes, as before."""
    merged: bool
    """Whether it is a model with the adapter merged, and not a file for diffusers' loader."""
    strength: float
    """What the change was multiplied with; 1 in a file."""


@torch.no_grad()
def project_lora(
    lora: str | os.PathLike[str],
    onto: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    merge: bool = False,
    strength: float | None = None,
    progress: bool = False,
    on_bytes: OnStep | None = None,
) -> ProjectedLora:
    """Write an adapter of a whole transformer so that it fits the compacted one.

    lora: a safetensors file: LoRA, with alpha or rank-stabilised, LoHa, LoKr or differences, by the names of diffusers,
        PEFT, kohya or ComfyUI, for diffusers' class or for the original code of FLUX.1 and MiniMax-H3
    onto: the folder that `compact` wrote
    out: a file that does not exist yet, which diffusers loads into the model of `load_transformer`; with `merge` a
        folder, the compacted model with the adapter merged
    merge: whether to merge it
    strength: what the change is multiplied with, 1 by default; only with `merge`, since a loader takes its own
    progress: whether a progress bar is drawn
    on_bytes: called with (done, total), the bytes of the model, when it is merged; may raise to stop

    In a file, layers of AdaLN are in float32, with biases of PEFT's LoRA (`lora_bias`); others keep their bytes,
    under diffusers' names, but where their scale, alpha / rank, is not 1: the file has it in `lora_A`.

    Raises InputError for names that belong to no layer or to one layer twice, shapes that do not fit, a change of what
    makes c, an adapter that a file cannot hold, a folder that was compacted before directions were kept, and an `out`
    that exists; CheckpointError for files that are not what they say; FileNotFoundError for what is missing.
    """
    if strength is not None and not merge:
        raise InputError("strength belongs to merge: a loader takes its own, such as pipeline.set_adapters")
    factor = 1.0 if strength is None else as_number("strength", strength)
    target = Path(out)
    if not target.absolute().parent.is_dir():
        raise InputError(f"there is no folder {target.parent} to write {target.name} to: make it first")
    model = open_compacted(Path(onto))
    check_new(target, onto, model.source)
    adapter = open_adapter(Path(lora), whole_layers(model))
    if merge:
        with reporting(progress, on_bytes, "B") as report:
            write_merged(model, adapter, factor, target, report)
    else:
        _write_file(model, adapter, target)
    changed = sum(change.layer in model.adaln for change in adapter.changes)
    return ProjectedLora(str(target), changed, len(adapter.changes) - changed, merge, factor)


def _write_file(model: Compacted, adapter: Adapter, target: Path) -> None:
    """Write a LoRA with PEFT's names, whose alphas are its ranks: not all of diffusers' ways to load it read others."""
    tensors: dict[str, Tensor | Pieces] = {}
    ranks: dict[str, int] = {}
    biases = any(change.layer in model.adaln or "up_bias" in change.names for change in adapter.changes)
    for change in adapter.changes:
        if change.layer in model.adaln:
            layer, (down, up, bias) = f"{change.layer}.{NARROW}", _factors(model, change)
            made: dict[str, Tensor | Pieces] = {"lora_A.weight": down, "lora_B.weight": up, "lora_B.bias": bias}
        else:
            layer, made = change.layer, _as_it_was(model, change, biases=biases)
        ranks[layer] = made["lora_A.weight"].shape[0]
        tensors |= {f"transformer.{layer}.{name}": values for name, values in made.items()}
    rank = next(iter(ranks.values()))
    others = {f"^{layer}": each for layer, each in ranks.items() if each != rank}
    config = {"r": rank, "lora_alpha": rank, "rank_pattern": others, "alpha_pattern": others, "lora_bias": biases}
    config["target_modules"] = list(ranks)
    stated = json.dumps({f"transformer.{key}": value for key, value in config.items()}, sort_keys=True)
    work = target.with_name(f".{target.name}.partial")
    try:
        with needing_room(target.absolute().parent, sum(each.nbytes for each in tensors.values())):
            write_tensors(work, tensors, {DIFFUSERS: stated, "format": "pt"})
        for read in (model.source, adapter.source):
            read.check_unchanged()
        os.rename(work, target)
    finally:
        work.unlink(missing_ok=True)


def _factors(model: Compacted, change: Change) -> tuple[Tensor, Tensor, Tensor]:
    """The projected change as v, u and a bias, in float32; what is no LoRA has the identity for v."""
    rank = model.decode.shape[1]
    weight, bias = projected(model, change)
    if change.form == "LoRA":
        up = change.of_layer(change.read("up"))
        down = change.scale * (change.read("down").double() @ model.decode)
        return down.float(), up.float(), bias.float()
    if weight is None:
        return torch.zeros(1, rank), torch.zeros(change.outputs, 1), bias.float()
    return torch.eye(rank), weight.float(), bias.float()


def _as_it_was(model: Compacted, change: Change, *, biases: bool) -> dict[str, Tensor | Pieces]:
    """A LoRA of another layer: its bytes where its scale is 1, and the scale in `lora_A` where it is not.

    In float32 where their type does not hold that exactly. A bias of zeros is added where PEFT wants one of all layers.

    Raises InputError for what the file cannot hold.
    """
    if change.form != "LoRA" or "diff_b" in change.names:
        what = "a change of its bias" if change.form in ("LoRA", "bias") else f"a {change.form}"
        raise InputError(
            f"{change.source.path}: {change.said} has {what}, which a file for diffusers' loader cannot hold: merge it"
        )
    stored = change.source.tensors[change.names["up"]]
    dtype, rank = TORCH[stored.dtype], stored.shape[1]
    scaled = {"lora_A.weight": change.read("down")}
    if "up_bias" in change.names:
        scaled["lora_B.bias"] = change.of_layer(change.read("up_bias"))
    if change.scale != 1:
        exact = {name: values.double() * change.scale for name, values in scaled.items()}
        if any(not torch.equal(values.to(dtype).double(), values) for values in exact.values()):
            dtype = torch.float32
        scaled = {name: values.to(dtype) for name, values in exact.items()}
    if biases and "lora_B.bias" not in scaled:
        scaled["lora_B.bias"] = torch.zeros(change.outputs, dtype=dtype)
    _, inputs, *beyond = model.source.shape(f"{change.layer}.weight")
    up = (change.of_layer(change.read("up")).to(dtype) for _ in range(1))  # read when it is written
    return {
        "lora_A.weight": scaled.pop("lora_A.weight").reshape(rank, inputs, *beyond),
        "lora_B.weight": Pieces(dtype, (change.outputs, rank, *(1 for _ in beyond)), up),
        **scaled,
    }
