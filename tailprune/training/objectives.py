"""What each family is trained on: the loss of a batch, as a module that holds the system and what only training needs.

x_1 data, x_0 noise, n standard normal, sigma the logistic function, c the condition; a tenth of the labels are dropped.

    flow matching     x_a = a x_1 + (1 - a) x_0,  |u(x_a, c) - (x_1 - x_0)|^2,  a = sigmoid(n)
                      (SiT, arXiv 2401.08740, LightningDiT; logit-normal times, arXiv 2403.03206)
    alignment         + 0.5 (1 - cos(projector(h), f)),  h a middle block's tokens, f an encoder's features of x_1
                      (REPA, arXiv 2410.06940)
    model guidance    u(x_a, c) against x_1 - x_0 + w sg(u(x_a, c) - u(x_a, null)),  sg without gradient, near the data
                      (MG, arXiv 2502.12154)
    noise             x_t = sqrt(a_t) x_1 + sqrt(1 - a_t) e,  v_t |e(x_t, c) - e|^2 + KL of the learned variance
                      (DiT, arXiv 2212.09748; arXiv 2102.09672, eq. 16)
    masked latents    the same, and once more with a part of the tokens hidden from the encoder (MDT, arXiv 2303.14389)

DiT and MDT weigh all timesteps alike, v_t = 1, and train for millions of steps. Here an error of the noise counts as
the error of the velocity that flow matching would make of it, v_t = (1 + sqrt((1 - a_t) / a_t))^2, up to a limit: what
class a picture has is decided where v_t is large, and thousands of steps are enough.
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
    """A system under training, and what only its training needs."""

    system: Any

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch, a scalar.

        images: shape (B, C, H, W), in [-1, 1]
        labels: shape (B,), whole numbers from 0 below the number of classes
        generator: where everything random comes from, on the CPU
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the system is."""
        return next(self.parameters()).device

    def dropped(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Labels, a tenth of them the null condition's."""
        gone = torch.rand(len(labels), generator=generator) < LABEL_DROPOUT
        return torch.where(gone, self.system.num_classes, labels)


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
        """The loss at these places of the path, a scalar.

        x: what the network sees, (B, C, H, W)
        target: the velocity there, x_1 - x_0, (B, C, H, W)
        progress: the places, 0 at noise and 1 at data, (B,)
        labels: the null condition's where they were dropped, (B,)
        images: the data x_1, in [-1, 1], (B, C, H, W)
        """
        return (self.velocity(x, progress, labels) - target).square().mean()

    def velocity(self, x: Tensor, progress: Tensor, labels: Tensor) -> Tensor:
        """Towards the data -> (B, C, H, W)."""
        return self._sign * self.system(x, self.condition(progress, labels))

    def condition(self, progress: Tensor, labels: Tensor) -> Tensor:
        """c at these places of the path -> (B, d)."""
        t = progress if self._sign > 0 else 1 - progress
        return self.system.condition(t, {"labels": labels})


class Alignment(FlowMatching):
    """Flow matching, with the tokens of a middle block aligned to the classifier's features of the clean image.

    system: what is trained
    classifier: the encoder, which stays as it is
    depth: how many blocks the aligned tokens have passed, from 1
    width: hidden components of the projector
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
        self._encoder = [classifier]  # in a list: not a part that is trained or averaged

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
    """Flow matching towards what guidance would give, so that one evaluation samples as guided.

    At the optimum u(c) - u(null) is 1 / (1 - w) of what it is in a network that was not guided: WEIGHT w stands for a
    scale of guidance of 1 / (1 - w), and at w = 1 there is no optimum.
    """

    WEIGHT = 0.6
    HIGHEST_TIME = 0.75
    """t = 1 is noise: nearer to it there is nothing to guide by."""

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        null = torch.full_like(labels, self.system.num_classes)
        velocity = self.velocity(x, progress, labels)
        with torch.no_grad():
            difference = velocity - self.velocity(x, progress, null)  # nothing where the label was dropped
        guided = (1 - progress) <= self.HIGHEST_TIME
        target = target + self.WEIGHT * guided.view(-1, 1, 1, 1) * difference
        return (velocity - target).square().mean()


class NoisePrediction(Objective):
    """The noise of a Gaussian diffusion and, in the further channels, its variance."""

    LARGEST_WEIGHT = 100.0
    FOCUS = 0.0
    """The share of timesteps that are drawn where flow matching would draw them; the others are all alike."""

    def __init__(self, system: DiT | MDT) -> None:
        super().__init__()
        self.system = system
        product = trained_products()
        before = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
        beta = 1 - product / before
        posterior = beta * (1 - before) / (1 - product)
        posterior[0] = posterior[1]  # it is 0 at the last step, and has no logarithm
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
        """x_t and c of a batch, and what is known of it: the images, the noise, the quantities at t."""
        noise = torch.randn(images.shape, generator=generator)
        t = self.timesteps(len(images), generator)
        labels = self.dropped(labels, generator)
        truth = {name: table[t].view(-1, 1, 1, 1).to(self.device) for name, table in self._tables.items()}
        truth |= {"images": images.to(self.device), "noise": noise.to(self.device)}
        x = truth["product"].sqrt() * truth["images"] + (1 - truth["product"]).sqrt() * truth["noise"]
        c = self.system.condition(t.to(self.device).float(), {"labels": labels.to(self.device)})
        return x, c, truth

    def timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """int64, with shape (count,): evenly drawn but for FOCUS of them, whose a_t is that of a logit-normal time."""
        t = torch.randint(TRAINED_STEPS, (count,), generator=generator)
        if not self.FOCUS:
            return t
        signal = torch.randn(count, generator=generator).sigmoid()
        product = signal.square() / (signal.square() + (1 - signal).square())
        nearest = (self._tables["product"] > product[:, None]).sum(1).clamp(max=TRAINED_STEPS - 1)
        return torch.where(torch.rand(count, generator=generator) < self.FOCUS, nearest, t)

    def noise_loss(self, out: Tensor, x: Tensor, at: dict[str, Tensor]) -> Tensor:
        """Of the network's output for x: the weighted error of the noise, and the divergence of the learned variance.

        The divergence is weighted by 0.001 a step, over 1,000 steps.
        """
        epsilon, v = out.chunk(2, dim=1)
        share = (v + 1) / 2
        log_variance = share * at["log_beta"] + (1 - share) * at["log_posterior"]
        clean = (x - (1 - at["product"]).sqrt() * epsilon.detach()) / at["product"].sqrt()
        # The means of the posterior differ by what the estimate of the clean image is wrong.
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
    """Noise prediction twice: of the whole image, and with a part of its tokens hidden from the encoder.

    What is hidden comes back as a learned token, through a side block, before the decoder (MDT, section 3.2).
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
        """As the system's own forward, with the tokens that are not `visible`, bool, (B, N), kept from the encoder."""
        system = self.system
        embedded = system.x_embedder(x) + system.pos_embed  # (B, N, d)
        tokens, left, modulations = embedded, [], iter(system.modulations(c))
        for block in system.en_inblocks:
            tokens = block(tokens, next(modulations), visible=visible)
            left.append(tokens)
        for block in system.en_outblocks:
            tokens = block(tokens, next(modulations), left.pop(), visible)
        seen = visible.unsqueeze(-1)
        side = self.side_block.adaLN_modulation(system.read(c))
        tokens = torch.where(seen, tokens, self.mask_token) + system.decoder_pos_embed
        tokens = torch.where(seen, tokens, self.side_block(tokens, side))
        for block in system.de_blocks:
            tokens = block(tokens, next(modulations), embedded)
        return unpatchify(system.final_layer(tokens, next(modulations)), system.patch_size, system.grid)
