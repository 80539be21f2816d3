"""Masks learned through a frozen network: what they keep, and that they are no worse than what they began with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tailprune
from tailprune import LearnedMask, Prune, learn_mask
from tailprune.learned_mask import TEMPERATURE, _gates, _offset
from tailprune.spec import InputError
from tailprune.systems import MG, DiT, SiT, System
from tailprune.systems.dit import PerBlockDiT
from tailprune.systems.sit import ScaleAwareMG
from tests.tailprune.conftest import random_system

LABELS = {"labels": torch.tensor([3, 0, 5, 9])}
QUICK: dict[str, Any] = {"steps": 4, "iterations": 20, "batch_size": 8}


def learned(system: System, share: float = 0.5, **changes: Any) -> LearnedMask:
    return learn_mask(system, LABELS, share, **(QUICK | changes))


def blind_to(system: System, components: Tensor) -> System:
    """The system, none of whose layers reads some components."""
    for layer in system.modulated:
        layer.adaLN_modulation.linear.weight.data[:, components] = 0
    return system


@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("cls", [SiT, DiT])
def test_what_no_layer_reads_is_removed_without_error(cls: type[System], guidance: float, fill: Any) -> None:
    silent = torch.tensor([1, 4, 5, 6, 11, 12, 19, 25, 30, 31])
    found = learned(blind_to(random_system(cls), silent), 10 / 32, fill=fill, guidance=guidance)
    assert set(found.kept) == set(range(32)) - set(silent.tolist())
    assert found.error < 1e-5
    assert found.prune == Prune.components(found.kept, fill=fill)


def test_a_learned_mask_is_found_where_the_first_is_wrong(sit: System) -> None:
    first = learned(sit, 0.75, iterations=1, learning_rate=1e-9)
    later = learned(sit, 0.75, iterations=200, learning_rate=0.3, guidance=1.0)
    assert first.error == first.first_error == later.first_error
    assert later.error < 0.97 * later.first_error
    assert len(later.kept) == len(first.kept) == 8
    assert set(later.kept) != set(first.kept)


def test_the_error_is_that_of_the_network_under_the_prune(sit: System) -> None:
    found = learned(sit, guidance=2.0)
    assert found.error <= found.first_error
    x = tailprune.sampling.gaussian_noise([(0, n) for n in range(4)], 0, sit.latent_shape)
    outputs = []
    for prune in (None, found.prune):
        table = tailprune.ConditionTable(sit, LABELS, tailprune.sampling_times(sit, steps=4))
        c = table.conditions_at(0, 0, prune)
        conditional, null = sit(x, c[table.rows]), sit(x, c[table.null_row].expand(4, -1))
        outputs.append(tailprune.Guidance(2.0, channels=3).combine(conditional, null, 2.0).flatten(1))
    whole, pruned = outputs
    first_step = ((pruned - whole).square().sum(1) / whole.square().sum(1)).mean().sqrt()
    assert 0.2 * found.error < first_step < 5 * found.error  # of the first of four steps


def test_equal_arguments_give_an_equal_mask_and_another_seed_other_noise(sit: System) -> None:
    first, again, other = learned(sit), learned(sit), learned(sit, seed=1)
    assert (first.kept, first.losses, first.error) == (again.kept, again.losses, again.error)
    assert first.losses != other.losses
    torch.manual_seed(5)
    assert learned(sit).losses == first.losses


def test_the_system_stays_as_it_is(sit: System) -> None:
    sit.requires_grad_(True).train()
    before = {name: tensor.clone() for name, tensor in sit.state_dict().items()}
    learned(sit)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sit.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in sit.parameters())
    assert sit.training


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (DiT, {"sampler": "ddpm", "guidance": 2.0}),
        (SiT, {"sampler": "heun", "guidance": 2.0}),
        (MG, {"guidance": 1.5}),
        (ScaleAwareMG, {"guidance": 1.5}),
        (PerBlockDiT, {"guidance": 2.0}),
    ],
)
def test_every_kind_of_condition_is_learned_and_sampled(cls: type[System], options: dict[str, Any]) -> None:
    system = random_system(cls)
    found = learned(system, **options)
    assert len(found.kept) == system.condition_dim // 2
    latents = tailprune.sample(system, LABELS, prune=found.prune, steps=4, seeds=range(4), **options)
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("cls", [SiT, DiT])
def test_points_may_be_those_of_data(cls: type[System]) -> None:
    system = random_system(cls)
    data = torch.randn(4, *system.latent_shape, generator=torch.Generator().manual_seed(2))
    of_data, of_samples = learned(system, data=data), learned(system)
    assert of_data.first_error != of_samples.first_error
    assert of_data.losses == learned(system, data=data).losses


def test_iterations_are_told_of_and_may_be_stopped(sit: System) -> None:
    told: list[tuple[int, int]] = []
    learned(sit, iterations=3, on_step=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_as_many_gates_are_open_as_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, generator=generator)
    gates = _gates(logits + _offset(logits, 20), torch.rand(4000, 64, generator=generator))
    assert (gates > 0).sum(1).double().mean().item() == pytest.approx(20, abs=0.3)
    assert (gates.min(), gates.max()) == (0, 1)
    assert TEMPERATURE == 2 / 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"share": 0.0}, "above 0 and below 1, not 0.0"),
    ({"share": 1.0}, "above 0 and below 1, not 1.0"),
    ({"share": "a"}, "the share of components to remove must be a finite number"),
    ({"fill": "refit"}, "fill must be 'zero' or 'mean', not 'refit'"),
    ({"sampler": "dopri5"}, "dopri5 chooses its own times"),
    ({"sampler": "ddim"}, "sit has no sampler 'ddim'"),
    ({"iterations": 0}, "iterations must be a whole number of at least 1"),
    ({"batch_size": 0}, "batch_size, the points an iteration, must be a whole number"),
    ({"learning_rate": 0}, "learning_rate must be a finite number above 0"),
    ({"seed": -1}, "seed must be a whole number of at least 0"),
    ({"data": torch.zeros(3, 4, 8, 8)}, r"data must have shape \(4, 4, 8, 8\)"),
    ({"on_step": 5}, r"takes \(done, total\)"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_a_wrong_argument_is_refused(sit: System, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        learned(sit, **options)


def test_guidance_needs_a_null_condition() -> None:
    with pytest.raises(InputError, match="this system has no null condition"):
        learned(random_system(SiT, null_condition=False), guidance=2.0)


def test_a_compacted_system_has_no_mask_to_learn(sit: System) -> None:
    made = tailprune.compact(sit, times=torch.tensor([0.5]), inputs=LABELS, keep=4)
    with pytest.raises(InputError, match="learn the mask of the full system"):
        learned(made.system)
