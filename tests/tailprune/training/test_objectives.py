"""The losses that the recipes train with, against plain computations and the papers' claims."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from tailprune.systems import MDT, MG, DiT
from tailprune.systems.dit import DiTConfig
from tailprune.systems.layers import Attention
from tailprune.systems.mdt import MDTConfig
from tailprune.training.initialise import initialise
from tailprune.training.objectives import MaskedLatents, ModelGuidance, NoisePrediction

SMALL: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "num_classes": 5,
}
TIMES = [0, 1, 2, 300, 999]
"""Of the batches here: the ends, where a slip of one step shows, and the middle."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def started(system: DiT | MDT) -> None:
    """As a recipe does, but for what would hide mistakes: a final layer of zeros, gates near them."""
    torch.manual_seed(0)
    initialise(system)
    nn.init.normal_(system.final_layer.linear.weight, std=0.1)
    for name, part in system.named_parameters():
        if "adaLN_modulation" in name:
            nn.init.normal_(part, std=0.3)


@pytest.fixture
def noise_prediction() -> NoisePrediction:
    system = DiT(DiTConfig(**SMALL, depth=1))
    started(system)
    return NoisePrediction(system)


@pytest.fixture
def masked_latents() -> MaskedLatents:
    system = MDT(MDTConfig(**SMALL, depth=4, decode_layer=2))
    started(system)
    return MaskedLatents(system, SMALL["num_heads"])


def batch_at(objective: NoisePrediction, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """x_t, c and the truth of five images at the times above."""
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(TIMES))
    images = torch.randn(len(TIMES), 3, 8, 8, generator=seeded(1)).clamp(-1, 1)
    return objective.noised(images, torch.arange(len(TIMES)), seeded(2))


def naive_terms(out: Tensor, images: Tensor, noise: Tensor) -> tuple[list[float], list[float]]:
    """The two terms of the loss of each sample at the times above, in float64 (arXiv 2006.11239, eq. 6 and 7)."""
    betas = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    errors, divergences = [], []
    for row, t in enumerate(TIMES):
        a = math.prod(1 - beta for beta in betas[: t + 1])
        before = math.prod(1 - beta for beta in betas[:t])
        epsilon, v = out[row].double().chunk(2)
        clean, e = images[row].double(), noise[row].double()
        x = a**0.5 * clean + (1 - a) ** 0.5 * e
        weight = min((1 + ((1 - a) / a) ** 0.5) ** 2, 100)
        errors.append(weight * (epsilon - e).square().mean().item())

        def mean(x_0: Tensor, x: Tensor = x, a: float = a, before: float = before, beta: float = betas[t]) -> Tensor:
            return (before**0.5 * beta * x_0 + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - a)

        at, a_at, before_at = (t, a, before) if t else (1, math.prod(1 - b for b in betas[:2]), 1 - betas[0])
        posterior = betas[at] * (1 - before_at) / (1 - a_at)  # at t = 0 that of t = 1, as published
        share = (v + 1) / 2
        variance = (share * math.log(betas[t]) + (1 - share) * math.log(posterior)).exp()
        estimate = (x - (1 - a) ** 0.5 * epsilon) / a**0.5
        truth, learned = Normal(mean(clean), posterior**0.5), Normal(mean(estimate), variance.sqrt())
        divergences.append(kl_divergence(truth, learned).mean().item())
    return errors, divergences


def test_the_loss_of_noise_is_the_weighted_error_and_the_divergence_of_two_normals(
    noise_prediction: NoisePrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, c, truth = batch_at(noise_prediction, monkeypatch)
    out = noise_prediction.system(x, c).detach()
    assert out.std() > 0.1
    errors, divergences = naive_terms(out, truth["images"], truth["noise"])
    whole = (sum(errors) + sum(divergences)) / len(TIMES)
    # 1 - a_t of the first times is a difference in float32, right to 6e-4
    assert noise_prediction.noise_loss(out, x, truth).item() == pytest.approx(whole, rel=2e-3)
    for row, t in enumerate(TIMES):
        this = {name: value[row : row + 1] for name, value in truth.items()}
        without_error = this | {"weight": torch.zeros(1, 1, 1, 1)}
        divergence = noise_prediction.noise_loss(out[row : row + 1], x[row : row + 1], without_error).item()
        assert divergence == pytest.approx(divergences[row], rel=2e-3)
        both = noise_prediction.noise_loss(out[row : row + 1], x[row : row + 1], this).item()
        assert both - divergence == pytest.approx(errors[row], rel=2e-3), t


def test_what_is_noised_is_told_its_time_and_label(
    noise_prediction: NoisePrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, c, truth = batch_at(noise_prediction, monkeypatch)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = (1 - betas).cumprod(0)[TIMES].view(-1, 1, 1, 1)
    expected = a.sqrt() * truth["images"] + (1 - a).sqrt() * truth["noise"]
    torch.testing.assert_close(x.double(), expected, rtol=0, atol=1e-5)  # 1 - a_t, of the first times in float32
    assert x[-1].std().item() == pytest.approx(1, abs=0.2)
    system = noise_prediction.system
    for row, t in enumerate(TIMES):
        possible = [system.condition(torch.tensor([float(t)]), {"labels": torch.tensor([y])})[0] for y in (row, 5)]
        assert any(torch.allclose(c[row], said, atol=1e-6) for said in possible)


def test_the_divergence_does_not_teach_the_noise(
    noise_prediction: NoisePrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, c, truth = batch_at(noise_prediction, monkeypatch)
    out = noise_prediction.system(x, c).detach().requires_grad_()
    noise_prediction.noise_loss(out, x, truth).backward()
    assert out.grad is not None
    of_error = 2 * truth["weight"] * (out.detach()[:, :3] - truth["noise"]) / truth["noise"].numel()
    torch.testing.assert_close(out.grad[:, :3], of_error)
    assert out.grad[:, 3:].any()


def test_a_tenth_of_the_labels_are_dropped(noise_prediction: NoisePrediction) -> None:
    labels = torch.arange(5).repeat(2000)
    told = noise_prediction.dropped(labels, seeded(0))
    gone = told == 5
    assert torch.equal(told[~gone], labels[~gone])
    assert gone.double().mean().item() == pytest.approx(0.1, abs=0.01)  # three deviations of 10,000 throws


def hidden_tokens(count: int, *hidden: int) -> Tensor:
    visible = torch.ones(count, 16, dtype=torch.bool)
    visible[:, list(hidden)] = False
    return visible


@pytest.fixture
def masked_batch(masked_latents: MaskedLatents) -> tuple[Tensor, Tensor]:
    """x_t and c of two images."""
    images = torch.randn(2, 3, 8, 8, generator=seeded(3))
    x, c, _ = masked_latents.noised(images, torch.tensor([1, 2]), seeded(4))
    return x, c


class Heard:
    """What a layer was given and gave, the last time it ran."""

    def __init__(self, layer: nn.Module) -> None:
        self.given = self.gave = torch.empty(0)
        layer.register_forward_hook(self)

    def __call__(self, _: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
        self.given, self.gave = given[0], gave


def test_attention_to_what_is_visible_is_attention_without_the_rest() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2)
    x, visible = torch.randn(3, 9, 16), torch.ones(3, 9, dtype=torch.bool)
    visible[:, [0, 4, 5]] = False
    seen = attention(x, visible=visible)[:, visible[0]]
    torch.testing.assert_close(seen, attention(x[:, visible[0]]))
    assert not torch.allclose(seen, attention(x)[:, visible[0]], atol=1e-3)


def test_with_everything_visible_masked_training_is_the_systems_own_forward(
    masked_latents: MaskedLatents, masked_batch: tuple[Tensor, Tensor]
) -> None:
    out = masked_latents.system(*masked_batch)
    torch.testing.assert_close(masked_latents.forward_hidden(*masked_batch, hidden_tokens(2)), out)
    assert not torch.allclose(masked_latents.forward_hidden(*masked_batch, hidden_tokens(2, 6)), out, atol=1e-3)


def test_hidden_patches_do_not_reach_the_visible_in_the_encoder(
    masked_latents: MaskedLatents, masked_batch: tuple[Tensor, Tensor]
) -> None:
    encoded = Heard(masked_latents.system.en_outblocks[-1])
    (x, c), visible = masked_batch, hidden_tokens(2, 0, 6)
    masked_latents.forward_hidden(x, c, visible)
    before = encoded.gave
    perturbed = x.clone()
    perturbed[:, :, 2:4, 4:6] += 3  # token 6 of a grid of 4 x 4
    masked_latents.forward_hidden(perturbed, c, visible)
    assert torch.equal(encoded.gave[visible], before[visible])
    masked_latents.forward_hidden(perturbed, c, hidden_tokens(2, 0))
    assert not torch.allclose(encoded.gave[visible], before[visible], atol=1e-3)


def test_hidden_tokens_come_back_through_the_side_block_and_the_others_pass_it_by(
    masked_latents: MaskedLatents, masked_batch: tuple[Tensor, Tensor]
) -> None:
    system = masked_latents.system
    encoded, side, decoder = map(Heard, (system.en_outblocks[-1], masked_latents.side_block, system.de_blocks[0]))
    visible = hidden_tokens(2, 0, 6)
    masked_latents.forward_hidden(*masked_batch, visible)
    positions = system.decoder_pos_embed.expand(2, -1, -1)
    torch.testing.assert_close(decoder.given[visible], (encoded.gave + positions)[visible])
    torch.testing.assert_close(decoder.given[~visible], side.gave[~visible])
    torch.testing.assert_close(side.given[~visible], (masked_latents.mask_token + positions)[~visible])
    torch.testing.assert_close(side.given[visible], decoder.given[visible])


def test_the_side_block_knows_where_its_tokens_are(masked_latents: MaskedLatents) -> None:
    index = "attn.rel_pos_bias.relative_position_index"
    assert torch.equal(
        masked_latents.side_block.get_buffer(index), masked_latents.system.de_blocks[0].get_buffer(index)
    )


def test_three_tenths_of_the_tokens_of_each_image_are_hidden(
    masked_latents: MaskedLatents, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    forward = masked_latents.forward_hidden

    def watched(x: Tensor, c: Tensor, visible: Tensor) -> Tensor:
        seen.append(visible)
        return forward(x, c, visible)

    monkeypatch.setattr(masked_latents, "forward_hidden", watched)
    masked_latents.loss(torch.randn(64, 3, 8, 8), torch.zeros(64, dtype=torch.int64), seeded(0))
    (visible,) = seen
    assert ((~visible).sum(1) == 5).all()  # 0.3 * 16, rounded
    assert (~visible).sum(0).min() > 0  # each of the tokens in some image


def test_masked_training_teaches_every_part(masked_latents: MaskedLatents) -> None:
    masked_latents.loss(torch.randn(4, 3, 8, 8), torch.arange(4), seeded(0)).backward()
    idle = [name for name, part in masked_latents.named_parameters() if part.grad is None or not part.grad.any()]
    assert idle == []


class Table(MG):
    """A velocity a label, whatever the place and the time: linear in what is learned."""

    def __init__(self) -> None:
        super().__init__(DiTConfig(**SMALL, depth=1))
        self.velocities = nn.Parameter(torch.randn(6, 3, 1, 1))

    def condition(self, t: Tensor, inputs: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return inputs["labels"]

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return -self.velocities[c].expand_as(x)  # its time runs from noise to data backwards


@pytest.fixture
def guided() -> ModelGuidance:
    torch.manual_seed(0)
    return ModelGuidance(Table())


def loss_of(objective: ModelGuidance, progress: float, labels: Tensor, target: Tensor) -> Tensor:
    x = torch.zeros(len(labels), 3, 8, 8)
    return objective.velocity_loss(x, target, torch.full((len(labels),), progress), labels, x)


def test_the_optimum_of_guided_training_is_guided_by_one_over_one_less_the_weight(guided: ModelGuidance) -> None:
    labels = torch.arange(6)  # the last is the null one
    target = torch.randn(6, 3, 1, 1, generator=seeded(5)).expand(-1, -1, 8, 8)
    optimizer = torch.optim.SGD(guided.parameters(), lr=4.0)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(guided, 0.9, labels, target).backward()
        optimizer.step()
    learned = guided.system.velocities.detach()
    plain = target[:, :, :1, :1]
    torch.testing.assert_close(learned[5], plain[5])
    scale = 1 / (1 - guided.WEIGHT)
    torch.testing.assert_close(learned[:5] - learned[5], scale * (plain[:5] - plain[5]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("progress", "label", "weight"),
    [(0.26, 1, 0.6), (0.9, 1, 0.6), (0.24, 1, 0.0), (0.0, 1, 0.0), (0.9, 5, 0.0)],
    ids=["under the highest time", "near data", "over the highest time", "noise", "null label"],
)
def test_the_target_is_guided_near_the_data_and_of_a_label(
    guided: ModelGuidance, progress: float, label: int, weight: float
) -> None:
    labels, target = torch.tensor([label]), torch.randn(1, 3, 8, 8, generator=seeded(6))
    u, null = (guided.system.velocities.detach()[row].expand(3, 8, 8) for row in (label, 5))
    expected = (u - (target[0] + weight * (u - null))).square().mean()
    torch.testing.assert_close(loss_of(guided, progress, labels, target), expected)


def test_guided_training_learns_through_the_label_alone(guided: ModelGuidance) -> None:
    target = torch.randn(1, 3, 8, 8, generator=seeded(7))
    loss_of(guided, 0.9, torch.tensor([1]), target).backward()
    velocities = guided.system.velocities
    assert velocities.grad is not None
    u, null = velocities.detach()[1], velocities.detach()[5]
    error = (u - target[0] - 0.6 * (u - null)).mean((1, 2))
    torch.testing.assert_close(velocities.grad[1].flatten(), 2 * error / 3)  # the mean is over three channels too
    assert not velocities.grad[[0, 2, 3, 4, 5]].any()


def test_timesteps_are_drawn_alike_or_in_part_where_flow_matching_draws_them() -> None:
    generator = torch.Generator().manual_seed(0)
    even = NoisePrediction(DiT(DiTConfig(**SMALL, depth=1))).timesteps(20_000, generator)
    focused = MaskedLatents(MDT(MDTConfig(**SMALL, depth=4, decode_layer=2)), 2).timesteps(20_000, generator)
    assert {int(even.min()), int(focused.min())} == {0}
    assert {int(even.max()), int(focused.max())} == {999}
    counts = torch.histc(even.float(), bins=10, min=0, max=1000)
    assert (counts / 2000 - 1).abs().max() < 0.1
    # the median of a logit-normal time is one half, where signal and noise are alike: a_t = 1/2, at t = 259
    late = (focused > 259).double().mean().item()
    assert late == pytest.approx(0.5 * 0.5 + 0.5 * 0.74, abs=0.02)
