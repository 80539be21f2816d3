"""Components that predict the others: a column subset, chosen greedily, then improved by swaps.

    s_rest = mean_rest + B (s_kept - mean_kept) + rest of the error,    B = S[rest, kept] S[kept, kept]^-1

by least squares over vectors s with covariance S. The error of a choice is E e'Me = tr(M R), with the residual
covariance R = S - S[:, kept] S[kept, kept]^-1 S[kept, :]. Choosing a component j as well lowers it by R_j'MR_j / R_jj.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best_predictors", "coefficients"]

CUTOFF = 1e-7
"""The share of the variance below which a component counts as predicted by the others, and a direction of those that
are kept as no help to predict: what is left would be multiplied by thousands, and its errors too."""
LEAST_GAIN = 1e-6
"""The least decrease of the error, relative, for which a component is swapped."""
SWEEPS = 5
"""How often each kept component may be swapped."""


def coefficients(covariance: Tensor, kept: Tensor, rest: Tensor) -> Tensor:
    """B, the coefficients of the prediction of `rest` from `kept` -> (d - k, k).

    covariance: S, with shape (d, d), float64
    kept, rest: indices of components, with shape (k,) and (d - k,)
    """
    inverse = torch.linalg.pinv(covariance[kept][:, kept], hermitian=True, rtol=CUTOFF)
    return covariance[rest][:, kept] @ inverse


def best_predictors(covariance: Tensor, metric: Tensor, count: int) -> Tensor:
    """`count` components from which the others are predicted with little error, in ascending order -> (count,).

    The best choice is hard to find; this one is where no swap of a kept component for another lowers the error, or
    close to it.

    covariance: S, with shape (d, d), float64
    metric: M, which weighs errors, with the same shape
    count: k, from 1 to d
    """
    choice = _Choice(covariance, metric)
    while len(choice.kept) < count:
        found, gain = choice.best()
        if gain <= 0:  # all are predicted: any others do
            taken = set(choice.kept)
            others = (component for component in range(len(covariance)) if component not in taken)
            choice.kept += [component for component, _ in zip(others, range(count - len(taken)), strict=False)]
            return torch.tensor(sorted(choice.kept), device=covariance.device)
        choice.add(found)
    for _ in range(SWEEPS):
        if not sum(choice.swap(component) for component in list(choice.kept)):
            break
    return torch.tensor(sorted(choice.kept), device=covariance.device)


class _Choice:
    """Kept components, the residual covariance R of all, and M R."""

    def __init__(self, covariance: Tensor, metric: Tensor) -> None:
        self.kept: list[int] = []
        self._covariance, self._metric = covariance, metric
        self._residual, self._weighted = covariance.clone(), metric @ covariance
        self._least = CUTOFF * covariance.diagonal()

    def best(self) -> tuple[int, float]:
        """The component that lowers the error most, and by how much; 0 or less if none does."""
        variances = self._residual.diagonal()
        gains = (self._residual * self._weighted).sum(0) / variances
        gains[variances <= self._least] = -1.0
        gains[self.kept] = -1.0
        place = int(gains.argmax())
        return place, gains[place].item()

    def add(self, component: int) -> None:
        """Keep one more component."""
        self._change(self._residual[:, component].clone(), -1 / self._residual[component, component].item())
        self.kept.append(component)

    def swap(self, component: int) -> bool:
        """Replace a kept component by the best other one; False, and no change, if that is no gain."""
        place, before = self.kept.index(component), self._error
        inverse = torch.linalg.inv(self._covariance[self.kept][:, self.kept])
        # Without it, what the others do not predict of it is left in the residual, of all components that it predicts.
        share = self._covariance[:, self.kept] @ inverse[:, place]
        self._change(share, 1 / inverse[place, place].item())
        self.kept.remove(component)
        found, gain = self.best()
        swapped = found != component and self._error - gain < before * (1 - LEAST_GAIN)
        self.add(found if swapped else component)
        return swapped

    @property
    def _error(self) -> float:
        return self._weighted.diagonal().sum().item()

    def _change(self, vector: Tensor, factor: float) -> None:
        """Add factor * vector vector^T to the residual."""
        scaled = factor * vector
        self._residual.addr_(vector, scaled)
        self._weighted.addr_(self._metric @ vector, scaled)
