"""Sampling: reproducible noise, shared trajectories, guidance, schedules, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from tailprune import Guidance, Prune, measure_removal, sample, sample_each, sampling_times
from tailprune.sampling import compile_network, network
from tailprune.sampling.noise import gaussian_noise
from tailprune.sampling.solvers.gaussian import respaced_timesteps
from tailprune.systems import DiT, SiT, System
from tests.tailprune.conftest import random_system
from tests.tailprune.watch import watched

ROUNDING = 1e-5  # float32, a few steps of a small network

LABELS = torch.tensor([3, 1, 4, 1, 5, 9])
SEEDS = [(7, index) for index in range(len(LABELS))]


def close(a: Tensor, b: Tensor) -> bool:
    return ((a - b).norm() / b.norm()).item() < ROUNDING


def test_noise_depends_on_seed_index_and_step_alone() -> None:
    one = gaussian_noise([(5, 2)], 3, (4, 8, 8))
    assert torch.equal(gaussian_noise([(5, 0), (9, 9), (5, 2)], 3, (4, 8, 8))[2:], one)
    for other in ([(6, 2)], 3), ([(5, 3)], 3), ([(5, 2)], 4):
        assert not torch.equal(gaussian_noise(*other, (4, 8, 8)), one)


def test_noise_is_standard_normal() -> None:
    noise = gaussian_noise(range(20), 0, (50, 50))
    assert noise.mean().abs().item() < 4 / math.sqrt(noise.numel())
    assert noise.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * noise.numel()))


def test_noise_is_the_same_in_every_release_of_numpy() -> None:
    # The first draws of Philox(key=(1, 2)) by the ziggurat method. A change here would change every stored result.
    draws = gaussian_noise([(1, 2)], 0, (3,))[0].tolist()
    generator = np.random.Generator(np.random.Philox(key=np.array([1, 2], dtype=np.uint64)))
    assert draws == generator.standard_normal(3, dtype=np.float32).tolist()
    assert draws == pytest.approx(PHILOX_1_2, abs=1e-6)


PHILOX_1_2 = [-0.36082658, -0.20863281, -0.12069435]


@pytest.mark.parametrize("sampler", ["euler", "heun", "sde", "dopri5"])
def test_a_sample_does_not_depend_on_its_batch(sit: System, sampler: str) -> None:
    options: dict[str, Any] = {"sampler": sampler, "steps": 4, "guidance": 2.0}
    together = sample(sit, {"labels": LABELS}, seeds=SEEDS, **options)
    alone = [sample(sit, {"labels": LABELS[i : i + 1]}, seeds=[SEEDS[i]], **options) for i in range(len(LABELS))]
    assert close(torch.cat(alone), together)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_gaussian_sample_does_not_depend_on_its_batch(dit: System, sampler: str) -> None:
    options: dict[str, Any] = {"sampler": sampler, "steps": 4, "guidance": Guidance(2.0, channels=3)}
    together = sample(dit, {"labels": LABELS}, seeds=SEEDS, **options)
    alone = [sample(dit, {"labels": LABELS[i : i + 1]}, seeds=[SEEDS[i]], **options) for i in range(len(LABELS))]
    assert close(torch.cat(alone), together)


VARIANTS = [
    None,
    Prune("tail", 0.3),
    Prune("head", 0.5, schedule="first"),
    Prune("tail", 0.3, schedule="last", count=2),
    Prune("head", 0.5, schedule="last", count=1),
    Prune("tail", 0.2, fill="mean", schedule="last", count=2),
    Prune.keep(8),
]


@pytest.mark.parametrize("sampler", ["euler", "heun", "sde"])
def test_a_list_of_prunes_gives_what_each_gives_alone(sit: System, sampler: str) -> None:
    options: dict[str, Any] = {"sampler": sampler, "steps": 5, "guidance": 2.0, "seeds": SEEDS}
    together = sample(sit, {"labels": LABELS}, prune=VARIANTS, **options)
    for variant, latents in zip(VARIANTS, together, strict=True):
        assert close(latents, sample(sit, {"labels": LABELS}, prune=variant, **options))


def test_different_prunes_give_different_samples(sit: System) -> None:
    results = sample(sit, {"labels": LABELS}, prune=VARIANTS, steps=5, seeds=SEEDS)
    for i, first in enumerate(results):
        for second in results[i + 1 :]:
            assert not close(first, second)


def test_variants_share_the_steps_before_their_edit_begins(sit: System) -> None:
    with watched(sit) as seen:
        prunes = [None, Prune("tail", 0.3, schedule="last", count=2), Prune("head", 0.5, schedule="last", count=1)]
        sample(sit, {"labels": LABELS}, prune=prunes, steps=6, seeds=SEEDS)
    count = len(LABELS)
    assert seen.rows == [count, count, count, count, 2 * count, 3 * count]


def test_equal_edits_on_different_schedules_share_until_they_part(sit: System) -> None:
    with watched(sit) as seen:
        sample(
            sit, {"labels": LABELS[:1]}, prune=[Prune("tail", 0.3), Prune("tail", 0.3, "first", 2)], steps=4, seeds=[0]
        )
    assert seen.rows == [1, 1, 2, 2]


def test_prunes_of_any_steps_give_what_each_gives_alone_and_share_what_they_can(sit: System) -> None:
    steps, generator = 6, np.random.default_rng(3)
    chosen = [sorted(generator.choice(steps, size, replace=False).tolist()) for size in (1, 2, 3, 4, 5)]
    prunes: list[Prune | None] = [None, *(Prune("tail", 0.3, "at", steps=some) for some in chosen)]
    prunes += [Prune("head", 0.5, "at", steps=[1, 4]), Prune("tail", [None, 0.3, None, 0.1, 0.3, None])]
    options: dict[str, Any] = {"steps": steps, "guidance": 2.0}
    with watched(sit) as seen:
        together = sample(sit, {"labels": LABELS[:2]}, prune=prunes, seeds=SEEDS[:2], **options)
    for prune, latents in zip(prunes, together, strict=True):
        assert close(latents, sample(sit, {"labels": LABELS[:2]}, prune=prune, seeds=SEEDS[:2], **options))
    # As many trajectories as there are different edits up to each step, each of two samples and two branches.
    edits = [[prune and prune.at(step, steps) for step in range(steps)] for prune in prunes]
    assert seen.rows == [4 * len({tuple(each[: step + 1]) for each in edits}) for step in range(steps)]


def test_each_step_has_its_threshold(sit: System) -> None:
    thresholds = [0.1, None, 0.4]
    prune, times = Prune("tail", thresholds), sampling_times(sit, "euler", 3)[:, 0]
    inputs, x = {"labels": LABELS[:2]}, gaussian_noise(SEEDS[:2], 0, sit.latent_shape)
    found = sample(sit, inputs, prune=prune, steps=3, noise=x)
    for threshold, time, after in zip(thresholds, times, [*times[1:], 1.0], strict=True):
        c = sit.condition(time.float(), inputs)
        x = x + float(after - time) * sit(x, c if threshold is None else Prune("tail", threshold)(c))
    assert close(found, x)
    one, other = sample(sit, inputs, prune=[Prune("tail", [0.3] * 3), Prune("tail", 0.3)], steps=3, seeds=SEEDS[:2])
    assert torch.equal(one, other)


def test_a_prune_that_removes_nothing_changes_nothing(sit: System) -> None:
    plain, pruned = sample(sit, {"labels": LABELS}, prune=[None, Prune("tail", 0.0)], steps=3, seeds=SEEDS)
    assert torch.equal(plain, pruned)


def test_the_null_branch_is_edited_too(sit: System) -> None:
    prune = Prune("tail", 0.3)
    with watched(sit) as seen:
        sample(sit, {"labels": LABELS[:2]}, prune=prune, guidance=2.0, steps=2, seeds=[0, 1])
    assert len(seen.vectors) == 6  # two labels and the null condition, at two steps
    assert ((seen.vectors.abs() >= 0.3) | (seen.vectors == 0)).all()
    null = prune(sit.condition(sampling_times(sit, steps=2)[0], sit.null_inputs(1)))
    assert (null == 0).any()
    assert any(torch.allclose(vector, null[0]) for vector in seen.vectors)


def test_guidance_of_one_asks_for_no_null_branch(sit: System) -> None:
    with watched(sit) as seen:
        sample(sit, {"labels": LABELS}, guidance=Guidance(3.0, interval=(0.3, 0.6)), steps=4, seeds=SEEDS)
    count = len(LABELS)
    assert seen.rows == [count, count, 2 * count, count]  # times 0, 0.25, 0.5, 0.75


def test_guidance_of_the_first_three_channels_leaves_the_rest_to_the_condition() -> None:
    conditional, null = torch.full((1, 5, 2, 2), 2.0), torch.full((1, 5, 2, 2), 1.0)
    guided = Guidance(4.0, channels=3).combine(conditional, null, 4.0)
    assert guided[0, :, 0, 0].tolist() == [5, 5, 5, 2, 2]
    assert Guidance(4.0).combine(conditional, null, 4.0)[0, :, 0, 0].tolist() == [5] * 5


def test_power_cosine_guidance_rises_from_one_to_its_scale() -> None:
    guidance = Guidance(4.0, power=2.0)
    scales = [guidance.scale_at(torch.tensor(0.0), progress) for progress in (0.0, 0.5, 1.0)]
    assert scales == pytest.approx([1.0, 1 + 3 * (1 - math.cos(math.pi / 4)) / 2, 4.0])


def test_an_interval_includes_its_ends_as_the_network_reads_them() -> None:
    t = torch.tensor(0.7)  # 0.699999988...
    assert Guidance(4.0, interval=(0.7, 1.0)).scale_at(t, 0.7) == 4.0
    assert Guidance(4.0, interval=(0.0, torch.tensor(0.1).item())).scale_at(torch.tensor(0.1), 0.1) == 4.0


def test_an_interval_is_asked_in_the_precision_of_the_sampler() -> None:
    just_above = torch.tensor(0.7, dtype=torch.float64).nextafter(torch.tensor(1.0, dtype=torch.float64))
    interval = Guidance(4.0, interval=(0.0, 0.7))
    assert interval.scale_at(just_above, 0.3) == 1.0
    assert interval.scale_at(just_above.float(), 0.3) == 4.0


@pytest.mark.parametrize("label", [-1, 10, 11])
def test_a_label_that_is_no_class_is_refused(sit: System, label: int) -> None:
    with pytest.raises(ValueError, match=f"label {label} is outside 0 to 9"):
        sample(sit, {"labels": torch.tensor([3, label])}, seeds=[0, 1], steps=2)


def test_a_bare_guidance_scale_guides_the_channels_that_the_authors_do(dit: System) -> None:
    options: dict[str, Any] = {"sampler": "ddpm", "steps": 3, "seeds": SEEDS}
    bare = sample(dit, {"labels": LABELS}, guidance=4.0, **options)
    assert torch.equal(bare, sample(dit, {"labels": LABELS}, guidance=Guidance(4.0, channels=3), **options))


def test_samples_may_be_changed_and_learned_from(sit: System) -> None:
    first, second = sample(sit, {"labels": LABELS}, prune=[None, Prune("tail", 0.0)], steps=2, seeds=SEEDS)
    before = second.clone()
    first.mul_(2)
    assert torch.equal(second, before)
    torch.nn.Linear(8, 1)(first).sum().backward()


@pytest.mark.parametrize(("steps", "place", "timestep"), [(21, 10, 499), (6, 3, 599)])
def test_a_timestep_near_a_half_rounds_as_published(steps: int, place: int, timestep: int) -> None:
    assert respaced_timesteps(steps)[place] == timestep


@pytest.mark.parametrize("steps", [2, 3, 50, 250, 1000])
def test_respacing_keeps_both_ends_and_spaces_evenly(steps: int) -> None:
    kept = respaced_timesteps(steps)
    assert (kept[0], kept[-1], len(set(kept))) == (0, 999, steps)
    gaps = np.diff(kept)
    assert gaps.max() - gaps.min() <= 1


def test_progress_is_reported_after_every_step_and_may_stop_the_run(sit: System) -> None:
    heard: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(sit, {"labels": LABELS}, steps=5, seeds=SEEDS, on_step=stop_after_two)
    assert heard == [(1, 5), (2, 5)]


def test_dopri5_can_be_stopped_within_a_sample(sit: System) -> None:
    heard: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        heard.append((done, total))
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(sit, {"labels": LABELS}, sampler="dopri5", seeds=SEEDS, on_step=stop)
    assert heard == [(0, 6)] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "ddim", "seeds": SEEDS}, "sit has no sampler 'ddim': give one of euler, heun, dopri5, sde"),
        ({}, "either seeds"),
        ({"seeds": SEEDS, "noise": torch.zeros(6, 4, 8, 8)}, "either seeds"),
        ({"seeds": SEEDS[:2]}, "6 samples and 2 seeds"),
        ({"noise": torch.zeros(6, 4, 8, 9)}, r"noise must have shape \(6, 4, 8, 8\)"),
        ({"noise": torch.zeros(6, 4, 8, 8), "sampler": "sde"}, "step_noise has 0 steps"),
        ({"noise": torch.zeros(6, 4, 8, 8), "step_noise": torch.zeros(9, 4, 8, 8)}, r"shape \(steps, 6, 4, 8, 8\)"),
        ({"seeds": SEEDS, "step_noise": torch.zeros(5, 6, 4, 8, 8)}, "goes with noise"),
        ({"seeds": SEEDS, "sampler": "dopri5", "diffusion": "sigma"}, "has no option diffusion, which is for sde"),
        ({"seeds": SEEDS, "prune": []}, "list of prunes is empty"),
        ({"seeds": SEEDS, "steps": 1}, "steps must be a whole number of at least 2, not 1"),
        ({"seeds": SEEDS, "steps": 5, "prune": Prune("tail", 0.1, "last", 6)}, "more than the 5 steps"),
        ({"seeds": SEEDS, "sampler": "dopri5", "prune": Prune("tail", 0.1, "first")}, "schedule 'every'"),
        ({"seeds": SEEDS, "sampler": "dopri5", "prune": Prune("tail", [0.1, 0.2])}, "and one threshold"),
        ({"seeds": SEEDS, "steps": 5, "prune": Prune("tail", 0.1, "at", steps=[0, 5])}, "step 5, outside 0 to 4"),
        ({"seeds": SEEDS, "steps": 5, "prune": Prune("tail", [0.1, 0.2])}, "2 thresholds by step for the 5 steps"),
        ({"seeds": SEEDS, "diffusion": "sigma"}, "has no option diffusion, which is for sde"),
        ({"seeds": SEEDS, "sampler": "sde", "diffusion": "cubic"}, "'sigma' or 'linear'"),
        ({"seeds": SEEDS, "sampler": "sde", "last_step": "none"}, "'mean' or 'tweedie'"),
    ],
)
def test_a_run_that_cannot_be_is_refused_with_the_way_out(sit: System, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(sit, {"labels": LABELS}, **arguments)


def test_ddpm_without_a_learned_variance_points_to_ddim(dit: System) -> None:
    with pytest.raises(ValueError, match="use ddim"):
        sample(random_system(DiT, learn_sigma=False), {"labels": LABELS}, sampler="ddpm", seeds=SEEDS, steps=3)


def test_removal_counts_components_where_the_schedule_is_active(sit: System) -> None:
    inputs = {"labels": torch.arange(4)}
    times = sampling_times(sit, "heun", 6)
    removal = measure_removal(sit, inputs, Prune("tail", 0.3, "last", 2), times)
    c = sit.condition(times[4, :1].expand(4), inputs)
    assert removal.measured_at_step == 4
    assert removal.by_step[:4] == [0, 0, 0, 0]
    assert min(removal.by_step[4:]) > 0
    assert removal.min <= removal.mean <= removal.max
    assert removal.fraction == pytest.approx(removal.mean / 32)
    kept = torch.where(c.abs() < 0.3, 0, c)
    npr = kept.abs().sum(1).square() / kept.square().sum(1) / 32
    assert removal.after.npr == pytest.approx(npr.mean().item(), rel=1e-5)
    assert removal.before.cosine is not None


def test_the_removal_of_a_schedule_with_more_steps_than_there_are_is_refused(sit: System) -> None:
    with pytest.raises(ValueError, match="counts 4, more than the 3 steps"):
        measure_removal(sit, {"labels": torch.tensor([2])}, Prune("tail", 0.3, "last", 4), sampling_times(sit, steps=3))


def test_removal_is_that_of_each_steps_threshold(sit: System) -> None:
    inputs, times = {"labels": torch.arange(4)}, sampling_times(sit, steps=4)
    removal = measure_removal(sit, inputs, Prune("tail", [None, 0.1, None, 0.4], blocks=[0]), times)
    one, other = (measure_removal(sit, inputs, Prune("tail", threshold), times) for threshold in (0.1, 0.4))
    assert removal.by_step == [0, one.by_step[1], 0, other.by_step[3]]
    assert removal.mean == pytest.approx((one.by_step[1] + other.by_step[3]) / 2)
    assert (removal.threshold, removal.measured_at_step) == (None, 1)
    at = measure_removal(sit, inputs, Prune("tail", 0.1, "at", steps=[1, 3]), times)
    assert at.by_step == [0, one.by_step[1], 0, one.by_step[3]]
    assert at.after == removal.after


def test_removal_of_a_single_label_has_no_cosine(sit: System) -> None:
    removal = measure_removal(sit, {"labels": torch.tensor([2])}, Prune.keep(8), sampling_times(sit, steps=3))
    assert removal.before.cosine is None
    assert (removal.mean, removal.fraction) == (24, 0.75)


def test_many_samples_go_through_the_network_some_at_a_time(sit: System, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"sampler": "euler", "steps": 3, "guidance": 2.0, "seeds": SEEDS}
    whole = sample(sit, {"labels": LABELS}, **options)
    tokens = 5 * 16 * sit.condition_dim  # of five samples
    monkeypatch.setattr(network, "CPU_ELEMENTS", tokens)
    with watched(sit) as seen:
        assert close(sample(sit, {"labels": LABELS}, **options), whole)
    assert seen.rows == [4, 4, 4] * 3  # both branches of six samples


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_modulations_are_made_for_as_many_steps_as_fit_and_once_a_vector(
    sit: System, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"sampler": sampler, "steps": 5, "guidance": 2.0, "seeds": SEEDS, "prune": VARIANTS}
    stages = 2 if sampler == "heun" else 1
    with watched(sit) as seen:
        at_once = sample(sit, {"labels": LABELS}, **options)
    assert len(seen.conditions) == 1
    edits = [4, 3, 3, 4, 5]  # different ones at each step
    assert len(seen.vectors) == stages * sum(edits) * (len(set(LABELS.tolist())) + 1)
    monkeypatch.setattr(network, "MODULATION_BYTES", 1)  # a step at a time
    with watched(sit) as seen:
        step_by_step = sample(sit, {"labels": LABELS}, **options)
    assert len(seen.conditions) == 5
    assert all(map(torch.equal, at_once, step_by_step))


def test_each_sample_may_have_prunes_of_its_own(sit: System) -> None:
    options: dict[str, Any] = {"steps": 5, "guidance": 2.0, "seeds": SEEDS[:3]}
    prunes = [[None, VARIANTS[1]], [VARIANTS[3]], [VARIANTS[6], None, VARIANTS[4]]]
    with watched(sit) as seen:
        made = sample_each(sit, {"labels": LABELS[:3]}, prunes=prunes, **options)
    assert seen.rows == [2 * rows for rows in (5, 5, 5, 5, 6)]  # the third shares what two of its prunes agree on
    for n, (some, latents) in enumerate(zip(prunes, made, strict=True)):
        alone = sample(sit, {"labels": LABELS[n : n + 1]}, prune=some, **options | {"seeds": SEEDS[n : n + 1]})
        assert all(close(a, b[0]) for a, b in zip(latents, alone, strict=True))


def test_a_list_of_prunes_for_each_sample_is_asked_for(sit: System) -> None:
    with pytest.raises(ValueError, match="one list of prunes per sample: there are 6 samples and 1 lists"):
        sample_each(sit, {"labels": LABELS}, prunes=[[None]], seeds=SEEDS)


@pytest.mark.parametrize("system", ["sit", "dit"])
def test_bfloat16_keeps_near_to_float32_and_leaves_conditions_alone(system: str, request: Any) -> None:
    found: System = request.getfixturevalue(system)
    options: dict[str, Any] = {"steps": 4, "guidance": 2.0, "seeds": SEEDS}
    c = found.condition(torch.full((6,), 0.5), {"labels": LABELS})
    wide = sample(found, {"labels": LABELS}, **options)
    found.compute_in(torch.bfloat16)
    narrow = sample(found, {"labels": LABELS}, **options)
    assert torch.equal(found.condition(torch.full((6,), 0.5), {"labels": LABELS}), c)
    assert narrow.dtype == torch.float32
    assert 1e-4 < ((narrow - wide).norm() / wide.norm()).item() < 0.05


@pytest.mark.slow
def test_a_compiled_network_is_compiled_once_for_each_of_a_few_batch_sizes(sit: System) -> None:
    options: dict[str, Any] = {"steps": 3, "guidance": 2.0}
    eager = [sample(sit, {"labels": LABELS[:n]}, seeds=SEEDS[:n], **options) for n in (1, 3, 4, 5, 6)]
    counter = CompileCounter()
    compile_network(sit, backend=counter)
    compiled = [sample(sit, {"labels": LABELS[:n]}, seeds=SEEDS[:n], **options) for n in (1, 3, 4, 5, 6)]
    assert all(map(close, compiled, eager))
    assert counter.frame_count == 3  # 2 rows; 6 and 8 rows; 10 and 12 rows


@pytest.mark.slow
def test_all_sizes_of_several_systems_are_compiled() -> None:
    counter = CompileCounter()
    for system in (random_system(SiT, depth=1), random_system(DiT, depth=1)):
        compile_network(system, backend=counter)
        c = system.condition(torch.zeros(1), {"labels": LABELS[:1]})
        with torch.no_grad():
            for size in network.BATCH_SIZES:
                modulations = [tensor.expand(size, *tensor.shape[1:]) for tensor in system.modulations(c)]
                assert system.compiled is not None
                x = torch.zeros(size, *system.latent_shape)
                system.compiled(x, [tensor.contiguous() for tensor in modulations])
    assert counter.frame_count == 2 * len(network.BATCH_SIZES)


@pytest.mark.parametrize("inputs", [{"labels": LABELS[:0]}, {"labels": LABELS}], ids=["no sample", "no prune"])
def test_nothing_to_sample_is_refused(sit: System, inputs: dict[str, Tensor]) -> None:
    count = len(inputs["labels"])
    with pytest.raises(ValueError, match="nothing to sample"):
        sample_each(sit, inputs, prunes=[[] for _ in range(count)], seeds=SEEDS[:count])


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 4), (9, 12), (128, 128), (129, 256), (300, 384)])
def test_a_batch_is_filled_up_to_the_next_size(rows: int, size: int) -> None:
    assert network._batch_size(rows) == size
