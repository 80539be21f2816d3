"""All that computes does so on the device of the system: beside one that mixes with no other, and on a GPU if any."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tailprune
from tailprune import Edit, ModulationMetric, Prune, shift_between
from tailprune.arguments import as_device
from tailprune.attribution import attribute_variance
from tailprune.decoders import load_decoder
from tailprune.learned_mask import learn_mask
from tailprune.systems import DiT, SiT, System
from tests.reference_models import BY_FEATURES, FAMILIES, case, write_reference_models
from tests.tailprune.conftest import random_system
from tests.tailprune.other_device import GPU, OTHER, MixedDevices, moved, other_device
from tests.tailprune.parity import given, relative_error

ROUNDING = 1e-3
LABELS = {"labels": torch.tensor([3, 0, 5])}
PRUNES: list[Prune | None] = [
    None,
    Prune("tail", 0.1),
    Prune("head", 0.3, "first"),
    Prune("tail", 0.05, of="read"),
    Prune.keep(12, by="variance", fill="mean"),
    Prune.keep(12, by="deviation", fill="mean"),
    Prune.keep_fraction(0.4, by="magnitude"),
    Prune.remove_fraction(0.4),
    Prune("tail", 0.1, blocks=[0]),
    Prune.components([1, 2, 3], fill="mean"),
]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    write_reference_models(folder)
    return folder


@pytest.fixture(params=[OTHER, GPU] if torch.cuda.is_available() else [OTHER], ids=str)
def there(request: pytest.FixtureRequest) -> torch.device:
    """The device besides the CPU."""
    device: torch.device = request.param
    return device


def both(system: System, there: torch.device) -> tuple[System, System]:
    """The system on the CPU, and the same on the other device."""
    other = copy.deepcopy(system)
    moved(other, there)
    return system, other


def inputs_of(system: System) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = getattr(system, "features", None)
    if features:
        return {name: torch.randn(3, *shape, generator=generator) for name, shape in features.items()}
    return LABELS | ({"scale": torch.full((3,), 2.0)} if system.takes_guidance else {})


def check_same(compute: Callable[[System], Any], system: System, there: torch.device) -> None:
    """The same numbers from both devices, as tensors of the device where they are tensors."""
    here, other = both(system, there)
    expected = compute(here)
    with other_device(there):
        found = compute(other)
        brought = [each.cpu() if isinstance(each, Tensor) else each for each in found]
    for ours, theirs in zip(brought, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert relative_error(ours, theirs) < ROUNDING
        else:
            assert ours == pytest.approx(theirs, rel=ROUNDING)


def test_the_other_device_refuses_tensors_of_the_cpu() -> None:
    with other_device(OTHER) as device:
        numbers = torch.arange(3.0, device=device)
        assert numbers.device == OTHER == as_device("elsewhere:0")
        assert (numbers + 1).tolist() == [1, 2, 3]
        with pytest.raises(MixedDevices, match="elsewhere:0 and of cpu"):
            numbers + torch.ones(3)
        with pytest.raises(MixedDevices):
            torch.cat([numbers, torch.ones(3)])
        assert torch.equal((numbers + torch.ones(3).to(device)).cpu(), torch.arange(1.0, 4.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_system_samples(family: str, references: Path, there: torch.device) -> None:
    system = tailprune.load(next(references.glob(f"{family}.*")), family=family, **given(case(family)))
    inputs = inputs_of(system)
    options: dict[str, Any] = {"steps": 2, "seeds": [0, 1, 2], "prune": [None, Prune("tail", 0.1, "first")]}
    if not system.takes_guidance:
        options["guidance"] = 2.0
    if family in BY_FEATURES:
        options["population"] = inputs
    check_same(lambda each: tailprune.sample(each, inputs, **options), system, there)


def test_every_rule(there: torch.device) -> None:
    check_same(
        lambda each: tailprune.sample(each, LABELS, prune=PRUNES, steps=3, seeds=[0, 1, 2], guidance=2.0),
        random_system(SiT),
        there,
    )


@pytest.mark.parametrize(
    ("cls", "sampler"),
    [(DiT, "ddim"), (DiT, "ddpm"), (DiT, "dpmpp"), (SiT, "euler"), (SiT, "heun"), (SiT, "sde"), (SiT, "dopri5")],
)
def test_every_sampler(cls: type[System], sampler: str, there: torch.device) -> None:
    options: dict[str, Any] = {"steps": 3, "seeds": [0, 1, 2], "sampler": sampler, "guidance": 2.0}
    options |= {"rtol": 0.05} if sampler == "dopri5" else {}  # few steps
    check_same(lambda each: [tailprune.sample(each, LABELS, **options)], random_system(cls), there)


def test_blocks_in_bfloat16(there: torch.device) -> None:
    system = random_system(SiT)
    system.compute_in(torch.bfloat16)
    here, other = both(system, there)
    options: dict[str, Any] = {"steps": 3, "seeds": [0, 1, 2], "guidance": 2.0}
    expected = tailprune.sample(here, LABELS, **options)
    with other_device(there):
        found = tailprune.sample(other, LABELS, **options).cpu()
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.05)  # attention is computed by other kernels


@pytest.mark.parametrize("cls", [DiT, SiT])
def test_statistics_removal_and_the_modulation_error(cls: type[System], there: torch.device) -> None:
    prunes = [Prune("tail", 0.1), Prune("head", 0.3), Prune.keep(12, by="deviation", fill="mean")]
    named = {"parity": ["even", "odd"] * 4, "size": ["small"] * 4 + ["large"] * 4}

    def compute(system: System) -> list[Any]:
        times = tailprune.sampling_times(system, steps=4)
        device = next(system.parameters()).device
        y, t = system.embed_inputs(system.all_inputs()), system.embed_time(times.flatten().to(device))
        said, over = tailprune.describe(y + t[0]), tailprune.describe_over_time(y, t, [0.1, 0.3])
        removed = [tailprune.measure_removal(system, LABELS, prune, times).fraction for prune in prunes]
        changes = tailprune.modulation_error(system, prunes, LABELS, steps=4)
        shares = attribute_variance((y + t[0])[:8], named, ModulationMetric(system))
        numbers = [said.npr, said.cosine.mean, said.norm, *changes, *removed]
        return [*numbers, said.variance, over.cosine_mean, over.npr, over.sparsity, shares.plain, shares.weighted]

    check_same(compute, random_system(cls), there)


@pytest.mark.parametrize(
    "how",
    [
        {"threshold": 0.1},
        {"keep": 12, "fill": "mean"},
        {"keep": 12, "fill": "refit"},
        {"keep": 6, "by": "directions"},
    ],
)
@pytest.mark.parametrize("cls", [DiT, SiT])
def test_compacted_systems(cls: type[System], how: dict[str, Any], there: torch.device) -> None:
    def compute(system: System) -> list[Any]:
        times = tailprune.sampling_times(system, steps=4)
        made = tailprune.compact(system, times=times, inputs=LABELS, **how)
        assert {tensor.device.type for tensor in made.system.state_dict().values()} == {
            tensor.device.type for tensor in system.state_dict().values()
        }
        return [tailprune.sample(made.system, LABELS, steps=4, seeds=[0, 1, 2], guidance=2.0)]

    check_same(compute, random_system(cls), there)


def test_edits_and_modulation_guidance(there: torch.device) -> None:
    def compute(system: System) -> list[Any]:
        shift = shift_between(system, {"labels": [3]}, {"labels": [7]})
        few = shift_between(system, {"labels": [3]}, {"labels": [7]}, components=5)
        ways = [Edit(shift, 0.5), Edit(few, 1.0, tailprune.Schedule("last", 2))]
        return tailprune.sample(system, LABELS, prune=ways, steps=4, seeds=[0, 1, 2], guidance=2.0)

    check_same(compute, random_system(SiT), there)


def test_a_learned_mask(there: torch.device) -> None:
    def compute(system: System) -> list[Any]:
        found = learn_mask(system, LABELS, 0.5, steps=3, iterations=3, batch_size=4)
        return [found.error, torch.tensor(found.losses)]

    check_same(compute, random_system(SiT), there)


@pytest.mark.parametrize("family", ["dit", "lightningdit", "mdsgen"])
def test_decoders(family: str, references: Path, there: torch.device) -> None:
    entry = tomllib.loads((references / "models.toml").read_text())["models"][family]
    statistics = entry.get("decoder_statistics")
    decode = load_decoder(
        entry["decoder"],
        references / entry["decoder_source"],
        statistics=None if statistics is None else references / statistics,
        scale=entry.get("decoder_scale"),
    )
    latents = torch.randn(2, *entry["latent_shape"], generator=torch.Generator().manual_seed(0))
    expected = decode(latents)
    with other_device(there) as device:
        for name, part in vars(decode).items():
            if isinstance(part, nn.Module):
                moved(part, device)
            elif isinstance(part, Tensor):
                setattr(decode, name, part.to(device))
        found = decode(latents.to(device))
    torch.testing.assert_close(found.images.int(), expected.images.int(), atol=1, rtol=0)
    assert (found.sounds is None) == (family != "mdsgen")
