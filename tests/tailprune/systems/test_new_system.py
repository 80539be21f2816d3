"""A new system is a file with its class, its facts, and an entry in `SYSTEMS`: here a toy, for one test each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import tailprune
from tailprune import Prune
from tailprune.checkpoints.load import CheckpointError
from tailprune.spec.families import FAMILIES, Family
from tailprune.systems import SYSTEMS, System, base
from tailprune.systems.base import Modulations
from tailprune.systems.dit import LabelConfig, LabelTransformer
from tailprune.systems.infer import Shapes, block_count, dimensions, patches_of
from tailprune.systems.layers import AdaLN, FinalLayer, Linear, Modulated, modulate

FACTS = Family(
    prediction="velocity",
    samplers=("heun", "euler"),
    default_sampler="euler",
    noise_time=1.0,
    data_time=0.0,
    published={"sampler": "heun", "steps": 10, "guidance_scale": 2.0, "guided_channels": 2},
)
LABELS = torch.tensor([3, 0])


@dataclass(frozen=True, kw_only=True)
class ToyConfig(LabelConfig):
    """A toy; every block runs `rounds` times, which no tensor shows."""

    rounds: int = 1

    metadata_fields: ClassVar[Mapping[str, type[int] | type[float]]] = {"rounds": int}
    published_sizes: ClassVar[Mapping[tuple[int, int], str]] = {(2, 24): "toy"}


class ToyBlock(Modulated):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.mix = Linear(d, d)
        self.adaLN_modulation = AdaLN(d, d, 2, scales=(1,))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.unsqueeze(2).unbind(1)
        return x + self.mix(modulate(x, shift, scale)).tanh()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[System]:
    """A system that is registered until the test is over."""
    monkeypatch.setattr(base, "FAMILIES", {**FAMILIES, "toy": FACTS})

    class Toy(LabelTransformer):
        family = "toy"
        config_class = ToyConfig
        config: ToyConfig

        def __init__(self, config: ToyConfig) -> None:
            super().__init__(config)
            self.blocks = nn.ModuleList(ToyBlock(config.hidden_size) for _ in range(config.depth))
            self.final_layer = FinalLayer(config.hidden_size, config.patch_size, config.out_channels)

        @property
        def all_blocks(self) -> Sequence[Modulated]:
            return list(self.blocks)  # type: ignore[arg-type]

        def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
            tokens = self.embed_patches(x)
            for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
                for _ in range(self.config.rounds):
                    tokens = block(tokens, modulation)
            return self.to_latents(self.final_layer(tokens, modulations[-1]))

        @classmethod
        def infer_configuration(cls, shapes: Shapes, **given: Any) -> ToyConfig:
            dimensions(shapes, "blocks.0.mix.weight", 2)
            rows, _ = dimensions(shapes, "y_embedder.embedding_table.weight", 2)
            return ToyConfig(
                **patches_of(shapes), depth=block_count(shapes), num_heads=1, num_classes=rows - 1, learn_sigma=False,
                rounds=given.get("rounds", 1),
            )  # fmt: skip

    monkeypatch.setitem(SYSTEMS, "toy", Toy)
    return Toy


def random_toy(cls: type[System]) -> System:
    torch.manual_seed(0)
    config = ToyConfig(
        input_size=8, patch_size=2, in_channels=3, hidden_size=24, depth=2, num_heads=1, num_classes=5,
        learn_sigma=False, rounds=3,
    )  # fmt: skip
    system = cls(config)
    for tensor in system.state_dict().values():
        nn.init.normal_(tensor, std=0.3)
    return system.requires_grad_(False).eval()


def test_a_new_system_is_recognised_by_its_tensors(toy: type[System], tmp_path: Path) -> None:
    torch.save({"ema": random_toy(toy).state_dict()}, tmp_path / "last.pt")
    found = tailprune.inspect(tmp_path / "last.pt")
    assert (found.family, found.size, found.also_fits) == ("toy", "toy/2", ())
    assert found.latent_shape == (3, 8, 8)
    assert "rounds" not in found.configuration
    assert tailprune.inspect(tmp_path / "last.pt", rounds=2).configuration["rounds"] == 2


def test_a_new_system_is_saved_and_loaded_with_what_its_tensors_do_not_show(toy: type[System], tmp_path: Path) -> None:
    system = random_toy(toy)
    tailprune.save_system(system, tmp_path / "toy.safetensors")
    loaded, condition = (read(tmp_path / "toy.safetensors") for read in (tailprune.load, tailprune.load_condition))
    assert isinstance(loaded, toy)
    assert tailprune.inspect(tmp_path / "toy.safetensors").configuration["rounds"] == 3
    t, x = torch.tensor([0.7, 0.2]), torch.randn(2, 3, 8, 8)
    c = system.condition(t, {"labels": LABELS})
    assert torch.equal(condition.condition(t, {"labels": LABELS}), c)
    assert torch.equal(loaded(x, c), system(x, c))


def test_a_new_system_is_sampled_as_its_facts_say(toy: type[System]) -> None:
    system, asked = random_toy(toy), {"steps": 3, "seeds": [0, 1], "guidance": 2.0}
    prunes = [None, Prune("tail", 0.3)]
    made = tailprune.sample(system, {"labels": LABELS}, prune=prunes, **asked)
    named = tailprune.sample(system, {"labels": LABELS}, prune=prunes, sampler="euler", **asked)
    assert all(torch.equal(one, other) for one, other in zip(made, named, strict=True))
    assert not torch.equal(made[0], made[1])
    with pytest.raises(ValueError, match="toy has no sampler 'ddim': give one of heun, euler"):
        tailprune.sample(system, {"labels": LABELS}, sampler="ddim", **asked)


def test_a_new_system_is_among_those_that_an_unknown_file_is_not(toy: type[System], tmp_path: Path) -> None:
    state = random_toy(toy).state_dict()
    del state["blocks.1.mix.bias"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"mdsgen, toy; the nearest is toy, but blocks.1.mix.bias is missing"):
        tailprune.load(tmp_path / "cut.pt")
