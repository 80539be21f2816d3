"""Which components and directions of the condition carry which attribute of the classes.

    y_n = mean + sum over attributes a of effect_a(value of n) + rest_n

effect_a is the mean of the classes with one value of a, less the mean of all; the rest is the interaction of the
attributes (with one attribute, the variance within its values). For attributes that cross the parts are orthogonal, so
that their variances add up to the whole: an analysis of variance (R. A. Fisher, 1925) of every component at once.
Weighted variances are those of the modulations, E y'My, with M as in `tailprune.modulation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailprune.arguments import as_tensor
from tailprune.directions import PrincipalDirections
from tailprune.modulation import ModulationMetric
from tailprune.spec import InputError
from tailprune.spec.attributes import check_attributes, rest_of
from tailprune.spec.display import Shown

__all__ = ["Attribution", "attribute_variance"]


@dataclass(frozen=True, repr=False)
class Attribution(Shown):
    """The variance of class vectors by attribute: F parts, the attributes and then the rest."""

    parts: tuple[str, ...]
    """The names of the parts: of the attributes, then `interaction`, or `within` of a single one."""
    plain: Tensor
    """The share of each part in the variance of the vectors, with shape (F,)."""
    weighted: Tensor
    """The share of each in the variance of the modulations, with shape (F,)."""
    components: Tensor = field(repr=False)
    """The variance of each component by part, with shape (d, F)."""
    norms: Tensor = field(repr=False)
    """|W_i|, the size of the modulations that each component makes, with shape (d,)."""
    directions: Tensor = field(repr=False)
    """The variance along each principal direction by part, with shape (r, F)."""


def attribute_variance(
    vectors: Tensor, attributes: Mapping[str, Sequence[str]], metric: ModulationMetric
) -> Attribution:
    """Divide the variance of class vectors among attributes.

    vectors: the vectors of N classes, with shape (N, d), such as `class_vectors` returns
    attributes: the value of every class, by attribute, such as `attributes_of_names` makes of their names
    metric: that of the system, as `metric_of` makes it

    Raises InputError for attributes that do not cross (`tailprune.spec.attributes.check_attributes`), or vectors of
    another shape.
    """
    vectors = as_tensor("vectors", vectors)
    if vectors.ndim != 2:
        raise InputError(f"vectors must have shape (N, d), not {tuple(vectors.shape)}")
    check_attributes(attributes, len(vectors))
    found = PrincipalDirections.of(vectors, metric)
    centred = vectors.double() - vectors.double().mean(0)
    effects = _effects(centred, attributes)
    plain = torch.stack([part.square().mean(0) for part in effects], dim=-1)  # (d, F)
    weighted = torch.stack([(part * metric.weighted(part)).sum() for part in effects])  # (F,)
    along = torch.stack([part.square().mean(0) for part in _effects(found.coordinates, attributes)], dim=-1)
    return Attribution(
        parts=(*attributes, rest_of(len(attributes))),
        plain=plain.sum(0) / plain.sum(),
        weighted=weighted / weighted.sum(),
        components=plain,
        norms=metric.norms,
        directions=along,
    )


def _effects(centred: Tensor, attributes: Mapping[str, Sequence[str]]) -> list[Tensor]:
    """The effects of each attribute, and the rest. centred: with mean 0, with shape (N, d) -> (N, d) each."""
    parts = []
    rest = centred
    for values in attributes.values():
        effect = torch.zeros_like(centred)
        for value in dict.fromkeys(values):
            members = torch.tensor([each == value for each in values], device=centred.device)
            effect[members] = centred[members].mean(0)
        parts.append(effect)
        rest = rest - effect
    return [*parts, rest]
