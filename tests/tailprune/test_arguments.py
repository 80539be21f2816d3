"""Wrong arguments of the public functions are refused in words; lists and arrays are taken in place of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tailprune
from tailprune import Guidance, Prune
from tailprune.arguments import as_device
from tailprune.decoders import load_decoder
from tailprune.sampling import compile_network, gaussian_noise
from tailprune.spec import InputError
from tailprune.statistics import sparsity
from tailprune.systems import System
from tailprune.systems.sit import ScaleAwareMG
from tests.tailprune.conftest import random_system

LABELS = [3, 1]
INPUTS = {"labels": torch.tensor(LABELS)}
SHAPE = (2, 4, 8, 8)
TAIL = Prune("tail", 0.1)


def sampled(system: System, inputs: Any = INPUTS, **options: Any) -> Any:
    return tailprune.sample(system, inputs, **({"seeds": [0, 1], "steps": 2} | options))


@pytest.mark.parametrize(
    "labels", [LABELS, (3, 1), np.array(LABELS), np.array(LABELS, np.uint8), np.array([1, 3])[::-1]]
)
def test_labels_may_be_lists_and_arrays(sit: System, labels: Any) -> None:
    assert torch.equal(sampled(sit, {"labels": labels}), sampled(sit))
    assert torch.equal(sit.condition(0.5, {"labels": labels}), sit.condition(0.5, INPUTS))
    times = tailprune.sampling_times(sit, steps=2)
    assert tailprune.measure_removal(sit, {"labels": labels}, TAIL, times).mean > 0


@pytest.mark.parametrize("t", [0.25, [0.25, 0.25], np.full(2, 0.25), torch.tensor([0.25])])
def test_times_may_be_a_number_for_all_a_list_or_an_array(sit: System, t: Any) -> None:
    assert torch.equal(sit.condition(t, INPUTS), sit.condition(torch.full((2,), 0.25), INPUTS))


@pytest.mark.parametrize("seeds", [range(2), np.arange(2), torch.arange(2), [np.int64(0), 1], [(0, 0), [1, 0]]])
def test_seeds_may_be_any_list_of_whole_numbers(sit: System, seeds: Any) -> None:
    assert torch.equal(sampled(sit, seeds=seeds), sampled(sit))


def test_seeds_go_to_the_last_of_64_bits_and_may_repeat(sit: System) -> None:
    first, second = sampled(sit, {"labels": [3, 3]}, seeds=[2**64 - 1] * 2)
    assert torch.equal(first, second)


@pytest.mark.parametrize("seeds", [[-1, 0], [2**64, 0], [0.5, 1.0], ["a", "b"], [None, 1], [True, False], [(0, -1), 1]])
def test_a_seed_that_is_none_is_refused(sit: System, seeds: Any) -> None:
    with pytest.raises(InputError, match="a seed must be a whole number from 0 to 18446744073709551615, not"):
        sampled(sit, seeds=seeds)
    with pytest.raises(InputError, match="a seed must be a whole number"):
        gaussian_noise(seeds, 0, (1,))


@pytest.mark.parametrize("seeds", [0, 0.5, "ab", {0, 1}, torch.tensor(3)])
def test_seeds_that_are_no_list_are_refused(sit: System, seeds: Any) -> None:
    with pytest.raises(InputError, match=r"seeds must be a list with one for each sample, such as range\(8\)"):
        sampled(sit, seeds=seeds)


CALLS: dict[str, Callable[[System, Any], Any]] = {
    "sample": sampled,
    "sample_each": lambda system, inputs: tailprune.sample_each(system, inputs, prunes=[[None]] * 2, seeds=[0, 1]),
    "condition": lambda system, inputs: system.condition(0.5, inputs),
    "embed_inputs": lambda system, inputs: system.embed_inputs(inputs),
    "measure_removal": lambda system, inputs: tailprune.measure_removal(system, inputs, TAIL, torch.zeros(1, 1)),
    "ConditionTable": lambda system, inputs: tailprune.ConditionTable(system, inputs, torch.zeros(1, 1)),
    "compact": lambda system, inputs: tailprune.compact(system, times=torch.zeros(1), inputs=inputs, keep=4),
    "population": lambda system, inputs: sampled(system, prune=Prune.keep(4), population=inputs),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"labels": torch.tensor([1.0, 2.0])},
            r"labels must be whole numbers, not torch.float32: give labels.long\(\)",
        ),
        ({"labels": []}, "labels are empty: give at least one"),
        ({"labels": [True, False]}, "labels must be whole numbers, not torch.bool"),
        ({"labels": ["a", "b"]}, "labels must be a tensor, an array or a list of numbers"),
        ({"labels": None}, "labels must be a tensor"),
        ({"labels": [1, 2**70]}, "labels must be a tensor"),
        ({"labels": 5}, r"labels must have shape \(B,\), one for each sample, not \(\)"),
        ({"labels": [[1], [2]]}, r"labels must have shape \(B,\), one for each sample, not \(2, 1\)"),
        ({"labels": [-1, 2]}, "label -1 is outside 0 to 9"),
        ({"labels": [1, 11]}, "label 11 is outside 0 to 9"),
        ({"label": [1, 2]}, "takes the inputs labels, not label$"),
        ({"labels": [1, 2], "scale": [1.0, 1.0]}, "takes the inputs labels, not labels, scale"),
        ({}, "takes the inputs labels, not none"),
        ({1: [1, 2]}, "takes the inputs labels, not 1"),
        ([1, 2], r"inputs must be named, such as \{'labels': torch.tensor\(\[3, 7\]\)\}"),
        (torch.tensor([1, 2]), "inputs must be named"),
    ],
)
def test_inputs_that_a_system_does_not_take_are_refused_by_every_call(
    sit: System, call: str, inputs: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CALLS[call](sit, inputs)


@pytest.mark.parametrize("call", ["sample", "measure_removal", "ConditionTable", "compact"])
def test_an_empty_batch_is_refused(sit: System, call: str) -> None:
    with pytest.raises(InputError, match=r"nothing to sample|inputs are empty|0 samples and 2 seeds"):
        CALLS[call](sit, {"labels": torch.zeros(0, dtype=torch.long)})


@pytest.mark.parametrize("scale", [["a", "b"], [math.nan, 1.0], [1.0], 2.0, torch.ones(2, 1)])
def test_a_wrong_guidance_scale_among_the_inputs_is_refused(scale: Any) -> None:
    system = random_system(ScaleAwareMG, learn_sigma=False)
    for call in (CALLS["sample"], CALLS["condition"]):
        with pytest.raises(InputError, match="scale"):
            call(system, {"labels": LABELS, "scale": scale})
    listed = {"labels": LABELS, "scale": [1.0, 2.0]}
    tensors = {"labels": torch.tensor(LABELS), "scale": torch.tensor([1.0, 2.0])}
    assert torch.equal(system.condition(0.5, listed), system.condition(0.5, tensors))


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ("0", "times must be a tensor, an array or a list of numbers, not '0'"),
        (None, "times must be a tensor"),
        (math.nan, "times must be finite numbers"),
        ([0.0, math.inf], "times must be finite numbers"),
        (True, "times must be finite numbers"),
        (2.0, "time 2 is outside 0 to 1"),
        (-0.5, "time -0.5 is outside 0 to 1"),
        ([0.0, 0.5, 1.0], "one time for each input, or one for all: there are 3 and 2"),
        ([], "there are 0 and 2"),
    ],
)
def test_times_that_a_system_does_not_have_are_refused(sit: System, t: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sit.condition(t, INPUTS)


@pytest.mark.parametrize("times", [0.5, [0.5], torch.zeros(3), torch.zeros(0, 1), torch.full((2, 1), 5.0), "x", None])
def test_the_times_of_a_run_are_steps_by_stages(sit: System, times: Any) -> None:
    with pytest.raises(InputError, match=r"times must (have shape \(steps, stages\)|be a tensor)|time 5 is outside"):
        tailprune.measure_removal(sit, INPUTS, TAIL, times)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 2, not 0"),
        ({"steps": -3}, "not -3"),
        ({"steps": 2.5}, "not 2.5"),
        ({"steps": "5"}, "not '5'"),
        ({"steps": None}, "not None"),
        ({"guidance": math.nan}, "guidance scale must be a finite number of at least 0, not nan"),
        ({"guidance": math.inf}, "not inf"),
        ({"guidance": -1}, "not -1"),
        ({"guidance": "2"}, "not '2'"),
        ({"guidance": None}, "not None"),
        ({"guidance": 10**400}, "guidance scale must be a finite number"),
        ({"prune": 0.05}, r"prune must .*Prune\('tail', 0.05\).*not 0.05"),
        ({"prune": "tail"}, r"prune must .*Prune\('tail', 0.05\).*not 'tail'"),
        ({"prune": [0.05]}, r"prune must .*Prune\('tail', 0.05\).*not 0.05"),
        ({"prune": {None}}, "prune must be a list"),
        ({"sampler": "eulr"}, "has no sampler 'eulr'.*; did you mean 'euler'"),
        ({"sampler": 5}, "has no sampler 5"),
        ({"shift": 0}, "shift must be a finite number above 0, not 0"),
        ({"shift": "a"}, "shift must be a finite number above 0, not 'a'"),
        ({"shift": math.inf}, "shift must be a finite number above 0, not inf"),
        ({"sampler": "dopri5", "atol": -1.0}, "atol must be a finite number above 0"),
        ({"sampler": "dopri5", "rtol": "x"}, "rtol must be a finite number above 0"),
        ({"sampler": "sde", "diffusion": 3}, "'sigma' or 'linear'"),
        ({"on_step": 5}, r"takes \(done, total\)"),
        ({"seeds": None, "noise": torch.zeros(2, 4, 8, 9)}, "noise must have shape"),
        ({"seeds": None, "noise": torch.zeros(SHAPE, dtype=torch.long)}, "noise must hold finite floating-point"),
        ({"seeds": None, "noise": torch.full(SHAPE, math.nan)}, "noise must hold finite"),
        ({"seeds": None, "noise": "noise"}, "noise must be a tensor"),
        ({"seeds": None, "noise": torch.zeros(SHAPE), "step_noise": 5, "sampler": "sde"}, "step_noise must"),
    ],
)
def test_options_of_a_wrong_type_or_range_are_refused(sit: System, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampled(sit, **options)
    if "prune" not in options:
        with pytest.raises(InputError, match=message):
            tailprune.sample_each(sit, INPUTS, prunes=[[None]] * 2, **({"seeds": [0, 1], "steps": 2} | options))


@pytest.mark.parametrize("prunes", [0.05, [None, None], [TAIL, TAIL], [["tail"], [None]], "ab", ["a", "b"]])
def test_prunes_of_each_sample_are_lists(sit: System, prunes: Any) -> None:
    with pytest.raises(InputError, match=r"prunes must .*Prune\('tail', 0.05\)|one list of prunes per sample"):
        tailprune.sample_each(sit, INPUTS, prunes=prunes, seeds=[0, 1], steps=2)


@pytest.mark.parametrize("prune", [None, 0.05, "tail", [TAIL]])
def test_what_removal_is_measured_of_is_one_prune(sit: System, prune: Any) -> None:
    with pytest.raises(InputError, match=r"prune must be a Prune, such as Prune\('tail', 0.05\)"):
        tailprune.measure_removal(sit, INPUTS, prune, tailprune.sampling_times(sit, steps=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prune(0.05), r"side must be 'tail' or 'head', as in Prune\('tail', 0.05\), not 0.05"),  # type: ignore
        (lambda: Prune("tail", "0.05"), "threshold must be a finite number of at least 0, not '0.05'"),  # type: ignore
        (lambda: Prune("tail", True), "threshold must be a finite number"),
        (lambda: Prune("tail", 0.1, "last", 2.5), "whole number of at least 1, not 2.5"),  # type: ignore
        (lambda: Prune("tail", 0.1, "last", "2"), "whole number of at least 1, not '2'"),  # type: ignore
        (lambda: Prune.keep("5"), "components to keep must be a whole number"),  # type: ignore
        (lambda: Guidance("2"), "guidance scale must be"),  # type: ignore
        (lambda: Guidance(channels=1.5), "guided channels must be a whole number"),  # type: ignore
        (lambda: Guidance(power="a"), "guidance power must be"),  # type: ignore
        (lambda: Guidance(interval=0.5), "guidance interval must be"),  # type: ignore
        (lambda: Guidance(interval=(0.0,)), r"guidance interval must be \(low, high\)"),  # type: ignore
        (lambda: Guidance(interval=("a", "b")), "guidance interval must be"),  # type: ignore
        (lambda: Guidance(interval=(1.0, 0.0)), r"guidance interval must be \(low, high\), low first"),
        (lambda: load_decoder("pixel"), "no decoder 'pixel'.*; did you mean 'pixels'"),
        (lambda: load_decoder("pixels", device="gpu"), "there is no device 'gpu'"),
        (lambda: load_decoder("pixels")("latents"), "takes latents, a tensor of floating-point numbers, not str"),  # type: ignore
        (lambda: load_decoder("pixels")(torch.zeros(1, 3, 2, 2).int()), "floating-point numbers, not torch.int32"),
    ],
)
def test_a_wrong_argument_of_a_constructor_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_numbers_of_numpy_are_numbers(sit: System) -> None:
    assert torch.equal(sampled(sit, steps=np.int64(2), guidance=np.float32(2.0)), sampled(sit, guidance=2.0))
    prunes = [Prune("tail", np.float32(0.25)), Prune.keep(np.int64(5))]  # type: ignore[arg-type]
    for made, plain in zip(
        sampled(sit, prune=prunes), sampled(sit, prune=[Prune("tail", 0.25), Prune.keep(5)]), strict=True
    ):
        assert torch.equal(made, plain)


@pytest.mark.parametrize("system", ["models/shapes-sit", None, System, INPUTS, torch.nn.Linear(2, 2)])
def test_what_is_no_system_is_refused(system: Any) -> None:
    for call in ("sample", "sample_each", "measure_removal", "ConditionTable", "compact"):
        with pytest.raises(InputError, match=r"must be a system\b"):
            CALLS[call](system, INPUTS)
    for function in (tailprune.sampling_times, compile_network):
        with pytest.raises(InputError, match=r"system must be a system, such as tailprune.load\("):
            function(system)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of threshold and keep"),
        ({"keep": 0}, "whole number from 1 to 32, not 0"),
        ({"keep": 33}, "whole number from 1 to 32, not 33"),
        ({"keep": "5"}, "whole number from 1 to 32, not '5'"),
        ({"keep": 2.5}, "whole number from 1 to 32, not 2.5"),
        ({"threshold": math.nan}, "threshold must be a finite number"),
        ({"threshold": "a"}, "threshold must be a finite number"),
        ({"keep": 5, "by": "size"}, "'variance', 'prediction' or 'directions'"),
        ({"keep": 5, "population": 5}, "inputs must be named"),
        ({"keep": 5, "on_time": 5}, r"takes \(done, total\)"),
        ({"keep": 5, "times": torch.full((2,), 5.0)}, "time 5 is outside 0 to 1"),
        ({"keep": 5, "times": "x"}, "times must be a tensor"),
    ],
)
def test_a_wrong_argument_of_compact_is_refused(sit: System, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tailprune.compact(sit, **({"times": torch.zeros(1), "inputs": INPUTS} | options))


@pytest.mark.parametrize(
    "vectors", ["x", None, [1.0, 2.0], torch.ones(2, 0), torch.ones(2, 2) > 0, torch.ones(2, 2) * 1j]
)
def test_what_are_no_vectors_is_refused(vectors: Any) -> None:
    with pytest.raises(InputError, match="condition vectors must"):
        tailprune.describe(vectors)
    with pytest.raises(InputError, match=r"y must|float32"):
        tailprune.describe_over_time(vectors, torch.ones(1, 2), [0.1])


def test_vectors_may_be_arrays(sit: System) -> None:
    c = sit.condition(0.0, sit.all_inputs())
    assert tailprune.describe(c.numpy()).npr == tailprune.describe(c).npr  # type: ignore[arg-type]


@pytest.mark.parametrize("tau", [-1, math.nan, "x", None, [0.1]])
def test_a_threshold_that_is_none_is_refused(tau: Any) -> None:
    vectors = torch.randn(4, 8)
    for count in (lambda: sparsity(vectors, tau), lambda: tailprune.describe_over_time(vectors, vectors, [tau])):
        with pytest.raises(InputError, match=r"thresholds? must be a finite number of at least 0, not"):
            count()


@pytest.mark.parametrize("thresholds", [0.05, "x", None])
def test_thresholds_that_are_no_list_are_refused(thresholds: Any) -> None:
    with pytest.raises(InputError, match=r"thresholds must be numbers in a list, such as \[0.01, 0.05\]"):
        tailprune.describe_over_time(torch.randn(4, 8), torch.randn(1, 8), thresholds)


@pytest.mark.parametrize("device", ["gpu", "", None, [], "meta"])
def test_an_unknown_device_is_refused(device: Any) -> None:
    with pytest.raises(InputError, match="device"):
        as_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3", torch.device("cuda")])
def test_a_device_that_is_not_there_is_refused_with_its_reason(device: Any) -> None:
    with pytest.raises(InputError, match=r"the device 'cuda.*' cannot be used here \(.+\): give device='cpu'"):
        tailprune.prune_and_compare("models/shapes-sit", [1], TAIL, device=device)


@pytest.mark.parametrize("precision", [torch.float16, torch.float64, "bfloat16", None])
def test_a_precision_that_blocks_do_not_compute_in_is_refused(sit: System, precision: Any) -> None:
    with pytest.raises(InputError, match=r"torch\.float32 or torch\.bfloat16"):
        sit.compute_in(precision)


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"seed": 0.5}, {"decoder": "pixel"}, {"steps": 0}, {"guidance": "x"}]
)
def test_a_wrong_argument_of_the_whole_pipeline_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        tailprune.prune_and_compare("models/shapes-sit", [1], TAIL, **({"steps": 2} | options))
