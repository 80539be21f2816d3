"""The initial weights of the shipped networks: those of DiT (arXiv 2212.09748, section 3.2), except for AdaLN.

The initial scale of AdaLN's weights determines how the condition vectors grow. From DiT's zeros, a small network with a
high learning rate moves all components of `c` together, far into the flat side of SiLU, where they stay: they are large
and have no effect (nPR 0.54 after 3,000 steps of `shapes-sit`). From Xavier initialisation, `c` stays small and spread
out (nPR 0.38). From a standard deviation of 0.03, a few components grow and the rest stay near zero (nPR 0.21), as in
the published models.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tailprune.systems import MDT, DiT, LightningDiT
from tailprune.systems.layers import sincos_positions
from tailprune.systems.lightningdit import Rotary
from tailprune.systems.mdt import RelativePositionBias

__all__ = ["initialise", "relative_positions", "rotary_angles"]


def initialise(system: DiT | MDT | LightningDiT) -> None:
    """Set the weights and the fixed positions of a new network in place, from torch's global generator."""
    side = system.grid[0]
    for name, layer in system.named_modules():
        if isinstance(layer, Rotary):
            angles = rotary_angles(side, layer.freqs_cos.shape[1])
            layer.freqs_cos.copy_(angles.cos())
            layer.freqs_sin.copy_(angles.sin())
        if isinstance(layer, RelativePositionBias):
            nn.init.normal_(layer.relative_position_bias_table, std=0.02)
            layer.relative_position_index.copy_(relative_positions(system.grid))
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        if name.startswith("t_embedder"):
            nn.init.normal_(layer.weight, std=0.02)
        elif "adaLN_modulation" in name:
            nn.init.normal_(layer.weight, std=0.03)
        else:
            nn.init.xavier_uniform_(layer.weight.view(layer.weight.shape[0], -1))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(system.y_embedder.embedding_table.weight, std=0.02)
    nn.init.zeros_(system.final_layer.linear.weight)
    system.pos_embed.copy_(sincos_positions(system.condition_dim, side))
    if isinstance(system, MDT):
        system.decoder_pos_embed.copy_(sincos_positions(system.condition_dim, side))


def rotary_angles(side: int, head_dim: int, base: float = 10000.0) -> Tensor:
    """The angles of rotary positions on a square grid -> (side * side, head_dim).

    The first half of a head is rotated by rows, the second by columns; the components of a pair have the same angle.
    """
    quarter = head_dim // 4
    frequencies = base ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    axis = (torch.arange(side, dtype=torch.float64)[:, None] * frequencies).repeat_interleave(2, dim=1)
    rows = axis[:, None, :].expand(side, side, -1)
    columns = axis[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).float()


def relative_positions(grid: tuple[int, int]) -> Tensor:
    """The row of the bias table for each pair of patches -> int64, (N, N) (BEiT, arXiv 2106.08254)."""
    h, w = grid
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None, :] + h - 1
    across = columns.flatten()[:, None] - columns.flatten()[None, :] + w - 1
    return down * (2 * w - 1) + across
