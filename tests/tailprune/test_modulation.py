"""The modulation error, against the modulations themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import tailprune
from tailprune import ModulationMetric, Prune, measure_modulation, modulation_error, sampling_times
from tailprune.checkpoints import files
from tailprune.checkpoints.load import NoModulations
from tailprune.condition_table import ConditionTable
from tailprune.systems import Condition, DiT, LightningDiT, SiT, System
from tailprune.systems.dit import PerBlockDiT
from tests.tailprune.conftest import random_system

LABELS = {"labels": torch.tensor([0, 3, 3, 1])}
PRUNES = [
    Prune("tail", 0.1),
    Prune("tail", 0.1, of="read", fill="mean"),
    Prune("head", 0.3, "last", 2),
    Prune.keep(9, by="deviation"),
    Prune.remove_fraction(0.5),
]


def directly(system: System, prune: Prune, steps: int) -> float:
    """The same from all shifts, scales and gates that every sample has at every step."""
    table = ConditionTable(system, LABELS, sampling_times(system, None, steps))
    prune = table.resolved(prune)
    changed = whole = 0.0
    bias = system.modulations(torch.full((1, system.condition_dim), -1e4))  # SiLU of it is 0
    for step in range(steps):
        for stage in range(table.stages):
            edit = prune if prune.active(step, steps) else None
            before, after = (
                system.modulations(table.conditions_at(step, stage, each)[table.rows]) for each in (None, edit)
            )
            for one, other, constant in zip(before, after, bias, strict=True):
                changed += (other - one).double().square().sum().item()
                whole += (one - constant).double().square().sum().item()
    return (changed / whole) ** 0.5


@pytest.mark.parametrize("prune", PRUNES)
def test_it_is_the_relative_change_of_all_modulations_of_a_run(dit: System, prune: Prune) -> None:
    assert modulation_error(dit, prune, LABELS, steps=5) == pytest.approx(directly(dit, prune, 5), rel=1e-4)


def test_several_prunes_are_measured_at_once(sit: System) -> None:
    found = modulation_error(sit, PRUNES, LABELS, steps=4)
    assert found == [pytest.approx(modulation_error(sit, prune, LABELS, steps=4)) for prune in PRUNES]
    assert all(error > 0 for error in found)


def test_a_prune_that_changes_nothing_has_no_error(sit: System) -> None:
    assert modulation_error(sit, Prune("tail", 0.0), LABELS, steps=4) == 0


def test_no_sample_is_made(sit: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: Any) -> None:
        pytest.fail("the network ran")

    monkeypatch.setattr(type(sit), "forward_modulated", forward)
    assert modulation_error(sit, Prune("tail", 0.1), LABELS) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prune": ["tail"]}, "prune must hold values such as"),
        ({"inputs": {"labels": []}}, "labels are empty"),
        ({"sampler": "ddpm"}, "has no sampler 'ddpm'"),
        ({"prune": Prune("tail", 0.1, "last", 9), "steps": 5}, "a schedule counts 9"),
    ],
)
def test_what_does_not_fit_is_refused(sit: System, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"prune": Prune("tail", 0.1), "inputs": LABELS} | arguments
    with pytest.raises(ValueError, match=message):
        tailprune.modulation_error(sit, given.pop("prune"), given.pop("inputs"), **given)


def measured(
    condition: Condition, prune: Prune, metric: ModulationMetric | None = None, **more: Any
) -> tailprune.ModulationChange:
    if metric is None:
        assert isinstance(condition, System)
        metric = ModulationMetric(condition)
    times = sampling_times(DiT, None, 5)
    return measure_modulation(condition, LABELS, [prune], times, metric=metric, **more)[0]


@pytest.mark.parametrize("prune", PRUNES)
def test_the_steps_have_shares_of_the_error(dit: System, prune: Prune) -> None:
    change = measured(dit, prune)
    assert [step > 0 for step in change.by_step] == [prune.active(step, 5) for step in range(5)]
    assert sum(step**2 for step in change.by_step) / 5 == pytest.approx(change.error**2)


TAILS = st.builds(
    lambda threshold, of, when: Prune("tail", threshold, *when, of=of),
    st.floats(1e-3, 3.0),
    st.sampled_from(["c", "read"]),
    st.sampled_from([("every", None), ("first", 2)]),
)


@settings(deadline=None, max_examples=40)
@given(prune=TAILS, seed=st.integers(0, 1000))
def test_no_vector_changes_by_more_than_the_bound(prune: Prune, seed: int) -> None:
    system = random_system(DiT, depth=1)
    change = measured(system, prune)
    assert change.bound is not None
    assert change.error <= change.largest * (1 + 1e-5) <= change.bound * (1 + 1e-4)
    assert prune.threshold is not None
    vectors = 2 * prune.threshold * torch.randn(64, 32, generator=torch.Generator().manual_seed(seed))
    metric = ModulationMetric(system)
    c = ConditionTable(system, LABELS, sampling_times(system, None, 5))
    run = [metric.squares(system.read(c.vectors_at(step, 0, None)[c.rows])) for step in range(5)]
    moved = metric.squares(system.read(prune(vectors)) - system.read(vectors))
    assert (moved.max() / torch.stack(run).mean()).sqrt().item() <= change.bound * (1 + 1e-4)


def test_the_bound_is_reached_where_changes_add_up(dit: System) -> None:
    for layer in dit.modulated:
        layer.adaLN_modulation.linear.weight.abs_()
    metric = ModulationMetric(dit)
    prune = Prune("tail", 0.5)
    vectors = torch.full((1, 32), 0.5 - 1e-6)
    moved = metric.squares(dit.read(prune(vectors)) - dit.read(vectors))
    reach = 0.5 / (1 + torch.tensor(-0.5).exp())
    assert moved.item() == pytest.approx(metric.most * reach.item() ** 2, rel=1e-4)


@pytest.mark.parametrize("prune", [Prune("head", 0.3), Prune.keep(9), Prune("tail", 0.1, fill="mean")])
def test_a_prune_that_can_change_anything_has_no_bound(dit: System, prune: Prune) -> None:
    change = measured(dit, prune)
    assert change.bound is None
    assert change.error <= change.largest


def test_a_share_has_the_bound_of_its_threshold(dit: System) -> None:
    share = Prune.remove_fraction(0.5)
    threshold = ConditionTable(dit, LABELS, sampling_times(dit, None, 5)).resolved(share)
    assert measured(dit, share) == measured(dit, threshold)


def test_a_system_whose_modulations_do_not_depend_on_c_has_no_error(dit: System) -> None:
    for layer in dit.modulated:
        layer.adaLN_modulation.linear.weight.zero_()
    assert measured(dit, Prune("tail", 0.1)).error == 0


def test_it_can_be_stopped_at_a_step(dit: System) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="5 of 5"):
        measured(dit, Prune("tail", 0.1), on_step=stop)


@pytest.mark.parametrize("cls", [DiT, SiT, LightningDiT])
def test_the_metric_of_a_file_is_that_of_its_system(cls: type[System], tmp_path: Path) -> None:
    system = random_system(cls)
    tailprune.save_system(system, tmp_path / "a.safetensors")
    found = ModulationMetric.load(tmp_path / "a.safetensors")
    assert torch.equal(found.layers, ModulationMetric(system).layers)


@pytest.mark.parametrize("rule", [{"threshold": 0.2}, {"keep": 9, "by": "directions", "fill": "mean"}])
def test_a_compacted_model_has_the_error_of_what_its_layers_read(
    dit: System, rule: dict[str, Any], tmp_path: Path
) -> None:
    system = tailprune.compact(dit, times=sampling_times(dit, None, 5), inputs=LABELS, **rule).system
    tailprune.save_system(system, tmp_path / "a.safetensors")
    metric = ModulationMetric.load(tmp_path / "a.safetensors")
    condition = tailprune.load_condition(tmp_path / "a.safetensors")
    prune = Prune("tail", 0.3)
    found = measured(condition, prune, metric=metric)
    assert found.error == pytest.approx(directly(system, prune, 5), rel=1e-4)
    assert (found.bound is None) == ("keep" in rule)


def test_a_model_whose_blocks_have_their_own_conditions_has_a_metric_of_each(tmp_path: Path) -> None:
    system = random_system(PerBlockDiT, depth=3)
    tailprune.save_system(system, tmp_path / "a.safetensors")
    prune = Prune("tail", 0.1)
    found = measured(system, prune, metric=ModulationMetric.load(tmp_path / "a.safetensors"))
    assert found.error == pytest.approx(directly(system, prune, 5), rel=1e-4)


def test_of_a_file_only_the_weights_of_adaln_are_read(
    dit: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(name: str) -> bool:
        return "adaLN_modulation" in name and name.endswith("weight")

    values = {
        name: tensor if read(name) else torch.full_like(tensor, torch.nan) for name, tensor in dit.state_dict().items()
    }
    save_file(values, tmp_path / "dit.safetensors", {"num_heads": "4"})
    sizes = [tensor.nbytes for name, tensor in values.items() if read(name)]
    was_read: list[int] = []

    class Counted:
        """A safetensors file that notes the bytes of each tensor that is read of it."""

        def __init__(self, path: Path, framework: str) -> None:
            self.file = safe_open(path, framework)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, name: str) -> torch.Tensor:
            tensor: torch.Tensor = self.file.get_tensor(name)
            was_read.append(tensor.nbytes)
            return tensor

    monkeypatch.setattr(files, "safe_open", Counted)
    found = ModulationMetric.load(tmp_path / "dit.safetensors", family="dit")
    assert torch.equal(found.layers, ModulationMetric(dit).layers)
    assert sorted(was_read) == sorted(sizes)


def test_a_file_of_the_condition_alone_has_no_metric(dit: System, tmp_path: Path) -> None:
    save_file({n: t for n, t in dit.state_dict().items() if "embedder" in n}, tmp_path / "dit.safetensors")
    with pytest.raises(NoModulations, match="has no weights of AdaLN"):
        ModulationMetric.load(tmp_path / "dit.safetensors", family="dit")
