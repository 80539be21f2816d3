"""How the shipped networks start out: as DiT does (arXiv 2212.09748, section 3.2), but for AdaLN's weights.

How large they start decides how the condition vectors grow. From DiT's zeros, a small network trained fast moves all
components of `c` together, far into the flat side of SiLU, where they stay: they look large and do nothing (nPR 0.54
after 3,000 steps of `shapes-sit`). From Xavier's, `c` stays small and spread out (nPR 0.38 there). From a deviation of
0.03 a few components grow and the rest stay near zero (0.21), as in the published models.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tailprune.systems.dit import DiT

__all__ = ["initialise", "sincos_positions"]


def sincos_positions(dim: int, side: int) -> Tensor:
    """Fixed 2-D positions -> (1, side * side, dim): the first half of a row from its column, the rest from its row."""
    frequencies = 1 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim / 2)
    columns = axis[None, :, :].expand(side, side, -1)
    rows = axis[:, None, :].expand(side, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side * side, dim).float()


def initialise(system: DiT) -> None:
    """Sets the weights of a new network in place, from torch's global generator."""
    for name, layer in system.named_modules():
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
    system.pos_embed.copy_(sincos_positions(system.condition_dim, system.grid[0]))
