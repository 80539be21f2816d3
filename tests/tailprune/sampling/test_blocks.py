"""Edits that only some blocks see, against the modulations of each layer, for every system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tailprune
from tailprune import Prune, modulation_error, sample, sampling_times
from tailprune.systems import SiT, System
from tailprune.systems.base import Modulations
from tailprune.systems.dit import PerBlockDiT
from tests.reference_models import BY_FEATURES, FAMILIES, case
from tests.tailprune.conftest import random_system
from tests.tailprune.parity import given
from tests.tailprune.watch import watched

SEEDS = [5, 6]
STEPS = 3


class Subject:
    """A system, two inputs, and a threshold that removes half of the components."""

    def __init__(self, name: str, folder: Path) -> None:
        self.system = _system(name, folder)
        generator = torch.Generator().manual_seed(1)
        self.inputs: dict[str, Tensor] = {"labels": torch.tensor([1, 0])}
        if name in BY_FEATURES:
            shapes = self.system.features  # type: ignore[attr-defined]
            self.inputs = {key: torch.randn(2, *shape, generator=generator) for key, shape in shapes.items()}
        self.times = sampling_times(self.system, self.system.facts.samplers[0], STEPS)
        self.threshold = self.condition(0).abs().median().item()
        self.blocks: list[Any] = [len(self.system.all_blocks) - 1, "final"]  # of two kinds

    def condition(self, step: int) -> Tensor:
        return self.system.condition(self.times[step, 0].float(), self.inputs)


def _system(name: str, folder: Path) -> System:
    if name == "a condition for each block":
        return random_system(PerBlockDiT)
    if name == "compacted":
        whole = random_system(SiT, learn_sigma=False)
        inputs = {"labels": torch.arange(10)}
        times = sampling_times(whole, steps=STEPS)
        return tailprune.compact(whole, times=times, inputs=inputs, keep=20, fill="mean").system
    content, path = case(name), folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in content["state_dict"].items()}, path)
    return tailprune.load(path, family=name, **given(content))


@pytest.fixture(scope="module", params=[*FAMILIES, "a condition for each block", "compacted"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(request.param, tmp_path_factory.mktemp("systems"))


def mixed(system: System, c: Tensor, prune: Prune, blocks: list[Any]) -> Modulations:
    """Of each layer, those of the pruned or of the whole vectors."""
    d = system.condition_dim
    pruned = torch.cat([prune(c[:, :d]), c[:, d:]], dim=1)  # columns of time of a compacted system stay
    numbers = [*range(len(system.all_blocks)), "final"]
    whole, edited = system.modulations(c), system.modulations(pruned)
    return [two if block in blocks else one for block, one, two in zip(numbers, whole, edited, strict=True)]


def test_only_the_blocks_that_are_named_see_the_edit(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    system, seen = subject.system, []
    forward = system.forward_modulated

    def heard(x: Tensor, modulations: Modulations) -> Tensor:
        seen.append(modulations)
        return forward(x, modulations)

    monkeypatch.setattr(system, "forward_modulated", heard)
    prune = Prune("tail", subject.threshold, blocks=subject.blocks)
    sampler = system.facts.samplers[0]
    sample(system, subject.inputs, prune=[None, prune], sampler=sampler, steps=STEPS, seeds=SEEDS)
    assert len(seen) == STEPS * subject.times.shape[1]
    whole = Prune("tail", subject.threshold)
    for step, modulations in enumerate(seen):
        c = subject.condition(step)
        expected = zip(system.modulations(c), mixed(system, c, whole, subject.blocks), strict=True)
        for ours, theirs in zip(modulations, map(torch.cat, expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert not torch.equal(modulations[-1][:2], modulations[-1][2:])  # the final layer sees the edit
        assert torch.equal(modulations[0][:2], modulations[0][2:]) or len(system.all_blocks) == 1


def test_all_blocks_are_those_of_a_prune_that_names_none(subject: Subject) -> None:
    every = [*range(len(subject.system.all_blocks)), "final"]
    options: dict[str, Any] = {"sampler": subject.system.facts.samplers[0], "steps": 2, "seeds": SEEDS}
    prunes = [Prune("tail", subject.threshold, blocks=blocks) for blocks in (None, every)]
    one, other = sample(subject.system, subject.inputs, prune=prunes, **options)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_modulation_error_counts_the_layers_that_see_the_edit(subject: Subject) -> None:
    system, blocks = subject.system, subject.blocks
    whole = Prune("tail", subject.threshold)
    prune = Prune("tail", subject.threshold, blocks=blocks)
    nothing = torch.full_like(subject.condition(0)[:1], -1e4)  # SiLU of it is 0
    nothing[:, system.condition_dim :] = 0  # columns of time are read as they are
    constant = system.modulations(nothing)
    changed = total = 0.0
    for step in range(STEPS):
        for stage in range(subject.times.shape[1]):
            c = system.condition(subject.times[step, stage].float(), subject.inputs)
            before, after = system.modulations(c), mixed(system, c, whole, blocks)
            for one, other, zero in zip(before, after, constant, strict=True):
                changed += (other - one).double().square().sum().item()
                total += (one - zero).double().square().sum().item()
    options: dict[str, Any] = {"sampler": system.facts.samplers[0], "steps": STEPS}
    found = modulation_error(system, [prune, whole], subject.inputs, **options)
    assert found[0] == pytest.approx((changed / total) ** 0.5, rel=1e-4)
    assert 0 < found[0] < found[1]


def test_the_errors_of_the_blocks_add_up_to_that_of_all() -> None:
    system = random_system(SiT)
    prunes = [Prune("tail", 0.3, blocks=[block]) for block in (0, 1, "final")]
    found = modulation_error(system, [*prunes, Prune("tail", 0.3)], {"labels": [3, 4]}, steps=4)
    assert sum(error**2 for error in found[:3]) == pytest.approx(found[3] ** 2)


def test_no_more_goes_through_the_network_and_the_null_condition_is_edited_alike() -> None:
    system = random_system(SiT)
    prunes = [None, Prune("tail", 0.3, blocks=[0]), Prune("head", 0.5, "last", 1, blocks=["final"])]
    options: dict[str, Any] = {"guidance": 2.0, "steps": 3, "seeds": SEEDS}
    inputs = {"labels": torch.tensor([3, 4])}
    with watched(system) as seen:
        together = sample(system, inputs, prune=prunes, **options)
    assert seen.rows == [8, 8, 12]  # two branches of two samples, of two trajectories, then of three
    assert len(seen.conditions) == 1
    for prune, latents in zip(prunes, together, strict=True):
        torch.testing.assert_close(latents, sample(system, inputs, prune=prune, **options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", ["heun", "dopri5"])
def test_every_sampler_knows_blocks(sampler: str) -> None:
    system, inputs = random_system(SiT), {"labels": torch.tensor([3, 4])}
    prunes = [None, Prune("tail", 0.3, blocks=[1]), Prune("tail", 0.3)]
    whole, some, every = sample(system, inputs, prune=prunes, sampler=sampler, steps=3, seeds=SEEDS)
    assert 0 < (some - whole).norm() < (every - whole).norm()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([2], "block 2 is outside 0 to 1, the blocks of this system: give one of these, or 'final'"),
        ([0, 7], "block 7 is outside 0 to 1"),
    ],
)
def test_a_block_that_a_system_does_not_have_is_refused(blocks: list[Any], message: str) -> None:
    system = random_system(SiT)
    prune = Prune("tail", 0.1, blocks=blocks)
    with pytest.raises(ValueError, match=message):
        sample(system, {"labels": [1]}, prune=prune, steps=2, seeds=[0])
    with pytest.raises(ValueError, match=message):
        modulation_error(system, prune, {"labels": [1]}, steps=2)
