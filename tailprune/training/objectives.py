"""The training objective of each family: a module with the system, what only training needs, and the loss.

x_1 data, x_0 noise, n standard normal, sigma the logistic function, c the condition; a tenth of the labels is dropped.

    flow matching     x_a = a x_1 + (1 - a) x_0,  |u(x_a, c) - (x_1 - x_0)|^2,  a = sigmoid(n)
                      (SiT, arXiv 2401.08740, LightningDiT; logit-normal times, arXiv 2403.03206)
    alignment         + 0.5 (1 - cos(projector(h), f)),  h a middle block's tokens, f an encoder's features of x_1
                      (REPA, arXiv 2410.06940)
    model guidance    u(x_a, c) against x_1 - x_0 + w sg(u(x_a, c) - u(x_a, null)),  sg without gradient, near the data
                      (MG, arXiv 2502.12154)
    noise             x_t = sqrt(a_t) x_1 + sqrt(1 - a_t) e,  v_t |e(x_t, c) - e|^2 + KL of the learned variance
                      (DiT, arXiv 2212.09748; arXiv 2102.09672, eq. 16)
    masked latents    the same, plus the same with some tokens hidden from the encoder (MDT, arXiv 2303.14389)

DiT and MDT weight all timesteps equally, v_t = 1, and train for millions of steps. Here an error of the noise is
weighted as the error of the velocity in flow matching that corresponds to it, v_t = (1 + sqrt((1 - a_t) / a_t))^2, up
to a limit: the class of an image is determined where v_t is large, so that thousands of steps are enough.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.sampling.solvers.gaussian import TRAINED_STEPS, trained_products
from tailprune.shapes.classifier import ShapesClassifier
from tailprune.systems import MDT, REPA, DiT, LightningDiT, SiT
from tailprune.systems.layers import unpatchify
from tailprune.systems.mdt import MaskedBlock, RelativePositionBias
from tailprune.training.initialise import relative_positions

__all__ = ["Alignment", "FlowMatching", "MaskedLatents", "ModelGuidance", "NoisePrediction", "Objective"]

LABEL_DROPOUT = 0.1


class Objective(nn.Module):
    """A system in training, and what only training needs."""

    system: Any

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch, a scalar.

        images: with shape (B, C, H, W), in [-1, 1]
        labels: with shape (B,), from 0 to the number of classes - 1
        generator: the source of all random numbers, on the CPU
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The device of the system."""
        return next(self.parameters()).device

    def dropped(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The labels, with a tenth of them replaced by the null condition's."""
        dropped = torch.rand(len(labels), generator=generator) < LABEL_DROPOUT
        return torch.where(dropped, self.system.num_classes, labels)


class FlowMatching(Objective):
    """The velocity of the linear path, in the system's own time."""

    def __init__(self, system: SiT | LightningDiT) -> None:
        super().__init__()
        self.system = system
        self._sign = 1.0 if system.facts.data_time > system.facts.noise_time else -1.0

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator)
        progress = torch.randn(len(images), generator=generator).sigmoid()
        labels = self.dropped(labels, generator)
        images, noise, progress, labels = (a.to(self.device) for a in (images, noise, progress, labels))
        w = progress.view(-1, 1, 1, 1)
        return self.velocity_loss(w * images + (1 - w) * noise, images - noise, progress, labels, images)

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The loss at points x_a of the path, a scalar.

        x: the points x_a, with shape (B, C, H, W)
        target: the velocity there, x_1 - x_0, with shape (B, C, H, W)
        progress: a of each point, 0 at noise and 1 at data, with shape (B,)
        labels: the labels, some replaced by the null condition's, with shape (B,)
        images: the data x_1, in [-1, 1], with shape (B, C, H, W)
        """
        return (self.velocity(x, progress, labels) - target).square().mean()

    def velocity(self, x: Tensor, progress: Tensor, labels: Tensor) -> Tensor:
        """The velocity u(x, a), towards the data -> (B, C, H, W)."""
        return self._sign * self.system(x, self.condition(progress, labels))

    def condition(self, progress: Tensor, labels: Tensor) -> Tensor:
        """The condition vectors at these points of the path -> (B, d)."""
        t = progress if self._sign > 0 else 1 - progress
        return self.system.condition(t, {"labels": labels})


class Alignment(FlowMatching):
    """Flow matching, with the tokens of a middle block aligned to the classifier's features of the clean image.

    system: the system to train
    classifier: the encoder, which is not trained
    depth: the block whose tokens are aligned, from 1, 2 by default
    width: the hidden width of the projector, 256 by default
    """

    WEIGHT = 0.5

    def __init__(self, system: REPA, classifier: ShapesClassifier, depth: int = 2, width: int = 256) -> None:
        super().__init__(system)
        self.depth = depth
        self.projector = nn.Sequential(
            nn.Linear(system.condition_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, classifier.feature_channels),
        )
        self._encoder = [classifier]  # in a list, so that it is not a submodule that is trained or averaged

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        system, c = self.system, self.condition(progress, labels)
        tokens = system.x_embedder(x) + system.pos_embed
        middle = tokens
        *modulations, last = system.modulations(c)
        for place, (block, modulation) in enumerate(zip(system.blocks, modulations, strict=True)):
            tokens = block(tokens, modulation)
            if place + 1 == self.depth:
                middle = tokens
        velocity = self._sign * unpatchify(system.final_layer(tokens, last), system.patch_size, system.grid)
        with torch.no_grad():
            features = self._encoder[0].feature_map(images, system.grid)  # (B, N, channels)
        alignment = 1 - F.cosine_similarity(self.projector(middle), features, dim=-1).mean()
        return (velocity - target).square().mean() + self.WEIGHT * alignment


class ModelGuidance(FlowMatching):
    """Flow matching towards the guided velocity, so that one evaluation per step samples as with guidance.

    At the optimum u(c) - u(null) is 1 / (1 - w) times that of an unguided network: the WEIGHT w corresponds to a
    guidance scale of 1 / (1 - w), and for w = 1 there is no optimum.
    """

    WEIGHT = 0.6
    HIGHEST_TIME = 0.75
    """The largest t, of 1 at noise, that is guided."""

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        null = torch.full_like(labels, self.system.num_classes)
        velocity = self.velocity(x, progress, labels)
        with torch.no_grad():
            difference = velocity - self.velocity(x, progress, null)  # 0 for a dropped label
        guided = (1 - progress) <= self.HIGHEST_TIME
        target = target + self.WEIGHT * guided.view(-1, 1, 1, 1) * difference
        return (velocity - target).square().mean()


class NoisePrediction(Objective):
    """The noise of a Gaussian diffusion and, in the further channels, its variance."""

    LARGEST_WEIGHT = 100.0
    FOCUS = 0.0
    """The share of timesteps drawn from the distribution of flow matching; the others are uniform."""

    def __init__(self, system: DiT | MDT) -> None:
        super().__init__()
        self.system = system
        product = trained_products()
        before = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
        beta = 1 - product / before
        posterior = beta * (1 - before) / (1 - product)
        posterior[0] = posterior[1]  # it is 0 at the last step, where the logarithm diverges
        self._tables = {
            "weight": (1 + ((1 - product) / product).sqrt()).square().clamp(max=self.LARGEST_WEIGHT).float(),
            "product": product.float(),
            "before": before.float(),
            "beta": beta.float(),
            "log_beta": beta.log().float(),
            "log_posterior": posterior.log().float(),
        }

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        x, c, truth = self.noised(images, labels, generator)
        return self.noise_loss(self.system(x, c), x, truth)

    def noised(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """x_t and c of a batch, and its known quantities: images, noise, and the schedule at t, each by name."""
        noise = torch.randn(images.shape, generator=generator)
        t = self.timesteps(len(images), generator)
        labels = self.dropped(labels, generator)
        truth = {name: table[t].view(-1, 1, 1, 1).to(self.device) for name, table in self._tables.items()}
        truth |= {"images": images.to(self.device), "noise": noise.to(self.device)}
        x = truth["product"].sqrt() * truth["images"] + (1 - truth["product"]).sqrt() * truth["noise"]
        c = self.system.condition(t.to(self.device).float(), {"labels": labels.to(self.device)})
        return x, c, truth

    def timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Random timesteps, int64, with shape (count,): logit-normal for a share FOCUS, else uniform."""
        t = torch.randint(TRAINED_STEPS, (count,), generator=generator)
        if not self.FOCUS:
            return t
        signal = torch.randn(count, generator=generator).sigmoid()
        product = signal.square() / (signal.square() + (1 - signal).square())
        nearest = (self._tables["product"] > product[:, None]).sum(1).clamp(max=TRAINED_STEPS - 1)
        return torch.where(torch.rand(count, generator=generator) < self.FOCUS, nearest, t)

    def noise_loss(self, out: Tensor, x: Tensor, at: dict[str, Tensor]) -> Tensor:
        """The weighted error of the noise plus the divergence of the learned variance, a scalar.

        out: the output of the network for x, with shape (B, 2 C, H, W)
        x: x_t, with shape (B, C, H, W)
        at: the known quantities of the batch, from `noised`

        The divergence has the published weight, 0.001 of the sum over 1,000 steps.
        """
        epsilon, v = out.chunk(2, dim=1)
        share = (v + 1) / 2
        log_variance = share * at["log_beta"] + (1 - share) * at["log_posterior"]
        clean = (x - (1 - at["product"]).sqrt() * epsilon.detach()) / at["product"].sqrt()
        # The difference of the posterior means, from the error of the estimated clean image.
        distance = at["before"].sqrt() * at["beta"] / (1 - at["product"]) * (at["images"] - clean)
        divergence = 0.5 * (
            log_variance
            - at["log_posterior"]
            - 1
            + (at["log_posterior"] - log_variance).exp()
            + distance.square() * (-log_variance).exp()
        )
        return (at["weight"] * (epsilon - at["noise"]).square()).mean() + divergence.mean()


class MaskedLatents(NoisePrediction):
    """Noise prediction twice: with all tokens, and with some hidden from the encoder.

    A learned token, through a side block, replaces each hidden one before the decoder (MDT, section 3.2).
    """

    HIDDEN = 0.3
    FOCUS = 0.5

    def __init__(self, system: MDT, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__(system)
        dim = system.condition_dim
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.side_block = MaskedBlock(dim, num_heads, round(dim * mlp_ratio), system.grid)
        for layer in self.side_block.modules():
            if isinstance(layer, RelativePositionBias):
                layer.relative_position_index.copy_(relative_positions(system.grid))

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        x, c, truth = self.noised(images, labels, generator)
        count, tokens = len(images), self.system.grid[0] * self.system.grid[1]
        order = torch.rand(count, tokens, generator=generator).argsort(1)
        visible = (order >= round(self.HIDDEN * tokens)).to(self.device)
        whole = self.noise_loss(self.system(x, c), x, truth)
        return whole + self.noise_loss(self.forward_hidden(x, c, visible), x, truth)

    def forward_hidden(self, x: Tensor, c: Tensor, visible: Tensor) -> Tensor:
        """The system's `forward` with the encoder restricted to `visible` tokens, bool, with shape (B, N)."""
        system = self.system
        embedded = system.x_embedder(x) + system.pos_embed  # (B, N, d)
        tokens, skips, modulations = embedded, [], iter(system.modulations(c))
        for block in system.en_inblocks:
            tokens = block(tokens, next(modulations), visible=visible)
            skips.append(tokens)
        for block in system.en_outblocks:
            tokens = block(tokens, next(modulations), skips.pop(), visible)
        seen = visible.unsqueeze(-1)
        side = self.side_block.adaLN_modulation(system.read(c))
        tokens = torch.where(seen, tokens, self.mask_token) + system.decoder_pos_embed
        tokens = torch.where(seen, tokens, self.side_block(tokens, side))
        for block in system.de_blocks:
            tokens = block(tokens, next(modulations), embedded)
        return unpatchify(system.final_layer(tokens, next(modulations)), system.patch_size, system.grid)
