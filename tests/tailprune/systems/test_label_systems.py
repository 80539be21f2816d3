"""Label systems in the variants that no reference case covers, beside the same networks written out in `naive`."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tailprune
from tailprune import Guidance, Prune
from tailprune.prune_report import measure_removal
from tailprune.systems import MG, SYSTEMS, System
from tailprune.systems.lightningdit import Rotary
from tests.tailprune.parity import read
from tests.tailprune.systems import naive
from tests.tailprune.systems import official_tensors as tensors
from tests.tailprune.systems.naive import State, relative_error
from tests.tailprune.watch import watched

REFERENCE = Path(__file__).parents[2] / "reference"
ROUNDING = 1e-5  # float32 beside float64

DIM, HEADS, SIDE, CHANNELS, CLASSES = 48, 4, 4, 4, 5
LABELS = torch.tensor([3, 0, 5])  # the last is the null condition's
FLAGS = ("use_qknorm", "use_swiglu", "use_rope", "use_rmsnorm", "wo_shift")


def kept(state: State, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def wide(state: State) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in state.items()}


def latents(channels: int = CHANNELS, side: int = SIDE) -> Tensor:
    return torch.randn(len(LABELS), channels, side, side, generator=torch.Generator().manual_seed(1))


def agrees(system: System, theirs: Tensor, t: Tensor, inputs: dict[str, Tensor], output: Tensor) -> None:
    """Whether condition and output of a system, on `latents()`, are those."""
    c = system.condition(t, inputs)
    assert relative_error(c, theirs) < ROUNDING
    assert relative_error(system(latents(*system.latent_shape[:2]), c), output) < ROUNDING


# LightningDiT


def lightningdit_state(**has: bool) -> dict[str, Tensor]:
    state = tensors.random_state(tensors.lightningdit_shapes(DIM, 2, HEADS, SIDE**2, CHANNELS, CLASSES, **has))
    return state | (naive.rotary_buffers(SIDE, DIM // HEADS) if has["use_rope"] else {})


@pytest.mark.parametrize(
    "flags", [*product([False, True], repeat=len(FLAGS))], ids=lambda f: "".join(str(int(x)) for x in f)
)
def test_every_lightningdit_is_recognised_and_computes_what_its_parts_say(
    flags: tuple[bool, ...], tmp_path: Path
) -> None:
    has = dict(zip(FLAGS, flags, strict=True))
    state = lightningdit_state(**has)
    path = kept(state, tmp_path / "a.safetensors")
    # Without a part of its own, its tensors are those of a SiT, or of a REPA with query/key norm.
    plain = not (has["use_swiglu"] or has["use_rope"] or has["use_rmsnorm"] or has["wo_shift"])
    family = "lightningdit" if plain else None
    found = tailprune.inspect(path, family=family, num_heads=HEADS)
    assert found.family == "lightningdit"
    assert bool(found.also_fits) == plain
    assert found.configuration == has | {
        "input_size": SIDE,
        "patch_size": 1,
        "in_channels": CHANNELS,
        "hidden_size": DIM,
        "depth": 2,
        "num_heads": HEADS,
        "num_classes": CLASSES,
        "null_condition": True,
        "mlp_ratio": 4.0,
        "learn_sigma": False,
    }
    t = torch.tensor([0.0, 0.4, 0.97])
    c = naive.label_condition(wide(state), t, LABELS)
    output = naive.lightningdit(wide(state), latents(), c, depth=2, heads=HEADS, **has)
    agrees(tailprune.load(path, family=family, num_heads=HEADS), c, t, {"labels": LABELS}, output)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_part_of_a_lightningdit_changes_its_output(flag: str) -> None:
    # Or the comparison above could not tell whether it is there.
    has = dict.fromkeys(FLAGS, True) | {"wo_shift": False}
    x, c = latents(), torch.randn(len(LABELS), DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    outputs = [
        naive.lightningdit(wide(lightningdit_state(**now)), x, c, depth=2, heads=HEADS, **now)
        for now in (has, has | {flag: not has[flag]})
    ]
    assert relative_error(*outputs) > 1e-2


@pytest.mark.parametrize("has_it", [True, False], ids=["query-key-norm", "plain"])
def test_heads_are_read_off_rotary_buffers_and_norms_of_heads(has_it: bool, tmp_path: Path) -> None:
    has = dict.fromkeys(FLAGS, False) | {"use_qknorm": has_it, "use_rope": not has_it, "use_rmsnorm": True}
    path = kept(lightningdit_state(**has), tmp_path / "a.safetensors")
    assert tailprune.inspect(path).configuration["num_heads"] == HEADS


@pytest.mark.parametrize(("side", "width"), [(4, 12), (5, 8), (16, 72)])
def test_rotary_buffers_of_the_formula_turn_complex_numbers(side: int, width: int) -> None:
    buffers = naive.rotary_buffers(side, width)
    rotary = Rotary(side**2, width)
    rotary.load_state_dict({name.removeprefix("feat_rope."): tensor for name, tensor in buffers.items()})
    q = torch.randn(2, 3, side**2, width)
    expected = torch.stack([torch.stack([naive.rotate(head, side) for head in heads]) for heads in q])
    assert relative_error(rotary(q), expected) < ROUNDING


def test_rotary_buffers_of_a_published_model_are_those_of_the_formula() -> None:
    state = read(REFERENCE / "lightningdit-a.pt.xz")["state_dict"]
    for name, expected in naive.rotary_buffers(8, 12).items():
        assert (state[name] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("use_swiglu", [True, False])
@pytest.mark.parametrize(("dim", "hidden"), [(56, 122), (56, 158), (88, 145), (48, 100), (48, 128), (1152, 3072)])
def test_any_width_of_the_hidden_layer_is_read(use_swiglu: bool, dim: int, hidden: int) -> None:
    has = dict.fromkeys(FLAGS, False) | {"use_swiglu": use_swiglu, "use_rmsnorm": True}
    shapes = tensors.lightningdit_shapes(dim, 1, 4, SIDE**2, CHANNELS, CLASSES, **has)
    names = ("w3", "w12") if use_swiglu else ("fc2", "fc1")
    rows = 2 * hidden if use_swiglu else hidden
    shapes |= tensors.linear_shapes(f"blocks.0.mlp.{names[0]}", dim, hidden)
    shapes |= tensors.linear_shapes(f"blocks.0.mlp.{names[1]}", rows, dim)
    cls = SYSTEMS["lightningdit"]
    with torch.device("meta"):
        system = cls(cls.infer_configuration(shapes, num_heads=4))
    assert {name: tuple(tensor.shape) for name, tensor in system.state_dict().items()} == shapes


# REPA and MG


def dit_shapes(depth: int, **more: bool) -> tensors.Shapes:
    shapes = tensors.trunk_shapes(DIM, SIDE**2 // 4, 2, CHANNELS, CHANNELS)
    shapes |= {"y_embedder.embedding_table.weight": (CLASSES + 1, DIM)}
    for i in range(depth):
        shapes |= tensors.block_shapes(f"blocks.{i}", DIM, 4 * DIM)
        for of in ("q_norm", "k_norm") if more.get("qk_norm") else ():
            shapes |= tensors.norm_shapes(f"blocks.{i}.attn.{of}", DIM // HEADS)
    if more.get("scale"):
        shapes |= tensors.linear_shapes("s_embedder.mlp.0", DIM, 256) | tensors.linear_shapes(
            "s_embedder.mlp.2", DIM, DIM
        )
    return shapes


def projector_shapes(count: int) -> tensors.Shapes:
    """Three linear layers each, onto the features of encoders of several widths."""
    shapes: tensors.Shapes = {}
    for i in range(count):
        for layer, out, width in ((0, 32, DIM), (2, 32, 32), (4, 24 + 8 * i, 32)):
            shapes |= tensors.linear_shapes(f"projectors.{i}.{layer}", out, width)
    return shapes


@pytest.mark.parametrize("encoder_depth", [None, 1, 2])
@pytest.mark.parametrize("projectors", [0, 1, 3])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_repa_with_query_key_norm_and_any_projectors(
    qk_norm: bool, projectors: int, encoder_depth: int | None, tmp_path: Path
) -> None:
    depth = 3
    state = tensors.random_state(dit_shapes(depth, qk_norm=qk_norm) | projector_shapes(projectors))

    def old(name: str) -> str:
        for i in range(depth if encoder_depth is None else encoder_depth, depth):
            name = name.replace(f"blocks.{i}.", f"decoder_blocks.{i - (encoder_depth or 0)}.")
        return name

    path = kept({old(name): tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    found = tailprune.inspect(path, family="repa", num_heads=HEADS)
    assert (found.configuration["qk_norm"], found.configuration["depth"]) == (qk_norm, depth)
    assert found.left_out == ({"projectors": 6 * projectors} if projectors else {})
    t = torch.tensor([1.0, 0.4, 0.03])
    c = naive.label_condition(wide(state), t, LABELS)
    output = naive.dit(wide(state), latents(), c, depth=depth, heads=HEADS, qk_norm=qk_norm)
    agrees(tailprune.load(path, family="repa", num_heads=HEADS), c, t, {"labels": LABELS}, output)


@pytest.fixture
def told(tmp_path: Path) -> tuple[System, dict[str, Tensor]]:
    """A scale-aware MG, and its tensors."""
    state = tensors.random_state(dit_shapes(2, scale=True))
    path = kept(state, tmp_path / "a.safetensors")
    assert tailprune.inspect(path, num_heads=HEADS).family == "mg"
    return tailprune.load(path, num_heads=HEADS), wide(state)


def test_mg_with_an_embedder_of_its_scale_adds_it_to_the_condition(told: tuple[System, dict[str, Tensor]]) -> None:
    system, state = told
    t, scale = torch.tensor([1.0, 0.4, 0.03]), torch.tensor([1.0, 1.45, 3.0])
    c = naive.label_condition(state, t, LABELS, scale)
    output = naive.dit(state, latents(), c, depth=2, heads=HEADS)
    agrees(system, c, t, {"labels": LABELS, "scale": scale}, output)
    one = naive.label_condition(state, t, LABELS, torch.ones(3))
    assert relative_error(system.condition(t, {"labels": LABELS}), one) < ROUNDING


@pytest.mark.parametrize("sampler", ["sde", "euler", "heun", "dopri5"])
def test_mg_is_told_the_scale_of_its_guidance_and_not_guided_besides(
    told: tuple[System, dict[str, Tensor]], sampler: str
) -> None:
    system, _ = told
    with watched(system) as seen:
        labels, options = LABELS[:2], {"sampler": sampler, "steps": 4, "seeds": [0, 1]}
        made = tailprune.sample(system, {"labels": labels}, guidance=Guidance(1.45), **options)
    if sampler == "dopri5":
        assert set(seen.rows) == {1}
    else:
        assert seen.rows == [2] * {"sde": 4, "euler": 4, "heun": 7}[sampler]  # Heun's last step is Euler's
    said = {"labels": labels, "scale": torch.full((2,), 1.45)}
    assert torch.equal(made, tailprune.sample(system, said, **options))
    assert relative_error(made, tailprune.sample(system, {"labels": labels}, **options)) > 1e-3


@pytest.mark.parametrize("sampler", ["euler", "dopri5"])
def test_the_classes_of_an_mg_are_told_the_scale_of_the_samples(
    told: tuple[System, dict[str, Tensor]], sampler: str
) -> None:
    system, _ = told
    prune, options = Prune("head", 0.0, fill="mean"), {"sampler": sampler, "steps": 3, "seeds": [0, 1]}
    everyone = {"labels": torch.arange(CLASSES), "scale": torch.full((CLASSES,), 1.45)}
    inputs, guidance = {"labels": LABELS[:2]}, Guidance(1.45)
    made = tailprune.sample(system, inputs, prune=prune, guidance=guidance, **options)
    given = tailprune.sample(system, inputs, prune=prune, guidance=guidance, population=everyone, **options)
    assert torch.equal(made, given)


def test_classes_at_several_scales_have_no_mean_in_common(told: tuple[System, dict[str, Tensor]]) -> None:
    system, _ = told
    inputs = {"labels": LABELS[:2], "scale": torch.tensor([1.0, 2.0])}
    times = tailprune.sampling_times(system, "euler", 3)
    with pytest.raises(ValueError, match="not scales from 1 to 2: give one, or a population"):
        measure_removal(system, inputs, Prune.keep(4), times)
    assert measure_removal(system, inputs, Prune("tail", 0.1), times).mean > 0


def test_mg_without_an_embedder_of_its_scale_is_guided_where_it_is_asked_to(tmp_path: Path) -> None:
    path = kept(tensors.random_state(dit_shapes(2)), tmp_path / "a.safetensors")
    system = tailprune.load(path, family="mg", num_heads=HEADS)
    assert type(system) is MG
    assert not system.takes_guidance
    with watched(system) as seen:
        tailprune.sample(system, {"labels": LABELS[:2]}, sampler="euler", guidance=2.0, steps=2, seeds=[0, 1])
        tailprune.sample(system, {"labels": LABELS[:2]}, sampler="euler", steps=2, seeds=[0, 1])
    assert seen.rows == [4, 4, 2, 2]


# MDT


@pytest.mark.parametrize(("depth", "decode_layer"), [(4, 2), (6, 2), (8, 4), (6, 4), (7, 1)])
def test_mdt_of_any_depth_and_number_of_decoder_blocks(depth: int, decode_layer: int, tmp_path: Path) -> None:
    grid, half = (SIDE, SIDE), (depth - decode_layer) // 2
    shapes = tensors.trunk_shapes(DIM, SIDE**2, 2, CHANNELS, 2 * CHANNELS)
    shapes |= {"y_embedder.embedding_table.weight": (CLASSES + 1, DIM), "decoder_pos_embed": (1, SIDE**2, DIM)}
    shapes |= {"mask_token": (1, 1, DIM)} | tensors.masked_block_shapes("sideblocks.0", DIM, HEADS, grid)
    for stack, count, skip in (
        ("en_inblocks", half, False),
        ("en_outblocks", half, True),
        ("de_blocks", decode_layer, True),
    ):
        for i in range(count):
            shapes |= tensors.masked_block_shapes(f"{stack}.{i}", DIM, HEADS, grid, skip)
    state = tensors.with_indices(tensors.random_state(shapes), grid)
    path = kept(state, tmp_path / "a.safetensors")
    found = tailprune.inspect(path)
    assert (found.family, found.configuration["depth"]) == ("mdt", depth)
    assert (found.configuration["decode_layer"], found.configuration["num_heads"]) == (decode_layer, HEADS)
    t = torch.tensor([0.0, 7.0, 60.0])
    c = naive.label_condition(wide(state), t, LABELS)
    output = naive.mdt(wide(state), latents(side=2 * SIDE), c, half=half, decode_layer=decode_layer, heads=HEADS)
    system = tailprune.load(path)
    assert math.prod(system.latent_shape) == CHANNELS * (2 * SIDE) ** 2
    agrees(system, c, t, {"labels": LABELS}, output)
