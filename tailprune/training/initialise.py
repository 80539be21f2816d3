"""How the shipped networks start out: as DiT does (arXiv 2212.09748, section 3.2), but for AdaLN's weights.

How large they start decides how the condition vectors grow. From DiT's zeros, a small network trained fast moves all
components of `c` together, far into the flat side of SiLU, where they stay: they look large and do nothing (nPR 0.54
after 3,000 steps of `shapes-sit`). From Xavier's, `c` stays small and spread out (nPR 0.38 there). From a deviation of
0.03 a few components grow and the rest stay near zero (0.21), as in the published models.
"""

from __future__ import annotations

from torch import nn

from tailprune.systems import DiT
from tailprune.systems.layers import sincos_positions

__all__ = ["initialise"]


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
