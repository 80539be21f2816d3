"""Edits: vectors moved by a shift, at some steps, while the null condition's stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tailprune
from tailprune import Edit, Prune, Schedule, Shift, sampling_times, shift_between
from tailprune.condition_table import ConditionTable
from tailprune.directions import PrincipalDirections, class_vectors, metric_of
from tailprune.sampling import Guidance
from tailprune.spec import InputError
from tailprune.systems import MDT, REPA, DiT, LightningDiT, MDSGen, SiT, System
from tailprune.systems.sit import ScaleAwareMG
from tests.tailprune.conftest import random_system

LABELS = {"labels": torch.tensor([0, 3, 3])}
SEEDS = [1, 2, 3]


def sampled(system: System, prune: Any, inputs: Any = LABELS, **options: Any) -> Any:
    given = {"steps": 4, "guidance": 2.0} | options
    return tailprune.sample(system, inputs, prune=prune, seeds=SEEDS[: len(inputs["labels"])], **given)


def test_strength_1_makes_one_class_the_other(sit: System) -> None:
    edit = Edit(shift_between(sit, {"labels": [3]}, {"labels": [7]}))
    edited = sampled(sit, edit, {"labels": torch.tensor([3])})
    torch.testing.assert_close(edited, sampled(sit, None, {"labels": torch.tensor([7])}), atol=1e-4, rtol=1e-4)


def test_the_null_condition_is_not_moved(sit: System) -> None:
    edit = Edit(shift_between(sit, {"labels": [3]}, {"labels": [7]}), 0.5)
    table = ConditionTable(sit, LABELS, sampling_times(sit, None, 4))
    before, after = table.vectors_at(1, 0, None), table.vectors_at(1, 0, edit)
    torch.testing.assert_close(after[:-1] - before[:-1], (edit.shift.vector / 2).expand(2, -1), atol=1e-6, rtol=0)
    assert torch.equal(after[-1], before[-1])


def test_strength_0_changes_no_bit(sit: System) -> None:
    nothing = Edit(shift_between(sit, {"labels": [3]}, {"labels": [7]}), 0.0)
    assert torch.equal(sampled(sit, nothing), sampled(sit, None))


def test_edits_and_prunes_of_one_call_start_from_the_same_noise(sit: System) -> None:
    shift = shift_between(sit, {"labels": [3]}, {"labels": [7]})
    ways = [None, Edit(shift, 0.5), Prune("tail", 0.1), Edit(shift, -1.0)]
    together = sampled(sit, ways)
    for way, latents in zip(ways, together, strict=True):
        torch.testing.assert_close(latents, sampled(sit, way), atol=1e-5, rtol=1e-4)


def test_an_edit_of_the_last_steps_shares_the_steps_before(sit: System) -> None:
    shift = shift_between(sit, {"labels": [3]}, {"labels": [7]})
    late = Edit(shift, 1.0, Schedule("last", 2))
    assert [late.active(step, 4) for step in range(4)] == [False, False, True, True]
    unedited, some, whole = sampled(sit, [None, late, Edit(shift)])
    assert 0 < (some - unedited).norm() < (whole - unedited).norm()


def test_each_sample_may_have_edits_of_its_own(sit: System) -> None:
    edits = [Edit(shift_between(sit, {"labels": [label]}, {"labels": [7]})) for label in (0, 3)]
    inputs = {"labels": torch.tensor([0, 3])}
    found = tailprune.sample_each(sit, inputs, prunes=[[edit] for edit in edits], seeds=[1, 2], steps=4)
    expected = tailprune.sample(sit, {"labels": torch.tensor([7, 7])}, seeds=[1, 2], steps=4)
    torch.testing.assert_close(torch.stack([one for (one,) in found]), expected, atol=1e-4, rtol=1e-4)


def test_dopri5_takes_an_edit_of_every_step_alone(sit: System) -> None:
    shift = shift_between(sit, {"labels": [3]}, {"labels": [7]})
    with pytest.raises(InputError, match="dopri5 chooses its own steps"):
        sampled(sit, Edit(shift, 1.0, Schedule("first", 2)), sampler="dopri5")
    edited = sampled(sit, Edit(shift), {"labels": torch.tensor([3])}, sampler="dopri5", guidance=1.0)
    assert edited.isfinite().all()


@pytest.mark.parametrize("family", [DiT, SiT, MDT, LightningDiT, REPA, ScaleAwareMG])
def test_every_system_with_classes_can_be_edited(family: type[System]) -> None:
    system = random_system(family, **({"decode_layer": 1} if family is MDT else {}))
    for moved in ({}, {"components": 5}, {"directions": 3}):
        edit = Edit(shift_between(system, {"labels": [3]}, {"labels": [7]}, **moved))
        unedited, edited = sampled(system, [None, edit], guidance=1.5)
        assert (edited - unedited).norm() > 0, moved


def test_components_are_those_that_change_the_modulations_most(dit: System) -> None:
    whole = shift_between(dit, {"labels": [3]}, {"labels": [7]}).vector
    some = shift_between(dit, {"labels": [3]}, {"labels": [7]}, components=5).vector
    moved = some.nonzero().flatten()
    assert torch.equal(some[moved], whole[moved])
    scores = (
        whole.abs()
        * sum(layer.adaLN_modulation.linear.weight.double().square().sum(0) for layer in dit.modulated).sqrt()
    )  # type: ignore[union-attr]
    assert set(moved.tolist()) == set(scores.topk(5).indices.tolist())


def test_all_components_and_all_directions_are_the_whole_difference(dit: System) -> None:
    ends = {"labels": [3, 4]}, {"labels": [7]}
    whole = shift_between(dit, *ends).vector
    for moved in ({"components": 32}, {"directions": 32}):
        torch.testing.assert_close(shift_between(dit, *ends, **moved).vector, whole, atol=1e-3, rtol=1e-3)


def test_directions_are_orthonormal_in_the_metric_and_hold_the_variance_of_the_modulations(dit: System) -> None:
    vectors, metric = class_vectors(dit), metric_of(dit)
    found = PrincipalDirections.of(vectors, metric)
    gram = found.vectors @ metric.weighted(found.vectors).T
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-6, rtol=0)
    centred = vectors.double() - vectors.double().mean(0)
    whole = (centred * metric.weighted(centred)).sum() / len(vectors)
    assert found.variances.sum().item() == pytest.approx(whole.item(), rel=1e-4)
    torch.testing.assert_close(found.coordinates, found.coordinates_of(centred), atol=1e-6, rtol=1e-6)


def test_a_shift_between_rows_of_conditions_needs_a_population_for_directions() -> None:
    system = random_system_of_features()
    rows = {"video": torch.randn(6, 32, 512)}
    source, target = ({"video": rows["video"][place : place + 1]} for place in (0, 1))
    assert shift_between(system, source, target).vector.norm() > 0
    assert shift_between(system, source, target, directions=2, population=rows).vector.norm() > 0
    with pytest.raises(InputError, match="has no classes"):
        shift_between(system, source, target, directions=2)


def random_system_of_features() -> System:
    torch.manual_seed(0)
    configuration = MDSGen.config_class(hidden_size=32, depth=2, num_heads=4, decode_layer=1)
    system = MDSGen(configuration)
    for tensor in system.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.15)
    return system.requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda sit: Edit(torch.zeros(32)), "shift must be a Shift"),
        (lambda sit: Edit(Shift(torch.zeros(32)), 17), "outside -16 to 16"),
        (lambda sit: Edit(Shift(torch.zeros(32)), float("nan")), "strength must be a finite number"),
        (lambda sit: Edit(Shift(torch.zeros(32)), 1.0, "last"), "schedule must be a Schedule"),
        (lambda sit: Shift(torch.zeros(2, 32)), r"shape \(d,\)"),
        (lambda sit: Shift([float("inf")]), "finite"),
        (lambda sit: sampled(sit, Edit(Shift(torch.zeros(31)))), "31 components does not fit vectors of 32"),
        (lambda sit: sampled(sit, Edit(Shift(torch.zeros(32)), 1.0, Schedule("last", 9))), "9"),
        (lambda sit: shift_between(sit, {"labels": [3]}, {"labels": [70]}), "label 70 is outside"),
        (lambda sit: shift_between(sit, {"labels": [3]}, {"labels": [7]}, components=33), "from 1 to 32"),
        (lambda sit: shift_between(sit, {"labels": [3]}, {"labels": [7]}, components=3, directions=2), "not both"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(sit: System, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(sit)


def test_a_compacted_system_moves_all_components_alone(sit: System) -> None:
    times = sampling_times(sit, None, 4)
    small = tailprune.compact(
        sit, times=times, inputs=sit.all_inputs(), keep=9, by="directions", fill="mean"  # type: ignore[attr-defined]
    ).system  # fmt: skip
    assert sampled(small, Edit(shift_between(small, {"labels": [3]}, {"labels": [7]}))).isfinite().all()
    with pytest.raises(InputError, match="compacted"):
        shift_between(small, {"labels": [3]}, {"labels": [7]}, components=3)


class TestModulationGuidance:
    """c + weight (c+ - c-)."""

    def table(self, system: System, **fields: Any) -> ConditionTable:
        return ConditionTable(
            system, LABELS, sampling_times(system, None, 4), modulation=tailprune.ModulationGuidance(**fields)
        )

    def test_every_sample_is_led_away_from_the_null_condition(self, sit: System) -> None:
        plain = ConditionTable(sit, LABELS, sampling_times(sit, None, 4)).vectors[2]
        moved = self.table(sit, weight=0.5).vectors[2]
        expected = plain[:-1] + 0.5 * (plain[:-1] - plain[-1])
        torch.testing.assert_close(moved[:-1], expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(moved[-1], plain[-1])

    def test_named_classes_move_all_samples_alike(self, sit: System) -> None:
        plain = ConditionTable(sit, LABELS, sampling_times(sit, None, 4)).vectors[2]
        moved = self.table(sit, weight=-1.0, plus=7, minus=4).vectors[2]
        change = sit.embed_inputs({"labels": torch.tensor([4])}) - sit.embed_inputs({"labels": torch.tensor([7])})
        torch.testing.assert_close(moved[:-1], plain[:-1] + change, atol=1e-5, rtol=1e-5)

    def test_the_mean_over_the_classes_is_that_of_the_moved_vectors(self, sit: System) -> None:
        every = {"labels": torch.arange(10)}
        times = sampling_times(sit, None, 4)
        moved = ConditionTable(sit, every, times, modulation=tailprune.ModulationGuidance(0.5))
        nothing_left = Prune("head", 0.0, fill="mean")
        filled = moved.vectors_at(1, 0, nothing_left)[0]
        torch.testing.assert_close(filled, moved.vectors[1][:-1].mean(0), atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_a_weight_of_0_and_none_change_no_bit(self, sit: System, guidance: float) -> None:
        off = tailprune.ModulationGuidance(0.0)
        moved = sampled(sit, None, guidance=Guidance(guidance, modulation=off))
        assert torch.equal(moved, sampled(sit, None, guidance=Guidance(guidance)))

    def test_it_goes_with_the_scale_or_in_its_place(self, sit: System) -> None:
        on = tailprune.ModulationGuidance(0.5)
        ways = [Guidance(scale, modulation=way) for scale in (1.0, 2.0) for way in (None, on)]
        latents = [sampled(sit, None, guidance=guidance) for guidance in ways]
        distances = [(one - other).norm() for n, one in enumerate(latents) for other in latents[:n]]
        assert all(distance > 0 for distance in distances)

    def test_a_system_that_takes_the_scale_is_led_away_at_that_scale(self) -> None:
        system = random_system(ScaleAwareMG)
        inputs = LABELS | {"scale": torch.full((3,), 1.7)}
        table = ConditionTable(
            system, inputs, sampling_times(system, None, 4), modulation=tailprune.ModulationGuidance(1.0, minus=4)
        )
        own = system.embed_inputs(inputs)[:1]
        other = system.embed_inputs({"labels": torch.tensor([4]), "scale": torch.tensor([1.7])})
        time = system.embed_time(sampling_times(system, None, 4)[0, :1].float())
        torch.testing.assert_close(table.vectors[0][:1], time + 2 * own - other, atol=1e-5, rtol=1e-5)

    def test_a_system_without_a_null_condition_needs_a_class(self) -> None:
        system = random_system(SiT, null_condition=False)
        with pytest.raises(InputError, match="no null condition"):
            self.table(system, weight=0.5)
        assert self.table(system, weight=0.5, minus=4).vectors.isfinite().all()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"weight": 20.0}, "from -16 to 16"),
            ({"weight": float("nan")}, "finite"),
            ({"weight": 1.0, "plus": 3, "minus": 3}, "moves nothing"),
            ({"weight": 1.0, "minus": 30}, "label 30 is outside"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, sit: System, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            sampled(sit, None, guidance=Guidance(2.0, modulation=tailprune.ModulationGuidance(**fields)))
