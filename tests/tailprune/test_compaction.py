"""Compacted systems beside the full ones that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import tailprune
from tailprune import Compaction, Prune, compact, save_system
from tailprune.checkpoints.load import CheckpointError
from tailprune.column_subset import CUTOFF
from tailprune.condition_table import population_at
from tailprune.prune_report import measure_removal
from tailprune.systems import MG, DiT, Inputs, LightningDiT, SiT, System
from tailprune.systems.dit import PerBlockDiT
from tailprune.systems.readers import TimeColumns
from tailprune.systems.sit import ScaleAwareMG
from tests.reference_models import BY_FEATURES, FAMILIES, case
from tests.tailprune.conftest import random_system
from tests.tailprune.parity import given, relative_error

ROUNDING = 1e-5
LABELS = torch.tensor([3, 0, 5, 9])
VARIANTS: dict[str, Callable[[], System]] = {
    "lightningdit without shifts": lambda: random_system(LightningDiT, wo_shift=True),
    "scale-aware mg": lambda: random_system(ScaleAwareMG, learn_sigma=False),
}


class Subject:
    """A full system, what is covered of it, and a latent a covered input."""

    def __init__(self, name: str, folder: Path) -> None:
        self.system = VARIANTS[name]() if name in VARIANTS else _reference(name, folder)
        generator = torch.Generator().manual_seed(1)
        self.inputs: dict[str, Tensor] = {"labels": LABELS}
        if name in BY_FEATURES:
            shapes = self.system.features  # type: ignore[attr-defined]
            self.inputs = {key: torch.randn(3, *shape, generator=generator) for key, shape in shapes.items()}
        if self.system.takes_guidance:
            self.inputs["scale"] = torch.full((len(LABELS),), 2.0)
        self.count = len(next(iter(self.inputs.values())))
        self.times = tailprune.sampling_times(self.system, steps=8)
        self.x = torch.randn(self.count, *self.system.latent_shape, generator=generator)

    def compact(self, **changes: Any) -> Compaction:
        said: dict[str, Any] = {"times": self.times, "inputs": self.inputs}
        return compact(self.system, **(said | changes))

    def vectors(self) -> Tensor:
        """All that are covered, with shape (T, U + 1, d)."""
        parts = [self.system.embed_inputs(self.inputs)]
        if not self.system.takes_guidance:
            parts.append(self.system.embed_inputs(self.system.null_inputs(1)))
        return self.system.embed_time(self.times.flatten().float()).unsqueeze(1) + torch.cat(parts)

    def threshold(self, side: str) -> float:
        """One at which half of the components are removed from every vector."""
        magnitudes = self.vectors().abs().flatten(0, 1)
        return (magnitudes.amax(0) if side == "tail" else magnitudes.amin(0)).quantile(0.5).item()

    def t(self, index: int) -> Tensor:
        return self.times.flatten()[index].float().expand(self.count)


def _reference(family: str, folder: Path) -> System:
    content = case(family)
    path = folder / f"{family}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in content["state_dict"].items()}, path)
    return tailprune.load(path, family=family, **given(content))


@pytest.fixture(scope="module", params=[*FAMILIES, *VARIANTS])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(request.param, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def of_sit(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("sit", tmp_path_factory.mktemp("full"))


KINDS: dict[str, dict[str, Any]] = {
    "zero fill": {"keep": 12},
    "mean fill": {"keep": 12, "fill": "mean"},
    "refit": {"keep": 12, "fill": "refit"},
    "directions": {"keep": 12, "by": "directions", "fill": "mean"},
}


def left_out(made: Compaction) -> Tensor:
    assert made.kept is not None
    gone = torch.ones(made.system.condition_dim, dtype=torch.bool)
    gone[list(made.kept)] = False
    return gone


def told(system: System, c: Tensor) -> Tensor:
    """All modulations, with shape (B, rows)."""
    return torch.cat([part.flatten(1) for part in system.modulations(c)], dim=1)


@pytest.mark.parametrize("side", ["tail", "head"])
def test_zero_fill_is_the_full_system_without_the_components_that_no_vector_keeps(subject: Subject, side: Any) -> None:
    threshold = subject.threshold(side)
    made = subject.compact(threshold=threshold, side=side)
    gone, prune = left_out(made), Prune(side, threshold)
    assert gone.any()
    assert torch.equal(gone, prune.removed(subject.vectors()).all(0).all(0))
    for index in range(subject.times.numel()):
        c = subject.system.condition(subject.t(index), subject.inputs)
        assert torch.equal(made.system.condition(subject.t(index), subject.inputs), c)
        masked = subject.system(subject.x, c.masked_fill(gone, 0))
        assert relative_error(made.system(subject.x, c), masked) < ROUNDING
        assert relative_error(made.system(subject.x, prune(c)), subject.system(subject.x, prune(c))) < ROUNDING
        if subject.x[0].numel() > 10_000:
            break


def test_zero_fill_takes_the_columns_of_what_it_leaves_out_from_every_layer(subject: Subject) -> None:
    made = subject.compact(threshold=subject.threshold("tail"))
    rows = sum(layer.adaLN_modulation.linear.out_features for layer in subject.system.modulated)
    removed = rows * int(left_out(made).sum())
    assert made.width == len(made.kept or ())
    assert made.adaln_parameters[0] - made.adaln_parameters[1] == removed
    assert made.parameters[0] - made.parameters[1] == removed


def test_mean_fill_is_the_full_system_with_the_rest_at_the_mean(subject: Subject) -> None:
    made = subject.compact(**KINDS["mean fill"])
    gone = left_out(made)
    everyone = subject.inputs if hasattr(subject.system, "features") else dict(subject.system.all_inputs())
    if subject.system.takes_guidance:
        everyone["scale"] = torch.full((len(everyone["labels"]),), 2.0)
    means = population_at(subject.system, subject.times.flatten(), everyone).mean
    errors, folded = [], []
    for index, mean in enumerate(means):
        c = subject.system.condition(subject.t(index), subject.inputs)
        filled = torch.where(gone, mean, c)
        ours = made.system.condition(subject.t(index), subject.inputs)
        assert torch.equal(ours[:, : c.shape[1]], c)
        theirs = told(subject.system, filled)
        errors.append((told(made.system, ours) - theirs)[0])
        folded.append((theirs - told(subject.system, c.masked_fill(gone, 0)))[0])
        if index == 0:
            assert relative_error(made.system(subject.x, ours), subject.system(subject.x, filled)) < 1e-3
    assert made.bias_error is not None
    assert made.bias_error <= 1e-4
    error = (torch.stack(errors).norm() / torch.stack(folded).norm()).item()
    assert error == pytest.approx(made.bias_error, rel=0.1, abs=3e-5)
    assert made.width == len(made.kept or ()) + made.time_columns
    assert 0 < made.time_columns < subject.times.numel()


def weighted(subject: Subject, guided: bool = True) -> tuple[Tensor, Tensor]:
    """The covered vectors, with shape (N, d), and the square roots of their weights, with shape (N, 1), float64."""
    vectors = subject.vectors()
    has_null = vectors.shape[1] > subject.count
    if has_null and not guided:
        vectors, has_null = vectors[:, :-1], False
    weights = torch.full(vectors.shape[:2], 1 / vectors.shape[1], dtype=torch.float64)
    if has_null:
        weights[:, -1], weights[:, :-1] = 0.5, 0.5 / (vectors.shape[1] - 1)
    return vectors.flatten(0, 1), (weights.flatten() / len(weights)).sqrt().unsqueeze(1)


@pytest.mark.parametrize("rule", [{"keep": 12}, {"threshold": None}], ids=["prediction", "threshold"])
def test_a_refit_is_the_full_system_with_the_rest_predicted_from_what_is_kept(
    subject: Subject, rule: dict[str, Any]
) -> None:
    if "threshold" in rule:
        rule = {"threshold": subject.threshold("tail")}
    made = subject.compact(**rule, fill="refit")
    gone = left_out(made)
    assert (made.width, made.time_columns, made.bias_error) == (int((~gone).sum()), 0, None)
    vectors, weights = weighted(subject)
    read = F.silu(vectors).double()
    mean = (weights.square() * read).sum(0)
    known, sought = (weights * (read - mean)[:, mask] for mask in (~gone, gone))
    solution = torch.linalg.pinv(known, rtol=CUTOFF**0.5) @ sought
    for index in (0, subject.times.numel() - 1):
        c = subject.system.condition(subject.t(index), subject.inputs)
        ours = made.system.condition(subject.t(index), subject.inputs)
        assert torch.equal(ours, c)
        filled = F.silu(c).double()
        filled[:, gone] = mean[gone] + (filled - mean)[:, ~gone] @ solution
        theirs = [layer.adaLN_modulation(filled.float()) for layer in subject.system.modulated]
        assert relative_error(told(made.system, ours), torch.cat([part.flatten(1) for part in theirs], dim=1)) < 1e-4
        whole = subject.system.forward_modulated(subject.x, theirs)
        assert relative_error(made.system(subject.x, ours), whole) < 1e-4
        if subject.x[0].numel() > 10_000:
            break


def test_as_many_predictors_as_components_are_the_full_system(subject: Subject) -> None:
    made = subject.compact(keep=subject.system.condition_dim, fill="refit")
    c = subject.system.condition(subject.t(1), subject.inputs)
    assert relative_error(told(made.system, c), told(subject.system, c)) < ROUNDING


@pytest.mark.parametrize("guided", [True, False])
def test_predictors_are_between_directions_and_other_components(of_sit: Subject, guided: bool) -> None:
    vectors, weights = weighted(of_sit, guided)
    theirs = told(of_sit.system, vectors).double()

    def error(**way: Any) -> float:
        made = of_sit.compact(guided=guided, **way)
        return ((told(made.system, vectors).double() - theirs) * weights).norm().item()

    for count in (1, 2, 4):
        refit = error(keep=count, by="prediction")
        assert error(keep=count, by="directions") <= refit * (1 + 1e-6)
        kept = set(of_sit.compact(guided=guided, keep=count, fill="refit").kept or ())
        assert len(kept) == count
        by_variance = of_sit.compact(guided=guided, keep=count, by="variance", fill="refit")
        if by_variance.width == count:
            assert refit <= error(keep=count, by="variance", fill="refit") * (1 + 1e-6)


def test_what_is_read_has_a_threshold_too(subject: Subject) -> None:
    sizes = F.silu(subject.vectors()).abs().flatten(0, 1).amax(0)
    threshold = sizes.quantile(0.5).item()
    made = subject.compact(threshold=threshold, of="read")
    assert torch.equal(left_out(made), sizes < threshold)


def test_as_many_directions_as_components_are_the_full_system(subject: Subject) -> None:
    made = subject.compact(keep=subject.system.condition_dim, by="directions", fill="mean")
    c = subject.system.condition(subject.t(1), subject.inputs)
    assert relative_error(told(made.system, c), told(subject.system, c)) < 1e-4
    assert made.kept is None
    assert made.adaln_parameters[1] - made.adaln_parameters[0] == subject.system.condition_dim**2  # the basis


@pytest.mark.parametrize("guided", [True, False])
def test_directions_are_the_best_there_are(of_sit: Subject, guided: bool) -> None:
    vectors, weights = weighted(of_sit, guided)
    theirs = told(of_sit.system, vectors).double()
    singular = torch.linalg.svdvals((theirs - (weights.square() * theirs).sum(0)) * weights)
    before = torch.inf
    for count in (1, 2, 4, 8):
        made = of_sit.compact(keep=count, by="directions", fill="mean", guided=guided)
        assert made.width == count
        error = ((told(made.system, vectors) - theirs) * weights).norm().item()
        assert error == pytest.approx(singular[count:].norm().item(), rel=1e-3, abs=1e-6)  # Eckart and Young
        assert error < before
        before = error


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_system_is_loaded_as_it_was(subject: Subject, kind: str, tmp_path: Path) -> None:
    made = subject.compact(**KINDS[kind])
    path = tmp_path / "compacted.safetensors"
    save_system(made.system, path, {"compacted_from": "somewhere"})
    loaded = tailprune.load(path)
    t = (subject.t(0) + subject.t(1)) / 2
    c = made.system.condition(t, subject.inputs)
    assert torch.equal(loaded.condition(t, subject.inputs), c)
    assert torch.equal(loaded(subject.x, c), made.system(subject.x, c))
    whole = subject.system.embed_time(t) + subject.system.embed_inputs(subject.inputs)
    assert torch.equal(tailprune.load_condition(path).condition(t, subject.inputs), whole)
    found = tailprune.inspect(path)
    assert (found.family, found.condition_dim) == (subject.system.family, subject.system.condition_dim)
    assert (found.parameters, found.adaln_parameters) == (made.parameters[1], made.adaln_parameters[1])
    assert found.compacted is not None
    assert f"compacted: AdaLN reads {found.compacted}" in str(found)
    assert ("directions" in found.compacted, "times" in found.compacted) == (kind == "directions", kind == "mean fill")
    assert tailprune.Checkpoint(path).metadata["compacted_from"] == "somewhere"


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_system_stays_as_it_is(kind: str) -> None:
    system = random_system(SiT).requires_grad_(True).train()
    before = {name: tensor.clone() for name, tensor in system.state_dict().items()}
    made = compact(system, times=torch.tensor([0.0, 0.5]), inputs=system.all_inputs(), **KINDS[kind])
    assert system.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in system.state_dict().items())
    assert system.training
    assert all(parameter.requires_grad for parameter in system.parameters())
    assert not any(parameter.requires_grad for parameter in made.system.parameters())
    shared = made.system.state_dict()["blocks.0.attn.qkv.weight"]
    assert shared.data_ptr() == system.state_dict()["blocks.0.attn.qkv.weight"].data_ptr()


def test_a_system_is_saved_as_the_same_bytes_each_time(tmp_path: Path) -> None:
    system, said = random_system(DiT), dict.fromkeys("zyxwvu", "ü")
    contents = set()
    for place in range(8):
        path = tmp_path / f"{place}.safetensors"
        save_system(system, path, said)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert said.items() < tailprune.Checkpoint(path).metadata.items()
    assert torch.equal(tailprune.load(path).pos_embed, system.pos_embed)


def test_a_full_system_is_saved_with_what_its_tensors_do_not_say(tmp_path: Path) -> None:
    system = random_system(DiT, time_gaps=127, mlp_norm_eps=1e-5)
    save_system(system, tmp_path / "full.safetensors")
    t, x = torch.tensor([700.0]), torch.randn(1, *system.latent_shape)
    loaded = tailprune.load(tmp_path / "full.safetensors")
    c = loaded.condition(t, {"labels": LABELS[:1]})
    assert torch.equal(c, system.condition(t, {"labels": LABELS[:1]}))
    assert torch.equal(loaded(x, c), system(x, c))
    assert tailprune.inspect(tmp_path / "full.safetensors").compacted is None
    condition = tailprune.load_condition(tmp_path / "full.safetensors")
    assert torch.equal(condition.condition(t, {"labels": LABELS[:1]}), c)


def test_zero_fill_is_sampled_as_the_full_system_under_the_prune(subject: Subject) -> None:
    threshold = subject.threshold("tail")
    made = subject.compact(threshold=threshold)
    inputs: Inputs = subject.inputs
    if subject.x[0].numel() > 10_000:
        inputs = {name: tensor[:1] for name, tensor in inputs.items()}
    options: dict[str, Any] = {"steps": 8, "guidance": 1.5, "prune": Prune("tail", threshold)}
    options["seeds"] = range(len(next(iter(inputs.values()))))
    theirs = tailprune.sample(subject.system, inputs, **options)
    assert relative_error(tailprune.sample(made.system, inputs, **options), theirs) < 1e-4


def test_columns_of_time_are_sampled_with(of_sit: Subject) -> None:
    made = of_sit.compact(**KINDS["mean fill"])
    x = of_sit.x
    ours = tailprune.sample(made.system, of_sit.inputs, sampler="euler", steps=8, guidance=2.0, noise=x)
    for index in range(8):
        conditional = made.system(x, made.system.condition(of_sit.t(index), of_sit.inputs))
        null = made.system(x, made.system.condition(of_sit.t(index), made.system.null_inputs(of_sit.count)))
        guided = null + 2.0 * (conditional - null)
        guided[:, 3:] = conditional[:, 3:]  # SiT's authors guide three channels
        x = x + guided / 8
    assert relative_error(ours, x) < ROUNDING


def test_what_a_prune_removes_is_measured_without_the_columns_of_time(of_sit: Subject) -> None:
    made, prune = of_sit.compact(**KINDS["mean fill"]), Prune("tail", of_sit.threshold("tail"))
    theirs = measure_removal(of_sit.system, of_sit.inputs, prune, of_sit.times)
    assert measure_removal(made.system, of_sit.inputs, prune, of_sit.times) == theirs


def test_columns_are_straight_between_covered_times_and_constant_outside() -> None:
    columns = TimeColumns(3, 1)
    columns.times, columns.values = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([[0.0], [2.0], [-2.0]])
    found = columns(torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.5, 3.0, 9.0]))
    assert found.squeeze(1).tolist() == [0.0, 0.0, 0.5, 2.0, -1.0, -2.0, -2.0]


def test_at_one_time_the_mean_goes_into_the_biases(of_sit: Subject) -> None:
    made = compact(of_sit.system, times=torch.tensor(0.5), inputs=of_sit.inputs, keep=5, fill="mean")
    assert (made.width, made.time_columns, made.bias_error) == (5, 0, 0.0)
    t = torch.full((of_sit.count,), 0.5)
    c = of_sit.system.condition(t, of_sit.inputs)
    mean = population_at(of_sit.system, t[:1], of_sit.system.all_inputs()).mean
    filled = torch.where(left_out(made), mean, c)
    assert relative_error(told(made.system, made.system.condition(t, of_sit.inputs)), told(of_sit.system, filled)) < (
        ROUNDING
    )


def test_all_components_kept_are_the_full_system(of_sit: Subject) -> None:
    for fill in ("zero", "mean"):
        made = of_sit.compact(threshold=0.0, fill=fill)
        assert made.width == of_sit.system.condition_dim
        c = of_sit.system.condition(of_sit.t(0), of_sit.inputs)
        assert relative_error(made.system(of_sit.x, c), of_sit.system(of_sit.x, c)) < ROUNDING


def test_components_are_those_that_vary_most_at_any_covered_time(of_sit: Subject) -> None:
    chosen: set[int] = set()
    for time in of_sit.times.flatten():
        c = of_sit.system.condition(time.expand(10), of_sit.system.all_inputs())
        chosen |= set(F.silu(c).var(0).topk(4).indices.tolist())
    assert set(of_sit.compact(keep=4).kept or ()) == chosen


@pytest.mark.parametrize(
    "way",
    [{"threshold": 0.5}, {"threshold": 0.5, "fill": "mean"}, {"threshold": 0.5, "fill": "refit"}, *KINDS.values()],
    ids=str,
)
def test_each_covered_time_is_told_of_once_and_may_be_the_last(of_sit: Subject, way: dict[str, Any]) -> None:
    told: list[tuple[int, int]] = []
    of_sit.compact(on_time=lambda *at: told.append(at), **way)
    assert told == [(done, 8) for done in range(1, 9)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    with pytest.raises(KeyboardInterrupt, match="1 of 8"):
        of_sit.compact(on_time=stop, **way)


def test_a_population_stands_for_the_classes(of_sit: Subject) -> None:
    two = {"labels": torch.tensor([1, 2])}
    c = of_sit.system.condition(torch.full((2,), 0.5), two)
    made = compact(of_sit.system, times=torch.tensor([0.5]), inputs=of_sit.inputs, keep=6, fill="mean", population=two)
    assert set(made.kept or ()) == set(F.silu(c).var(0).topk(6).indices.tolist())
    filled = torch.where(left_out(made), c.mean(0), c)
    assert relative_error(
        told(made.system, made.system.condition(torch.full((2,), 0.5), two)), told(of_sit.system, filled)
    ) < (ROUNDING)


def test_the_null_condition_is_covered_only_where_it_is_guided(of_sit: Subject) -> None:
    alone = of_sit.vectors()[:, :-1].abs().amax((0, 1))
    null = of_sit.vectors()[:, -1].abs().amax(0)
    component = int((null - alone).argmax())
    assert null[component] > alone[component]
    threshold = (null[component] + alone[component]).item() / 2
    assert component in (of_sit.compact(threshold=threshold).kept or ())
    assert component not in (of_sit.compact(threshold=threshold, guided=False).kept or ())


NOTHING = {"labels": torch.tensor([], dtype=torch.int64)}
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "exactly one of threshold and keep"),
    ({"threshold": 0.1, "keep": 4}, "exactly one of threshold and keep"),
    ({"keep": 49}, "must be a whole number from 1 to 48, not 49"),
    ({"keep": 0}, "from 1 to 48, not 0"),
    ({"threshold": 1e6}, "on the tail removes all 48 components"),
    ({"threshold": 0.0, "side": "head"}, "on the head removes all 48 components"),
    ({"threshold": -1.0}, "at least 0, not -1.0"),
    ({"threshold": 0.1, "side": "left"}, "side must be 'tail' or 'head'"),
    ({"keep": 4, "fill": "ones"}, "'zero', 'mean' or 'refit', not 'ones'"),
    ({"keep": 4, "by": "size"}, "'variance', 'prediction' or 'directions', not 'size'"),
    ({"keep": 4, "by": "magnitude"}, "by 'magnitude' keeps other components of every vector, so AdaLN would still"),
    ({"keep": 4, "by": "deviation", "fill": "refit"}, "by 'deviation' keeps other components of every vector"),
    ({"keep": 4, "by": "directions", "fill": "zero"}, "does not go with directions, which are measured from the mean"),
    ({"keep": 4, "by": "directions", "fill": "refit"}, "does not go with directions"),
    ({"keep": 4, "by": "prediction", "fill": "mean"}, "does not go with by 'prediction', which keeps the components"),
    ({"keep": 4, "of": "c"}, "variance is that of what the blocks read, not of c"),
    ({"keep": 4, "side": "tail"}, "side 'tail' goes with threshold, not with keep"),
    ({"threshold": 0.1, "of": "y"}, "of must be 'c' or 'read', not 'y'"),
    ({"threshold": 0.1, "by": "directions", "fill": "mean"}, "by 'directions' goes with keep, not with threshold"),
    ({"keep": 4, "times": torch.tensor([])}, "times are empty"),
    ({"keep": 4, "times": torch.tensor([torch.nan])}, "times must be finite numbers"),
    ({"keep": 4, "inputs": NOTHING}, "inputs are empty"),
    ({"keep": 4, "inputs": {"labels": torch.tensor([10])}}, "label 10 is outside 0 to 9"),
    ({"keep": 4, "population": {"labels": torch.tensor([10])}}, "label 10 is outside 0 to 9"),
    ({"keep": 4, "population": {"labels": torch.tensor([1])}}, "nothing varies over the population"),
]


@pytest.mark.parametrize(("asked", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_is_refused_with_what_would_be_right(
    of_sit: Subject, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        of_sit.compact(**asked)


def test_what_is_compacted_is_not_compacted_again(of_sit: Subject) -> None:
    made = of_sit.compact(keep=4)
    with pytest.raises(ValueError, match="compacted already: compact the full system"):
        compact(made.system, times=of_sit.times, inputs=of_sit.inputs, keep=2)


def test_blocks_with_a_condition_each_are_not_compacted() -> None:
    system = random_system(PerBlockDiT)
    with pytest.raises(ValueError, match="cannot compact a DiT whose blocks have their own conditions"):
        compact(system, times=torch.tensor([1.0]), inputs={"labels": LABELS}, keep=2)


Tensors = dict[str, Tensor]


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {other: tensor for other, tensor in tensors.items() if other != name}


def changed(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: value(tensors.get(name, torch.zeros(0))).contiguous()}


DAMAGED: list[tuple[str, Callable[[Tensors], Tensors], str]] = [
    ("zero fill", without("reader.kept"), r"blocks.0.adaLN_modulation.1.weight is \(288, \d+\), not \(288, 48\)"),
    ("zero fill", changed("reader.kept", lambda kept: kept[:-1]), "adaLN_modulation.1.weight is"),
    ("zero fill", changed("reader.kept", lambda kept: kept + 48), "reader.kept must hold ascending indices"),
    ("zero fill", changed("reader.kept", lambda kept: kept.flip(0)), "reader.kept must hold ascending indices"),
    ("zero fill", changed("reader.kept", lambda kept: kept.float()), "torch.int64, not torch.float32"),
    ("zero fill", changed("reader.kept", lambda kept: kept[None]), r"reader.kept has shape \(1, \d+\)"),
    ("zero fill", changed("reader.basis", lambda _: torch.ones(4, 48)), "has both reader.kept and reader.basis"),
    ("zero fill", changed("blocks.1.adaLN_modulation.1.weight", lambda w: w[:, 1:]), "blocks.1.adaLN_modulation"),
    ("mean fill", without("reader.kept"), "has time_columns.times without reader.kept"),
    ("mean fill", without("time_columns.values"), "time_columns.values is missing"),
    ("mean fill", without("time_columns.times"), "time_columns.times is missing"),
    ("mean fill", changed("time_columns.times", lambda times: times[1:]), r"time_columns.times is \(7,\), not \(8,\)"),
    ("mean fill", changed("time_columns.times", lambda times: times.flip(0)), "time_columns.times must hold ascending"),
    ("mean fill", changed("time_columns.values", lambda values: values / 0), "time_columns.values holds NaN"),
    ("directions", without("reader.basis"), "adaLN_modulation.1.weight is"),
    ("directions", changed("reader.basis", lambda basis: basis[:, 1:]), r"reader.basis is \(12, 47\), not \(12, 48\)"),
    ("directions", changed("reader.basis", lambda basis: basis / 0), "reader.basis holds NaN"),
]


@pytest.mark.parametrize(("kind", "damage", "message"), DAMAGED, ids=[f"{kind}: {m}" for kind, _, m in DAMAGED])
def test_a_damaged_file_is_refused_with_the_tensor(
    of_sit: Subject, kind: str, damage: Callable[[Tensors], Tensors], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.safetensors"
    save_system(of_sit.compact(**KINDS[kind]).system, path)
    save_file(damage(load_file(path)), path, tailprune.Checkpoint(path).metadata)
    with pytest.raises(CheckpointError, match=message) as caught:
        tailprune.load(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(of_sit: Subject, tmp_path: Path) -> None:
    path = tmp_path / "truncated.safetensors"
    save_system(of_sit.compact(keep=4).system, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        tailprune.load(path)


def test_compacted_files_of_a_family_say_which_it_is(tmp_path: Path) -> None:
    system = random_system(MG, learn_sigma=False)
    made = compact(system, times=torch.tensor([0.5, 1.0]), inputs=system.all_inputs(), guided=False, keep=4)
    save_system(made.system, tmp_path / "file.safetensors")
    assert type(tailprune.load(tmp_path / "file.safetensors")) is MG
