"""Reading reference cases and reproducing every one of their outputs."""

from __future__ import annotations

import io
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tailprune import Guidance, Prune, load, sample
from tailprune.systems import Inputs, System

TOLERANCE = 1e-4
CONDITION_TOLERANCE = 1e-6

INPUT_NAMES = {
    "y": "labels",
    "dino_tgt_pose": "pose",
    "dino_src_img": "image",
    "src_img": "latents",
    "mix_video_feat": "video",
    "s": "scale",
}
GIVEN = ("num_heads", "decode_layer")


def read(path: Path) -> dict[str, Any]:
    return torch.load(io.BytesIO(lzma.decompress(path.read_bytes())), weights_only=True)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


def given(content: dict[str, Any]) -> dict[str, Any]:
    """What names and shapes of a case's checkpoint do not say."""
    return {name: content["config"][name] for name in GIVEN if name in content["config"]}


def inputs_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """What the samples of a case are conditioned on, by our names."""
    found = content["inputs"]
    given = {ours: found[theirs] for theirs, ours in INPUT_NAMES.items() if theirs in found}
    return {
        name: value if isinstance(value, Tensor) else torch.full((len(found["x"]),), float(value))
        for name, value in given.items()
    }


class Case:
    """One reference case and this project's answer to each of its outputs."""

    def __init__(self, content: dict[str, Any], folder: Path) -> None:
        self.content = content
        self.settings = content["settings"]
        self.inputs: Inputs = inputs_of(content)
        self.path = folder / "case.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in content["state_dict"].items()}, self.path)
        self.system: System = load(self.path, family=content["family"], **given(content))

    def errors(self) -> Iterator[tuple[str, float]]:
        """Every entry of `outputs` with our relative error. Raises KeyError for one that is not understood."""
        for name, theirs in self.content["outputs"].items():
            ours = self.reproduce(name)
            assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)}, not {tuple(theirs.shape)}"
            yield name, relative_error(ours, theirs)

    @torch.inference_mode()
    def reproduce(self, name: str) -> Tensor:
        x, t = self.content["inputs"]["x"], self.content["inputs"]["t"]
        if name == "condition":
            return self.system.condition(t, self.inputs)
        if name == "forward" or name.startswith("forward_"):
            c = self.system.condition(t, self.inputs)
            edit = self._prune(name.removeprefix("forward").strip("_"), "every")
            return self._thinned(self.system(x, c if edit is None else edit(c)))
        return self._sample(name.removeprefix("sample_"))

    def _thinned(self, output: Tensor) -> Tensor:
        """Every so manieth row and column, where the case keeps no more: `[:, :, ::4, ::2]`."""
        steps = re.findall(r"::(\d+)", self.settings.get("forward_thinned", ""))
        return output[:, :, :: int(steps[0]), :: int(steps[1])] if steps else output

    def _prune(self, words: str, schedule: str) -> Prune | None:
        if not words:
            return None
        side = words.split("_")[0]
        threshold = self.settings["tau_" + ("tail_1" if words == "tail" else words)]
        count = {"every": None, "first": None, "last": self.settings.get("last_k")}[schedule]
        return Prune(side, threshold, schedule=schedule, count=count)

    def _sample(self, words: str) -> Tensor:
        method, *edit = words.split("_")
        options: dict[str, Any] = {}
        prune = None
        if method == "sde" and edit and edit[0] in ("sigma", "linear"):
            options = {"diffusion": edit[0], "last_step": edit[1]}
            edit = edit[2:]
        if method == "dopri5":
            options = {"atol": 1e-7, "rtol": 1e-6}
        if method in ("euler", "heun"):
            options = {"shift": self.settings.get("timestep_shift") or None}  # theirs is off at 0
        if edit:
            side, schedule = edit
            prune = self._prune(side, schedule)
        inputs = self.content["inputs"]
        step_noise = inputs.get(f"step_noise_{method}", inputs.get("step_noise"))
        # MG's samplers tell a scale-aware network the scale they were given, whatever its forward was asked with.
        conditioned_on = dict(self.inputs)
        if self.settings["guidance_scale"] != 1:
            conditioned_on.pop("scale", None)
        return sample(
            self.system,
            conditioned_on,
            sampler=method,
            steps=self.settings["steps"],
            guidance=self._guidance(),
            prune=prune,
            noise=inputs["z"],
            step_noise=step_noise,
            **options,
        )

    def _guidance(self) -> Guidance:
        channels = self.settings["guided_channels"]
        bounds = [float(number) for number in re.findall(r"\d\.\d+", self.settings.get("guidance_interval", ""))]
        if len(bounds) == 1:  # "guided only where t >= 0.11"
            bounds.append(1.0)
        return Guidance(
            self.settings["guidance_scale"],
            channels=None if channels == "all" else channels,
            power=self.settings.get("guidance_power"),
            interval=(bounds[0], bounds[1]) if bounds else None,
        )
