"""X-MDPT and MDSGen, beside the same networks written out in `naive`, and what conditions of features may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tailprune
from tailprune import ConditionTable, Prune
from tailprune.systems import MDSGen, SiT, System
from tailprune.systems.features import FeatureCondition
from tests.registry import write_document
from tests.tailprune.conftest import random_system
from tests.tailprune.systems import naive
from tests.tailprune.systems import official_tensors as tensors
from tests.tailprune.systems.naive import relative_error
from tests.tailprune.watch import watched

ROUNDING = 1e-5  # float32 beside float64
DIM, DEPTH, HEADS, COUNT = 32, 3, 4, 2
TIMES = torch.tensor([0.0, 60.0])


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixing_shapes(name: str, tokens: int) -> tensors.Shapes:
    return {f"{name}.0.weight": (1, tokens, 1), f"{name}.0.bias": (1,)} | tensors.norm_shapes(f"{name}.2", DIM)


def projection_shapes(name: str, width: int) -> tensors.Shapes:
    return tensors.linear_shapes(f"{name}.0", DIM, width) | tensors.norm_shapes(f"{name}.2", DIM)


@dataclass(frozen=True)
class Family:
    """A small model of one family: its tensors, inputs of `COUNT` samples, and its condition written out."""

    name: str
    grid: tuple[int, int]
    shapes: tensors.Shapes
    inputs: Mapping[str, Tensor]
    latents: Tensor
    part: Callable[[naive.State, Mapping[str, Tensor]], Tensor]
    time_width: int

    @property
    def state(self) -> dict[str, Tensor]:
        shapes = self.shapes | {"decoder_pos_embed": (1, self.grid[0] * self.grid[1], DIM), "mask_token": (1, 1, DIM)}
        for block in ["sideblocks.0", *(f"blocks.{i}" for i in range(DEPTH))]:
            shapes |= tensors.masked_block_shapes(block, DIM, HEADS, self.grid)
        return tensors.with_indices(tensors.random_state(shapes), self.grid)

    def kept(self, folder: Path) -> Path:
        path = folder / f"{self.name}.safetensors"
        save_file(self.state, path)
        return path


X_MDPT = Family(
    name="x-mdpt",
    grid=(4, 4),
    shapes={
        **tensors.trunk_shapes(DIM, 16, 2, 4, 8),
        **projection_shapes("mlp_dino_pose", 768),
        **projection_shapes("mlp_dino_img", 1536),
        **projection_shapes("mlp_final", DIM),
        **mixing_shapes("conv1d_pose", 257),
        **mixing_shapes("conv1d_global", 257),
        **mixing_shapes("conv1d_local", 16),
    },
    inputs={
        "pose": normal(COUNT, 257, 768),
        "image": normal(COUNT, 257, 1536),
        "latents": normal(COUNT, 4, 8, 8, seed=2),
    },
    latents=normal(COUNT, 4, 8, 8, seed=3),
    part=naive.x_mdpt_part,
    time_width=256,
)
MDSGEN = Family(
    name="mdsgen",
    grid=(102, 8),
    shapes={
        **tensors.trunk_shapes(DIM, 816, 2, 8, 16, time_width=204),
        **projection_shapes("mlp_feat", 512),
        **mixing_shapes("conv1d_feat", 32),
    },
    inputs={"video": normal(COUNT, 32, 512)},
    latents=normal(COUNT, 8, 204, 16, seed=3),
    part=naive.mdsgen_part,
    time_width=204,
)


@pytest.fixture(params=[X_MDPT, MDSGEN], ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def system(family: Family, tmp_path: Path) -> System:
    return tailprune.load(family.kept(tmp_path), num_heads=HEADS, decode_layer=1)


@pytest.fixture
def x_mdpt(tmp_path: Path) -> System:
    return tailprune.load(X_MDPT.kept(tmp_path), num_heads=HEADS, decode_layer=1)


def test_decode_layer_says_before_which_block_decoder_positions_are_added(family: Family, tmp_path: Path) -> None:
    path = family.kept(tmp_path)
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in family.state.items()}
    theirs = naive.embed_number(state, "t_embedder", TIMES, family.time_width) + family.part(state, family.inputs)
    outputs = []
    for decode_layer in (0, 1, DEPTH):
        system = tailprune.load(path, decode_layer=decode_layer)
        assert system.family == family.name
        c = system.condition(TIMES, family.inputs)
        assert relative_error(c, theirs) < ROUNDING
        outputs.append(system(family.latents, c))
        how: dict[str, Any] = {"grid": family.grid, "depth": DEPTH, "decode_layer": decode_layer, "heads": HEADS}
        # One sample of the two: written out, MDSGen's attention is slow.
        expected = naive.masked(state, family.latents[:1], theirs[:1], **how)
        assert relative_error(outputs[-1][:1], expected) < ROUNDING
    assert all(relative_error(a, b) > 1e-2 for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize("said_by", ["registry", "metadata"])
def test_no_decoder_block_at_all_can_be_said(said_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = X_MDPT.kept(tmp_path)
    source: str | Path = path
    if said_by == "metadata":
        save_file(X_MDPT.state, path, metadata={"decode_layer": "0"})
    else:
        entry = {"family": "x-mdpt", "checkpoint": "x-mdpt.safetensors", "decode_layer": 0}
        monkeypatch.setenv("TAILPRUNE_REGISTRY", str(write_document(tmp_path, {"models": {"mine": entry}})))
        source = "mine"
    assert tailprune.inspect(source).configuration["decode_layer"] == 0


def test_more_decoder_blocks_than_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decode_layer = 4 is outside 0 to 3, the number of blocks"):
        tailprune.load(X_MDPT.kept(tmp_path), family="x-mdpt", decode_layer=4)


def test_the_null_condition_is_a_part_of_zeros(system: System, family: Family) -> None:
    null = system.null_inputs(COUNT)
    assert torch.equal(system.embed_inputs(null), torch.zeros(COUNT, DIM))
    assert torch.equal(system.condition(TIMES, null), system.embed_time(TIMES))
    table = ConditionTable(system, family.inputs, TIMES[:, None])
    assert torch.equal(table.conditions_at(1, 0, None)[table.null_row], system.embed_time(TIMES)[1])


def test_a_block_runs_once_a_forward_and_never_for_the_source(system: System, family: Family) -> None:
    calls: list[int] = []
    for place, block in enumerate(system.blocks):
        block.register_forward_hook(lambda module, args, out, place=place: calls.append(place))
    c = system.condition(TIMES, family.inputs)
    assert calls == []
    system(family.latents, c)
    assert calls == [*range(DEPTH)]


def test_the_condition_alone_is_that_of_the_system(system: System, family: Family, tmp_path: Path) -> None:
    part = tailprune.load_condition(family.kept(tmp_path), decode_layer=1)
    assert isinstance(part, FeatureCondition)
    assert not isinstance(part, System)
    assert torch.equal(part.condition(TIMES, family.inputs), system.condition(TIMES, family.inputs))


def test_features_in_float16_are_those_in_float32(system: System, family: Family) -> None:
    halves = {name: tensor.half() for name, tensor in family.inputs.items()}
    raised = {name: tensor.float() for name, tensor in halves.items()}
    assert torch.equal(system.condition(TIMES, halves), system.condition(TIMES, raised))
    made = [tailprune.sample(system, inputs, steps=2, seeds=[0, 1]) for inputs in (halves, raised)]
    assert torch.equal(*made)


WRONG: list[tuple[dict[str, Tensor | None], str]] = [
    ({"image": None}, "this system takes the inputs pose .*, image .*, latents .*, not pose, latents"),
    ({"labels": torch.tensor([1, 2])}, "not pose, image, latents, labels"),
    ({"pose": normal(COUNT, 256, 768)}, r"pose must have shape \('B', 257, 768\), not \(2, 256, 768\)"),
    ({"latents": normal(COUNT, 4, 8, 9)}, r"latents must have shape \('B', 4, 8, 8\), not \(2, 4, 8, 9\)"),
    ({"image": normal(257, 1536)}, r"image must have shape \('B', 257, 1536\), not \(257, 1536\)"),
    ({"image": torch.full((COUNT, 257, 1536), torch.nan)}, "image holds NaN or infinity"),
    ({"pose": torch.full((COUNT, 257, 768), torch.inf).half()}, "pose holds NaN or infinity"),
    ({"image": normal(1, 257, 1536)}, "the same number of rows, one per sample, not pose 2, image 1, latents 2"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=range(len(WRONG)))
def test_features_that_are_not_those_it_takes_are_refused(
    x_mdpt: System, changes: dict[str, Tensor | None], message: str
) -> None:
    inputs = {name: tensor for name, tensor in {**X_MDPT.inputs, **changes}.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        x_mdpt.check_inputs(inputs)
    with pytest.raises(ValueError, match=message):
        tailprune.sample(x_mdpt, inputs, steps=2, noise=X_MDPT.latents)


def test_a_feature_system_takes_no_labels_and_a_label_system_no_features(system: System, family: Family) -> None:
    labels = {"labels": torch.tensor([1, 2])}
    with pytest.raises(ValueError, match=r"this system takes the inputs .*, not labels"):
        tailprune.sample(system, labels, steps=2, seeds=[0, 1])
    sit = random_system(SiT)
    with pytest.raises(ValueError, match=f"takes the inputs labels, not {', '.join(family.inputs)}"):
        tailprune.sample(sit, family.inputs, steps=2, seeds=[0, 1])


def test_there_are_no_inputs_of_every_class_and_the_way_out_is_reported(system: System, family: Family) -> None:
    with pytest.raises(ValueError, match=f"give a population, conditions of {' and '.join(family.inputs)}"):
        system.all_inputs()


@pytest.mark.parametrize("prune", [Prune.keep(5), Prune("tail", 0.5, fill="mean")], ids=["keep", "mean"])
def test_a_population_stands_for_the_classes(system: System, family: Family, prune: Prune) -> None:
    options: dict[str, Any] = {"sampler": "dpmpp", "steps": 3, "seeds": [0, 1], "prune": prune}
    with pytest.raises(ValueError, match="this system has no classes: give a population"):
        tailprune.sample(system, family.inputs, **options)
    population = {name: normal(5, *tensor.shape[1:], seed=7) for name, tensor in family.inputs.items()}
    with watched(system) as seen:
        made = tailprune.sample(system, family.inputs, population=population, guidance=2.0, **options)
    assert made.isfinite().all()
    t = tailprune.sampling_times(system, "dpmpp", 3)[0]
    everyone = system.condition(t.expand(5), population)
    c = torch.cat([system.condition(t.expand(COUNT), inputs) for inputs in (family.inputs, system.null_inputs(COUNT))])
    c = c[: COUNT + 1]  # one null condition stands for all
    if prune.kept:
        varied = (everyone / (1 + (-everyone).exp())).var(0, unbiased=False)
        gone = (varied < varied.sort(descending=True).values[4]).expand_as(c)
    else:
        gone = c.abs() < 0.5
    assert gone.any()
    assert relative_error(seen.vectors[: COUNT + 1], torch.where(gone, everyone.mean(0), c)) < ROUNDING


def test_a_population_of_something_else_is_refused(x_mdpt: System) -> None:
    options: dict[str, Any] = {"steps": 2, "seeds": [0, 1], "prune": Prune.keep(5)}
    with pytest.raises(ValueError, match="not video"):
        tailprune.sample(x_mdpt, X_MDPT.inputs, population={"video": normal(3, 32, 512)}, **options)


def test_mdsgen_is_sampled_by_dpm_solver_by_default(tmp_path: Path) -> None:
    assert MDSGen.facts.default_sampler == "dpmpp"
    system = tailprune.load(MDSGEN.kept(tmp_path), decode_layer=1)
    inputs = MDSGEN.inputs
    made, said = (tailprune.sample(system, inputs, sampler=name, steps=2, seeds=[0, 1]) for name in (None, "dpmpp"))
    assert torch.equal(made, said)


def test_equal_features_are_told_to_the_network_once(system: System, family: Family) -> None:
    twice = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in family.inputs.items()}
    seeds = list(range(COUNT + 1))
    with watched(system) as seen:
        made = tailprune.sample(system, twice, sampler="ddim", steps=2, seeds=seeds)
    assert len(seen.vectors) == 2 * COUNT
    alone = tailprune.sample(system, {n: t[:1] for n, t in twice.items()}, sampler="ddim", steps=2, seeds=seeds[-1:])
    assert relative_error(made[-1:], alone) < ROUNDING
