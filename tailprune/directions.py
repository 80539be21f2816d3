"""Principal directions of the classes as the modulations see them, and shifts from one class towards another.

    G = Y M Y',  G v_j = lambda_j v_j,  d_j = v_j' Y / sqrt(lambda_j)

The rows of Y are the condition vectors of the classes less their mean, and s'Ms is the squared size of all shifts,
scales and gates that s makes (`tailprune.modulation`), as if SiLU changed nothing of the difference of two vectors. So
the d_j are orthonormal in M, and the classes vary most along the first of them. No root of M is needed, and a system
whose blocks have their own conditions has directions too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.arguments import as_whole, of_kind
from tailprune.condition_table import class_inputs
from tailprune.edit import Shift
from tailprune.modulation import ModulationMetric
from tailprune.spec import InputError
from tailprune.spec.edit import check_moved
from tailprune.systems.base import Condition, InputsLike, System

__all__ = ["PrincipalDirections", "class_vectors", "metric_of", "shift_between"]

LEAST_VARIANCE = 1e-6
"""Directions along which the classes vary less than this, relative to the first, are rounding."""


def class_vectors(condition: Condition, population: InputsLike | None = None) -> Tensor:
    """The input part y of the condition vectors of all classes, in order of their labels -> (N, d).

    condition: a condition, or a whole system
    population: inputs in place of the classes; required if the system has none
    """
    return condition.embed_inputs(class_inputs(condition, None) if population is None else population)


def metric_of(system: System) -> ModulationMetric:
    """The metric M of a system. Raises InputError for a compacted one, whose AdaLN does not read components."""
    of_kind(System, "system", system, "a system, such as tailprune.load('models/shapes-sit')")
    if system.reader is not None:
        raise InputError(
            "AdaLN of a compacted system does not read the components of c, so there are no weights to choose among "
            "them by: take the whole system, or move all of them"
        )
    return ModulationMetric(system)


@dataclass(frozen=True)
class PrincipalDirections:
    """The directions along which the classes vary, the first the most."""

    vectors: Tensor
    """d_j, with shape (r, d), orthonormal in M, float64."""
    variances: Tensor
    """lambda_j / N, the variance of the classes along each, with shape (r,)."""
    coordinates: Tensor
    """The coordinates of each class, with mean 0, with shape (N, r)."""
    metric: ModulationMetric

    @classmethod
    def of(cls, vectors: Tensor, metric: ModulationMetric) -> PrincipalDirections:
        """The directions of class vectors. vectors: with shape (N, d), N of at least 2.

        Raises InputError if they are all equal.
        """
        centred = vectors.double() - vectors.double().mean(0)
        gram = centred @ metric.weighted(centred).T
        values, found = torch.linalg.eigh((gram + gram.T) / 2)
        values, found = values.flip(0), found.flip(1)
        stays = values > LEAST_VARIANCE * values[0]
        if not values[0] > 0:
            raise InputError("the classes have no principal directions, since their vectors are all equal")
        values, found = values[stays], found[:, stays]
        roots = values.sqrt()
        return cls(found.T @ centred / roots[:, None], values / len(vectors), found * roots, metric)

    def coordinates_of(self, change: Tensor) -> Tensor:
        """How far a change of c leads along each direction. change: with shape (..., d) -> (..., r), float64."""
        return self.metric.weighted(change.view(-1, change.shape[-1])).view(change.shape).double() @ self.vectors.T

    def along(self, change: Tensor, count: int) -> Tensor:
        """The part of a change along the `count` directions in which it leads furthest, or along all if they are fewer.

        change: with shape (d,) -> (d,), float64
        """
        found = self.coordinates_of(change)
        moved = found.abs().topk(min(count, len(found))).indices
        return found[moved] @ self.vectors[moved]


@torch.no_grad()
def shift_between(
    system: Condition,
    source: InputsLike,
    target: InputsLike,
    *,
    components: int | None = None,
    directions: int | None = None,
    population: InputsLike | None = None,
) -> Shift:
    """The shift of an `Edit` from one class, or several, towards others: the difference of their mean vectors.

    system: a system; its condition alone is enough to move all components
    source, target: inputs of the classes to lead away from and towards, such as {"labels": [3]}; of a system without
        classes, features
    components: how many components are moved, from 1 to d: those of the largest |difference_i| |W_i|, with W_i the
        weights by which AdaLN reads component i; all by default
    directions: in place of components, along how many principal directions of the classes (`PrincipalDirections`),
        those in which the difference leads furthest
    population: the inputs whose principal directions are taken, all classes by default; required for directions if the
        system has no classes

    Raises InputError for inputs that the system does not take, both components and directions, more of them than there
    are, and a compacted system if either is given.
    """
    of_kind(Condition, "system", system, "a system of tailprune.load")
    check_moved(components, directions)
    means = [system.embed_inputs(system.check_inputs(inputs)).double().mean(0) for inputs in (source, target)]
    difference = means[1] - means[0]
    if components is not None:
        count = as_whole("components, how many are moved,", components, least=1, most=system.condition_dim)
        metric = metric_of(system)  # type: ignore[arg-type]
        moved = (difference.abs() * metric.norms).topk(count).indices
        difference = torch.zeros_like(difference).index_copy(0, moved, difference[moved])
    if directions is not None:
        count = as_whole("directions, how many are moved along,", directions, least=1, most=system.condition_dim)
        metric = metric_of(system)  # type: ignore[arg-type]
        found = PrincipalDirections.of(class_vectors(system, population), metric)
        difference = found.along(difference, count)
    return Shift(difference)
