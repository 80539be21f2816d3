"""The forms of products, attention and GELU: alike in what they compute, whichever is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tailprune
from tailprune.checkpoints.save import save_system
from tailprune.systems import MDT, DiT, System, choices, kernels
from tailprune.systems import speed as speeds
from tailprune.systems.choices import Choice, Layer, choices_file, measure
from tailprune.systems.kernels import FORMS, attend, linear, packing, tanh_gelu
from tailprune.systems.layers import Linear
from tailprune.systems.speed import bfloat16_speed, faster_in_bfloat16, forms_in_use
from tests.choices import has_form
from tests.tailprune.conftest import random_system
from tests.tailprune.systems.naive import relative_error

LINEAR, ATTENTION, GELU = FORMS["linear"], FORMS["attention"], FORMS["GELU"]
ERRORS = [(torch.float32, 1e-5), (torch.bfloat16, 0.02)]
LABELS = torch.tensor([1, 2, 3])

Choose = Callable[..., list[Layer]]
MEASURED = measure
"""As it is before a fixture replaces it."""


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Sets the forms that are chosen; returns the list of the layers that a form is then asked for."""

    def choose(*forms: str) -> list[Layer]:
        asked: list[Layer] = []

        def chosen(layer: Layer, names: Any, forms_of: Any) -> Choice:
            asked.append(layer)
            form = next((name for name in forms if name in names), next(iter(names)))
            return Choice(form, {form: 1.0}, samples=1)

        monkeypatch.setattr(kernels, "choice_of", chosen)
        return asked

    return choose


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("form", GELU)
def test_tanh_gelu_is_torchs_own_with_gradients_and_without(
    choose: Choose, form: str, dtype: torch.dtype, error: float
) -> None:
    asked = choose(form)
    x = torch.cat([torch.linspace(-9, 9, 1001), torch.tensor([-1e4, -40.0, 0.0, 40.0, 1e4])]).to(dtype)[None, None]
    truth = F.gelu(x.double(), approximate="tanh")
    with torch.no_grad():
        assert (tanh_gelu(x).double() - truth).abs().max() < error
    assert torch.equal(tanh_gelu(x), F.gelu(x, approximate="tanh"))
    assert asked == [Layer("GELU", (1, 1006), dtype)]


@pytest.mark.parametrize(("dtype", "error"), ERRORS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", ATTENTION)
def test_attention_is_the_fused_kernels(
    choose: Choose, form: str, dtype: torch.dtype, error: float, biased: bool
) -> None:
    choose(form)
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8)
    bias = torch.randn(4, 9, 9) if biased else None
    truth = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    some = None if bias is None else bias.to(dtype)
    with torch.no_grad():
        assert relative_error(attend(q.to(dtype), k.to(dtype), v.to(dtype), some), truth) < error


@pytest.mark.parametrize(("dtype", "error"), ERRORS)
@pytest.mark.parametrize("tokens", [256, 3])
@pytest.mark.parametrize("form", LINEAR)
def test_a_linear_layer_is_torchs_own_in_any_form(
    choose: Choose, form: str, tokens: int, dtype: torch.dtype, error: float
) -> None:
    if not has_form(form, dtype):
        pytest.skip(f"this CPU has no {form} layer in {dtype}")
    asked = choose(form)
    torch.manual_seed(0)
    layer = Linear(24, 40).to(dtype)
    x = torch.randn(4, tokens, 24, dtype=dtype)
    with torch.no_grad(), packing():
        truth = F.linear(x.double(), layer.weight.double(), layer.bias.double())
        for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2), x[:1]):  # as it lies in memory, not, and alone
            assert relative_error(layer(given), truth[: len(given)]) < error
    assert asked == [Layer("linear", (tokens, 24, 40), dtype)] * 3, "whatever the batch"
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert len(asked) == 3, "where something is learned, it goes the common way"


def test_other_precisions_other_shapes_and_compilers_have_torchs_own(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = choose("convolution")
    layer = Linear(6, 4)
    with torch.no_grad():
        layer(torch.randn(5, 6))
        layer.double()(torch.randn(1, 5, 6).double())
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        layer.float()(torch.randn(1, 5, 6))
    assert asked == []


def test_weights_are_packed_only_for_as_long_as_they_cannot_change(choose: Choose) -> None:
    if not has_form("packed", torch.float32):
        pytest.skip("this version of torch has no packed layer")
    choose("packed")
    x, weight, bias = torch.randn(2, 3, 8), torch.randn(5, 8), torch.randn(5)
    with torch.no_grad():
        for _ in range(2):
            with packing():
                for _ in range(2):
                    assert relative_error(linear(x, weight, bias), F.linear(x, weight, bias)) < 1e-5
            weight.data += 1
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize("forms", [("convolution", "products", "sigmoid"), ("packed", "fused", "tanh")])
def test_samples_are_the_same_in_any_form(choose: Choose, forms: tuple[str, ...]) -> None:
    if "packed" in forms and not has_form("packed", torch.float32):
        pytest.skip("this version of torch has no packed layer")
    system = random_system(DiT)
    options: dict[str, Any] = {"seeds": [0, 1, 2], "steps": 4, "guidance": 2.0}
    truth = tailprune.sample(system, {"labels": LABELS}, **options)
    asked = choose(*forms)
    made = tailprune.sample(system, {"labels": LABELS}, **options)
    assert {layer.kind for layer in asked} == {"linear", "attention", "GELU"}
    assert relative_error(made, truth) < 1e-4
    assert torch.equal(made, tailprune.sample(system, {"labels": LABELS}, **options))
    if forms[0] == "packed":
        system.blocks[0].mlp.fc1.weight.data *= 2  # type: ignore[index, union-attr, operator]
        assert relative_error(tailprune.sample(system, {"labels": LABELS}, **options), truth) > 1e-3


@pytest.mark.parametrize("kind", FORMS)
def test_forms_are_measured_on_the_shape_of_the_layer(kind: str) -> None:
    sizes = (16, 8, 12) if kind == "linear" else (2, 16, 4) if "attention" in kind else (16, 8)
    forms = kernels.forms_of(Layer(kind, sizes, torch.float32))
    assert list(forms.calls) == list(FORMS[kind])
    own = next(iter(forms.calls.values()))
    shape = {"linear": (16, 12), "GELU": (16, 8)}.get(kind, (2, 16, 4))
    assert own(forms.samples).shape == (forms.samples, *shape)
    assert torch.equal(own(2), next(iter(kernels.forms_of(Layer(kind, sizes, torch.float32)).calls.values()))(2))


def test_measuring_leaves_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    kernels.forms_of(Layer("linear", (3, 4, 5), torch.float32)).calls["linear"](2)
    assert torch.equal(state, torch.get_rng_state())


def test_a_restarted_process_makes_the_same_samples_byte_for_byte(
    run_python: Callable[[str], str], tmp_path: Path
) -> None:
    save_system(random_system(DiT), tmp_path / "model.safetensors")
    code = (
        "import hashlib, tailprune\n"
        "from tailprune.systems.choices import keep_in\n"
        f"keep_in({str(tmp_path / 'kernels')!r})\n"
        f"system = tailprune.load({str(tmp_path / 'model.safetensors')!r})\n"
        "made = tailprune.sample(system, {'labels': [1, 2, 3]}, seeds=[0, 1, 2], steps=4, guidance=2.0)\n"
        "print(hashlib.sha256(made.numpy().tobytes()).hexdigest())"
    )
    first = run_python(code)
    (file,) = (tmp_path / "kernels").glob("*.json")
    kept = file.read_bytes()
    assert run_python(code) == first
    assert file.read_bytes() == kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["convolution", "packed", "products", "sigmoid"])
@pytest.mark.parametrize("cls", [DiT, MDT])
def test_a_sample_has_the_same_bytes_alone_and_among_others_in_each_form_that_may_be_chosen(
    cls: type[System], form: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable: dict[Layer, bool] = {}

    def chosen(layer: Layer, names: Any, forms_of: Any) -> Choice:
        if layer not in usable:
            usable[layer] = form in names and form in MEASURED(forms_of(layer), layer.dtype)
        taken = form if usable[layer] else next(iter(names))
        return Choice(taken, {taken: 1.0}, samples=1)

    monkeypatch.setattr(kernels, "choice_of", chosen)
    system = random_system(cls, **({"depth": 4, "decode_layer": 2} if cls is MDT else {}))
    system.compute_in(dtype)
    options: dict[str, Any] = {"steps": 3, "guidance": 2.0}
    together = tailprune.sample(system, {"labels": LABELS.repeat(4)}, seeds=range(12), **options)
    alone = [
        tailprune.sample(system, {"labels": LABELS[seed % 3 : seed % 3 + 1]}, seeds=[seed], **options)
        for seed in range(3)
    ]
    if not any(usable.values()):
        pytest.skip(f"this CPU cannot have {form} in {dtype}")
    assert torch.equal(together[:3], torch.cat(alone))


# What a whole system has


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[[float], None]:
    """Has choices measured anew, with a time of all layers in bfloat16, where they take 1 ms in float32."""

    def taking(milliseconds: float) -> None:
        monkeypatch.setattr(
            choices,
            "measure",
            lambda forms, dtype: dict.fromkeys(forms.calls, milliseconds if dtype == torch.bfloat16 else 1.0),
        )
        choices.keep_in(tmp_path / f"{milliseconds}")

    return taking


@pytest.mark.parametrize("family", ["dit", "sit", "mdt", "lightningdit"])
def test_the_forms_of_a_systems_layers_are_named(family: str, taking: Callable[[float], None]) -> None:
    taking(2.0)
    system = random_system(
        tailprune.systems.SYSTEMS[family], **({"depth": 4, "decode_layer": 2} if family == "mdt" else {})
    )
    forms = forms_in_use(system)
    assert forms["linear 16 x 32 x 96, float32"] == "linear"
    kind = "attention with bias" if family == "mdt" else "attention"
    assert forms[f"{kind} 4 x 16 x 8, float32"] == "fused"
    system.compute_in(torch.bfloat16)
    assert forms_in_use(system).keys() == {name.replace("float32", "bfloat16") for name in forms}


def test_layers_are_counted_without_what_compiles(run_python: Callable[[str], str]) -> None:
    code = (
        "import sys, tailprune; from tailprune.systems.speed import forms_in_use; "
        "system = tailprune.load('models/shapes-sit'); assert forms_in_use(system); "
        "tailprune.sample(system, {'labels': [1]}, seeds=[0], steps=2); "
        "print({'sympy', 'torch._dynamo'} & set(sys.modules))"
    )
    assert run_python(code).strip() == "set()"


@pytest.mark.parametrize(("milliseconds", "speed", "faster"), [(0.5, 2.0, True), (0.97, 1.03, False), (4, 0.25, False)])
def test_bfloat16_is_faster_where_it_was_measured_clearly_faster(
    taking: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    milliseconds: float,
    speed: float,
    faster: bool,
) -> None:
    taking(milliseconds)
    monkeypatch.setattr(speeds, "has_bfloat16", lambda: True)
    system: System = random_system(DiT)
    for precision in (torch.float32, torch.bfloat16):
        system.compute_in(precision)
        assert bfloat16_speed(system) == pytest.approx(speed, rel=1e-2)
    assert faster_in_bfloat16(system) is faster


def test_a_cpu_without_bfloat16_is_not_measured_in_it(
    taking: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    taking(0.5)
    monkeypatch.setattr(speeds, "has_bfloat16", lambda: False)
    system = random_system(DiT)
    assert not faster_in_bfloat16(system)
    file = choices_file()
    assert file is not None
    assert not file.exists()


def test_nothing_is_said_of_a_compiled_network_or_where_nothing_is_kept(taking: Callable[[float], None]) -> None:
    system = random_system(DiT)
    assert (forms_in_use(system), bfloat16_speed(system)) == ({}, None)
    assert not faster_in_bfloat16(system)
    taking(0.5)
    system.compiled = system.forward_modulated
    assert (forms_in_use(system), bfloat16_speed(system)) == ({}, None)
