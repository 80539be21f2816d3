"""The facts of each architecture family: its times, samplers and inputs, and how its authors sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["FAMILIES", "Family"]

Shape = tuple[int, ...]

GUIDANCE_EMBEDDER = "s_embedder."
"""The prefix of the tensors that embed a guidance scale into the condition."""


@dataclass(frozen=True)
class Family:
    """A family: what its network predicts, how it is sampled, and what it is conditioned on."""

    prediction: Literal["epsilon", "velocity"]
    """What the network returns: noise (and variance) of a Gaussian diffusion, or the velocity of the linear path."""
    samplers: tuple[str, ...]
    default_sampler: str
    """The sampler of `tailprune.sample` by default."""
    noise_time: float
    """The time of pure noise, at which sampling starts."""
    data_time: float
    """The time of data, at which sampling ends."""
    published: Mapping[str, Any]
    """How its authors sample, by the names of `jobs.registry.defaults.ModelDefaults`."""
    whole_times: bool = False
    """Whether times are whole numbers."""
    float64_steps: bool = False
    """Whether the published samplers keep x in float64 between steps, around a network in float32."""
    heun_corrects_last_step: bool = True
    """Whether the last step of the published Heun sampler has two evaluations; otherwise it is one of Euler."""
    name_in_others_files: bool = False
    """Whether the published files of other families have this family's name in theirs."""
    features: Mapping[str, Shape] = field(default_factory=dict)
    """The inputs of its models by name, with the shape of one sample's; empty for class-conditional families."""
    condition_tensors: tuple[str, ...] = ("t_embedder.", "y_embedder.")
    """The prefixes of the tensors in a checkpoint that condition vectors are computed from."""
    latents: Shape | None = None
    """Channels, height and width of a sample, if all models of the family have the same; else None."""

    @property
    def guided_channels(self) -> int | None:
        """How many of the first channels the published sampler guides; None for all."""
        channels = self.published["guided_channels"]
        return None if channels == "all" else int(channels)

    @property
    def takes_guidance(self) -> bool:
        """Whether its models take the guidance scale as an input, instead of being guided by the sampler."""
        return GUIDANCE_EMBEDDER in self.condition_tensors

    @property
    def time_unit(self) -> str:
        """What a time of the family is, with its range, for messages."""
        what = "diffusion steps" if self.prediction == "epsilon" else "positions on the path"
        numbers = "whole numbers" if self.whole_times else "any numbers"
        return f"{what}, {numbers} from {self.noise_time:g} (noise) to {self.data_time:g} (data)"

    def check_range(self, t: float) -> str | None:
        """The reason why `t` is not between the times of noise and data, with the closest one, or None if it is."""
        low, high = sorted((self.noise_time, self.data_time))
        if low <= t <= high:
            return None
        return self._wrong_time(t, f"outside {low:g} to {high:g}", high if t > high else low)

    def check_time(self, t: float) -> str | None:
        """The reason why `t` is not a time of the family, with the closest one, or None if it is one."""
        if (fault := self.check_range(t)) is not None or not self.whole_times or t == round(t):
            return fault
        return self._wrong_time(t, "not a whole number", round(t))

    def _wrong_time(self, t: float, wrong: str, closest: float) -> str:
        return f"time {t:g} is {wrong}; times of this model are {self.time_unit}; the closest is {closest:g}"


GAUSSIAN = ("ddim", "ddpm", "dpmpp")
FLOW = ("euler", "heun", "dopri5", "sde")
PERSON: Mapping[str, Shape] = {"pose": (257, 768), "image": (257, 1536), "latents": (4, 32, 32)}
VIDEO: Mapping[str, Shape] = {"video": (32, 512)}

# The settings of the published evaluations; docs/systems.md has their sources.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "dit": Family(
            prediction="epsilon",
            samplers=GAUSSIAN,
            default_sampler="ddim",
            noise_time=999,
            data_time=0,
            whole_times=True,
            published={"sampler": "ddpm", "steps": 250, "guidance_scale": 1.5, "guided_channels": 3},
        ),
        "sit": Family(
            prediction="velocity",
            samplers=FLOW,
            default_sampler="euler",
            noise_time=0.0,
            data_time=1.0,
            name_in_others_files=True,  # MG and REPA are SiTs
            published={"sampler": "sde", "steps": 250, "guidance_scale": 1.5, "guided_channels": 3},
        ),
        "mdt": Family(
            prediction="epsilon",
            samplers=GAUSSIAN,
            default_sampler="ddim",
            noise_time=999,
            data_time=0,
            whole_times=True,
            published={
                "sampler": "ddpm",
                "steps": 250,
                "guidance_scale": 3.8,
                "guidance_power": 4.0,
                "guided_channels": 3,
            },
        ),
        "lightningdit": Family(
            prediction="velocity",
            samplers=FLOW,
            default_sampler="euler",
            noise_time=0.0,
            data_time=1.0,
            published={
                "sampler": "euler",
                "steps": 249,  # between its grid's 250 points
                "guidance_scale": 6.7,
                "guidance_interval": [0.125, 1.0],
                "guided_channels": 3,
                "timestep_shift": 0.3,
            },
        ),
        "repa": Family(
            prediction="velocity",
            samplers=FLOW,
            default_sampler="sde",
            noise_time=1.0,
            data_time=0.0,
            float64_steps=True,
            heun_corrects_last_step=False,
            published={
                "sampler": "sde",
                "steps": 250,
                "guidance_scale": 1.8,
                "guidance_interval": [0.0, 0.7],
                "guided_channels": "all",
            },
        ),
        "mg": Family(
            prediction="velocity",
            samplers=FLOW,
            default_sampler="sde",
            noise_time=1.0,
            data_time=0.0,
            float64_steps=True,
            heun_corrects_last_step=False,
            published={"sampler": "sde", "steps": 250, "guidance_scale": 1.0, "guided_channels": "all"},
            condition_tensors=("t_embedder.", "y_embedder.", "s_embedder."),
        ),
        "x-mdpt": Family(
            prediction="epsilon",
            samplers=GAUSSIAN,
            default_sampler="ddim",
            noise_time=999,
            data_time=0,
            whole_times=True,
            published={
                "sampler": "ddim",
                "steps": 50,
                "guidance_scale": 2.0,
                "guidance_power": 0.01,
                "guided_channels": "all",
            },
            features=PERSON,
            condition_tensors=(
                "t_embedder.", "x_embedder.", "pos_embed", "mlp_dino_pose.", "mlp_dino_img.", "conv1d_pose.",
                "conv1d_global.", "conv1d_local.", "mlp_final.",
            ),
            latents=(4, 32, 32),
        ),
        "mdsgen": Family(
            prediction="epsilon",
            samplers=GAUSSIAN,
            default_sampler="dpmpp",
            noise_time=999,
            data_time=0,
            published={
                "sampler": "dpmpp",
                "steps": 50,
                "guidance_scale": 5.0,
                "guidance_power": 0.01,
                "guided_channels": "all",
            },
            features=VIDEO,
            condition_tensors=("t_embedder.", "mlp_feat.", "conv1d_feat."),
            latents=(8, 204, 16),
        ),
    }
)  # fmt: skip
