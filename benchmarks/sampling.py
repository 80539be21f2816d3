"""Is sampling faster than the loop of the official script, and than diffusers' pipeline?

The loop and its network are written plainly (`benchmarks/plain.py`) and have the same weights; nothing is
compiled. DiTs are also compared with diffusers' pipeline: the weights converted, as many steps, the same guidance.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.diffusers_side import converted, pipeline, read_back
from benchmarks.plain import PlainDiT, ddim_loop, euler_loop
from benchmarks.report import Aim, Section, at_least, at_most, not_run, ratio, shown
from demo import ROOT
from tailprune import Guidance, load, sample
from tailprune.sampling import gaussian_noise
from tailprune.systems import DiT, System
from tailprune.systems.dit import DiTConfig
from tailprune.systems.speed import has_bfloat16

BATCH, SCALE, ROUNDS = 8, 4.0, 3
S2: dict[str, Any] = {
    "input_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 384, "depth": 12, "num_heads": 6,
    "num_classes": 1000,
}  # fmt: skip
S2_STEPS, SHIPPED_STEPS = 3, 50
SEEDS = [(0, n) for n in range(BATCH)]

FASTER, NARROW_FASTER, CLOSE = 1.15, 1.8, 1e-4
"""The aims: ratios in float32 and in bfloat16, and the relative error in float32."""

Row = tuple[str, list[Aim]]
Side = Callable[[], Tensor]


def run() -> Section:
    """One table: the same samples by either side, in float32 and in bfloat16."""
    rows: list[str] = []
    aims: list[Aim] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, system, steps in _cases():
            for row, some in _rows(name, system, steps, Path(folder)):
                rows.append(row)
                aims += some
    return Section(
        "## Sampling, against the loop of the official script and diffusers' pipeline\n\n"
        f"{BATCH} samples of as many labels, guided, both branches in one batch; median of {ROUNDS} rounds, in turn "
        f"(least to most), of {S2_STEPS} steps of DiT-S/2 and {SHIPPED_STEPS} of the shipped models. The difference is "
        "relative, of the latents, and in bfloat16 is what is called drift; diffusers' sampler steps between other "
        "times, so beside it the network's outputs are compared.\n\n"
        "| model | ours | the other side | its time | our time | ratio | difference |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n",
        aims,
    )


def random_dit(config: Mapping[str, Any]) -> DiT:
    """A DiT of random weights."""
    torch.manual_seed(0)
    system = DiT(DiTConfig(**config)).requires_grad_(False).eval()
    for tensor in system.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.03)
    return system


def _cases() -> list[tuple[str, System, int]]:
    models = ROOT / "models"
    return [
        ("DiT-S/2", random_dit(S2), S2_STEPS),
        ("shapes-sit", load(models / "shapes-sit"), SHIPPED_STEPS),
        ("shapes-dit", load(models / "shapes-dit"), SHIPPED_STEPS),
    ]


def _rows(name: str, system: System, steps: int, folder: Path) -> list[Row]:
    labels, guidance = torch.arange(BATCH), Guidance(SCALE, channels=3)
    noise = gaussian_noise(SEEDS, 0, system.latent_shape)
    loop = euler_loop if system.facts.prediction == "velocity" else ddim_loop
    sampler = "euler" if system.facts.prediction == "velocity" else "ddim"
    plain = _plain(system)

    def ours(of: System = system) -> Tensor:
        made = sample(of, {"labels": labels}, sampler=sampler, steps=steps, guidance=guidance, seeds=SEEDS)
        assert isinstance(made, Tensor)
        return made

    def theirs() -> Tensor:
        return loop(plain, noise, labels, steps, SCALE, 3)

    rows = [_row(name, "float32", "the loop, float32", theirs, ours, _difference(ours(), theirs()))]
    if has_bfloat16():
        system.compute_in(torch.bfloat16)
        rows.append(_row(name, "bfloat16", "the loop, float32", theirs, ours, _difference(ours(), theirs())))
        system.compute_in(torch.float32)
    else:
        question = _question(name, "bfloat16", "the loop, float32")
        lacking = not_run(question, f"at least {NARROW_FASTER:g}", "no bfloat16 instructions")
        rows.append((f"| {name} | bfloat16 | the loop, float32 | | | | {lacking.measured} |", [lacking]))
    if isinstance(system, DiT) and system.family == "dit":
        rows.append(_beside_diffusers(name, system, steps, folder))
    return rows


def _beside_diffusers(name: str, system: DiT, steps: int, folder: Path) -> Row:
    model = converted(system)
    theirs, ours = pipeline(model), read_back(model, folder)
    labels = torch.arange(BATCH)
    guidance = Guidance(SCALE, channels=system.latent_shape[0])

    def piped() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        made = theirs(
            labels.tolist(), guidance_scale=SCALE, generator=generator, num_inference_steps=steps, output_type="pt"
        )
        return made.images

    def sampled() -> Tensor:
        made = sample(ours, {"labels": labels}, sampler="ddim", steps=steps, guidance=guidance, seeds=SEEDS)
        assert isinstance(made, Tensor)
        return made

    x, t = gaussian_noise(SEEDS, 0, system.latent_shape), torch.full((BATCH,), 500.0)
    with torch.inference_mode():
        out = model(x, timestep=t, class_labels=labels).sample
        difference = _difference(ours(x, ours.condition(t, {"labels": labels})), out)
    return _row(name, "float32", "diffusers, float32", piped, sampled, difference)


def _plain(system: System) -> PlainDiT:
    assert isinstance(system, DiT), "the plain network is DiT's"
    channels, size, _ = system.latent_shape
    learned = system.final_layer.linear.out_features // system.patch_size**2
    plain = PlainDiT(
        input_size=size, patch_size=system.patch_size, in_channels=channels, hidden_size=system.condition_dim,
        depth=len(system.blocks), num_heads=int(system.metadata_arguments()["num_heads"]),
        num_classes=system.num_classes,
        learned=learned, out_channels=channels if system.facts.prediction == "velocity" else learned,
    )  # fmt: skip
    plain.load_state_dict(system.state_dict())
    return plain.requires_grad_(False).eval()


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def _row(name: str, precision: str, against: str, theirs: Side, ours: Side, difference: float) -> Row:
    times: tuple[list[float], list[float]] = ([], [])
    for side in (theirs, ours):
        side()
    for _ in range(ROUNDS):
        for side, taken in zip((theirs, ours), times, strict=True):
            begun = time.perf_counter()
            side()
            taken.append(time.perf_counter() - begun)
    other, mine = times
    row = (
        f"| {name} | {precision} | {against} | {shown(other, _seconds)} | {shown(mine, _seconds)} "
        f"| {ratio(other, mine)} | {difference:.1e} |"
    )
    question = _question(name, precision, against)
    if precision == "bfloat16":
        return row, [at_least(question, other, mine, NARROW_FASTER)]
    return row, [at_least(question, other, mine, FASTER), at_most(f"{question}: difference", difference, CLOSE)]


def _question(name: str, precision: str, against: str) -> str:
    return f"sampling {name}, {precision}, against {against}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
