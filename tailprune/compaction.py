"""Compaction: smaller systems with nearly the same output, whose AdaLN, a third of all parameters, reads less of c.

    zero fill:    W' = W[:, kept]                              a removed component counts as SiLU(0) = 0
    mean fill:    W' = [W[:, kept], W[:, rest] decode]         reads z(t) too: decode z(t) = SiLU(mean_rest(t))
    refit:        W' = W[:, kept] + W[:, rest] B               SiLU(c_rest) is predicted as B SiLU(c_kept) + constant
    directions:   W' = W R^+ U,  basis = U^T R                 U: the first r eigenvectors of R Cov(SiLU(c)) R, R^2 = M

with M the sum of W^T W over all layers, so that an error is weighted by how much it changes the modulations. B is the
least-squares solution over the covered vectors (`tailprune.column_subset`). Constants are added to the biases. The
condition part, and so c, does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.arguments import as_whole, of_kind
from tailprune.checkpoints.recognition import parameter_counts
from tailprune.column_subset import best_predictors, coefficients
from tailprune.condition_table import class_inputs, population_at, unique_rows
from tailprune.progress import OnStep, reporting
from tailprune.pruning import Population, Prune
from tailprune.spec import InputError
from tailprune.spec.compaction import FILLS, CompactBy, CompactFill, check_compaction
from tailprune.spec.display import Shown
from tailprune.spec.prune import Of, Side
from tailprune.systems.base import Inputs, InputsLike, System
from tailprune.systems.dit import LabelCondition, PerBlockDiT
from tailprune.systems.narrow import narrow
from tailprune.systems.readers import Directions, KeptComponents, TimeColumns

__all__ = ["Compaction", "compact"]

BIAS_ERROR = 1e-4
"""The largest error of the folded biases of a mean fill, relative to all of them."""


@dataclass(frozen=True, repr=False)
class Compaction(Shown):
    """A compacted system, and its size and error."""

    system: System
    width: int
    """The number of columns that AdaLN reads, r."""
    kept: tuple[int, ...] | None
    """The components that AdaLN reads; None if it reads directions."""
    time_columns: int
    """The number of columns that depend on time alone, rho; 0 if there are none."""
    bias_error: float | None
    """The relative error of the folded biases of a mean fill at the covered times; None for any other."""
    parameters: tuple[int, int]
    """The parameters of the whole system, before and after."""
    adaln_parameters: tuple[int, int]
    """The parameters of AdaLN, before and after, with basis and columns of time."""


@torch.no_grad()
def compact(
    system: System,
    *,
    times: Tensor,
    inputs: InputsLike,
    guided: bool = True,
    threshold: float | None = None,
    side: Side | None = None,
    of: Of | None = None,
    keep: int | None = None,
    by: CompactBy | None = None,
    fill: CompactFill | None = None,
    population: InputsLike | None = None,
    on_time: OnStep | None = None,
    progress: bool = False,
) -> Compaction:
    """A smaller system that serves the condition vectors of `inputs` at `times`; the given one does not change.

    system: a full system with weights; tensors that do not change are shared with the new one
    times: the covered times, in the system's own unit, of any shape
    inputs: the covered inputs
    guided: whether the null condition's vectors are covered too, true by default; a system may have none
    threshold, side, of: keep the components that `Prune(side, threshold, of=of)` keeps in any covered vector; `tail`
        and `c` by default
    keep: instead of a threshold, a number from 1 to d, applied as `by` says
    by: `variance` (default), the components among the `keep` whose SiLU(c) varies most over the population, at any of
        the times; `prediction` (the default with the fill `refit`), exactly `keep` components, those from which the
        others are predicted best; or `directions`, that many directions
    fill: the value of removed components, `zero` (default), the population's `mean`, or `refit`, their prediction from
        those that are kept; only `refit` with `prediction`, and only `mean` with directions
    population: inputs for mean and variance; by default all classes, or `inputs` for a system without classes
    on_time: called with (done, total) after the vectors of each time; may raise to stop
    progress: whether a progress bar is drawn, false by default

    Raises InputError for both or neither of threshold and keep, a rule that keeps more than d components or none, no
    times, no inputs, a system that is compacted already, or one whose blocks have their own conditions.
    """
    of_kind(System, "system", system, "a system, such as tailprune.load('models/shapes-sit')")
    times, inputs = system.check_times(times), system.check_inputs(inputs)
    _check(system, times, inputs)
    rule = check_compaction(threshold, keep, side, by, of, fill)
    fill = fill or FILLS[rule][0]
    if keep is not None:
        keep = as_whole("keep, the number of components or directions,", keep, least=1, most=system.condition_dim)
    smaller = _copy(system)
    with reporting(progress, on_time, "time") as report:
        covered = _Covered(system, times, inputs, guided, population, report)
        if rule == "directions":
            assert keep is not None, "directions are kept by number"
            _read_directions(smaller, covered, keep)
            return _compaction(system, smaller)
        if rule == "prediction":
            assert keep is not None, "predictors are kept by number"
            kept = best_predictors(covered.moments[1], _metric(_linears(system)), keep)
        elif keep is not None:
            kept = covered.kept(Prune.keep(keep))
        else:
            kept = covered.kept(Prune(side or "tail", threshold, of=of or "c"))
        if not len(kept):
            raise InputError(
                f"the threshold {threshold:g} on the {side or 'tail'} removes all {system.condition_dim} components: "
                f"give a {'higher' if side == 'head' else 'lower'} one"
            )
        if fill == "refit":
            _read_predictors(smaller, covered, kept)
            return _compaction(system, smaller, kept)
        error = _read_components(smaller, covered, kept, fill)
        return _compaction(system, smaller, kept, error)


class _Covered:
    """The vectors that a compaction covers: of the inputs, and of the null condition if guided, at every time."""

    def __init__(
        self,
        system: System,
        times: Tensor,
        inputs: Inputs,
        guided: bool,
        population: InputsLike | None,
        on_time: OnStep,
    ) -> None:
        device = next(system.parameters()).device
        self._system = system
        self._on_time = on_time
        self._inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        self._population = None if population is None else system.check_inputs(population)
        self._passes = 0
        self.guided = guided and system.null_condition and not system.takes_guidance
        self.times = times.float().unique()
        parts = [system.embed_inputs(unique_rows(self._inputs)[0])]
        if self.guided:
            parts.append(system.embed_inputs(system.null_inputs(1)))
        self._parts = torch.cat(parts)  # (U, d), or (U + 1, d) if guided

    def vectors(self) -> Iterator[Tensor]:
        """The covered vectors, one time after the other to bound memory, the null condition's last.

        Only the first pass over them is reported.
        """
        self._passes += 1
        report = self._on_time if self._passes == 1 else lambda done, total: None
        for done, time in enumerate(self._system.embed_time(self.times), 1):
            yield time + self._parts
            report(done, len(self.times))

    def population(self) -> Population:
        """The statistics of the population's vectors at each time, with shape (T, d)."""
        population: Inputs = self._inputs
        if self._population is not None:
            population = self._population
        elif isinstance(self._system, LabelCondition):
            population = class_inputs(self._system, self._inputs.get("scale"))
        return population_at(self._system, self.times, population)

    def kept(self, rule: Prune) -> Tensor:
        """The components that are kept in any covered vector, in ascending order."""
        population = None
        if rule.kept is not None:
            population = self.population()
            if not population.variation.any():
                raise InputError("nothing varies over the population: give more conditions, or a threshold")
        stays = torch.zeros(self._parts.shape[1], dtype=torch.bool, device=self._parts.device)
        for index, vectors in enumerate(self.vectors()):
            stays |= ~rule.removed(vectors, population and population.at(index)).all(0)
        return stays.nonzero().squeeze(1)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of SiLU(c) over the covered vectors, float64, with shape (d,) and (d, d).

        If guided, the null condition has the weight of all inputs together, as in half of the sampler's evaluations.
        """
        count, dim = self._parts.shape
        weights = self._parts.new_full((count, 1), 1 / count, dtype=torch.float64)
        if self.guided:
            weights[:-1], weights[-1] = 0.5 / (count - 1), 0.5
        mean, square = weights.new_zeros(dim), weights.new_zeros(dim, dim)
        for vectors in self.vectors():
            read = F.silu(vectors).double()
            mean += (weights * read).sum(0) / len(self.times)
            square += read.T @ (weights * read) / len(self.times)
        return mean, square - mean[:, None] * mean


def _read_components(system: System, covered: _Covered, kept: Tensor, fill: CompactFill) -> float | None:
    """Make the system read the components `kept`; returns the error of the folded biases, None for zero fill."""
    reader, linears = _reader(system, kept), _linears(system)
    if fill == "zero" or len(kept) == system.condition_dim:
        narrow(system, reader, None, len(kept))
        for linear, old in zip(_linears(system), linears, strict=True):
            _fill(linear, old.weight[:, kept], old.bias)
        return None if fill == "zero" else 0.0
    removed = _rest(system, kept)
    fills = F.silu(covered.population().mean[:, removed]).double()  # (T, d - k)
    constant = fills.mean(0)
    root, inverse = _roots(_metric(linears)[removed][:, removed])
    u, s, vh = torch.linalg.svd((fills - constant) @ root, full_matrices=False)
    lost = s.square().flip(0).cumsum(0).flip(0).sqrt()  # the error, by the number of columns kept
    whole = torch.linalg.matrix_norm(fills @ root)
    rho = int((lost > BIAS_ERROR * whole).sum())
    columns = None
    if rho:
        columns = TimeColumns(len(covered.times), rho)
        columns.times, columns.values = covered.times, (u[:, :rho] * s[:rho]).float()
    decode = inverse @ vh[:rho].T  # (d - k, rho)
    narrow(system, reader, columns, len(kept) + rho)
    for linear, old in zip(_linears(system), linears, strict=True):
        rest = old.weight[:, removed].double()
        _fill(linear, torch.cat([old.weight[:, kept], (rest @ decode).float()], dim=1), old.bias + rest @ constant)
    return (lost[rho] / whole).item() if rho < len(lost) and whole > 0 else 0.0


def _read_predictors(system: System, covered: _Covered, kept: Tensor) -> None:
    """Make the system read the components `kept`, and fold the prediction of the others into weights and biases."""
    mean, covariance = covered.moments
    rest = _rest(system, kept).nonzero().squeeze(1)
    predicted = coefficients(covariance, kept, rest)
    constant = mean[rest] - predicted @ mean[kept]
    linears = _linears(system)
    narrow(system, _reader(system, kept), None, len(kept))
    for linear, old in zip(_linears(system), linears, strict=True):
        full = old.weight.double()
        _fill(linear, full[:, kept] + full[:, rest] @ predicted, old.bias + full[:, rest] @ constant)


def _read_directions(system: System, covered: _Covered, count: int) -> None:
    """Make the system read the `count` directions with the least error of all its modulations."""
    mean, covariance = covered.moments
    linears = _linears(system)
    root, inverse = _roots(_metric(linears))
    found = torch.linalg.eigh(root @ covariance @ root).eigenvectors[:, -count:].flip(1)  # (d, r), the largest first
    basis = found.T @ root
    reader = Directions(*basis.shape)
    reader.basis = nn.Parameter(basis.float(), requires_grad=False)
    narrow(system, reader, None, count)
    for linear, old in zip(_linears(system), linears, strict=True):
        full = old.weight.double()
        weight = full @ inverse @ found
        _fill(linear, weight, old.bias + (full - weight @ basis) @ mean)


def _reader(system: System, kept: Tensor) -> KeptComponents:
    reader = KeptComponents(len(kept), system.condition_dim)
    reader.kept = kept
    return reader


def _rest(system: System, kept: Tensor) -> Tensor:
    """The components that are not kept, as a mask."""
    rest = torch.ones(system.condition_dim, dtype=torch.bool, device=kept.device)
    rest[kept] = False
    return rest


def _linears(system: System) -> list[nn.Linear]:
    return [layer.adaLN_modulation.linear for layer in system.modulated]


def _metric(linears: Sequence[nn.Linear]) -> Tensor:
    """M = sum of W^T W -> float64, (d, d)."""
    return sum(linear.weight.double().T @ linear.weight.double() for linear in linears)  # type: ignore[return-value]


def _roots(metric: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric root of a metric, and its pseudo-inverse: directions that no layer reads are left out."""
    values, vectors = torch.linalg.eigh(metric)
    read = values > 1e-14 * values[-1]
    roots = values.clamp(min=0).sqrt()
    inverses = torch.where(read, 1 / roots, 0.0)
    return (vectors * roots) @ vectors.T, (vectors * inverses) @ vectors.T


def _check(system: System, times: Tensor, inputs: Inputs) -> None:
    """Raises InputError for a system that cannot be compacted, no times and no inputs."""
    if isinstance(system, PerBlockDiT):
        raise InputError(
            "cannot compact a DiT whose blocks have their own conditions: no vector is read by all of its layers"
        )
    if system.reader is not None:
        raise InputError("the system is compacted already: compact the full system instead")
    if not times.numel():
        raise InputError("times are empty: give at least one")
    if not len(next(iter(inputs.values()))):
        raise InputError("inputs are empty: give at least one")


def _copy(system: System) -> System:
    """A copy of the modules that shares all tensors with the original."""
    shared: dict[int, Tensor] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in system.parameters()}
    copied = copy.deepcopy(system, shared | {id(tensor): tensor for tensor in system.buffers()}).eval()
    copied.compiled = None  # it would run the original network
    return copied


def _fill(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    linear.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)


def _compaction(
    before: System, after: System, kept: Tensor | None = None, bias_error: float | None = None
) -> Compaction:
    counts = [
        parameter_counts({name: tuple(tensor.shape) for name, tensor in system.state_dict().items()})
        for system in (before, after)
    ]
    return Compaction(
        system=after.requires_grad_(False),
        width=after.modulated[0].adaLN_modulation.linear.in_features,
        kept=None if kept is None else tuple(kept.tolist()),
        time_columns=0 if after.time_columns is None else after.time_columns.values.shape[1],
        bias_error=bias_error,
        parameters=(counts[0][0], counts[1][0]),
        adaln_parameters=(counts[0][1], counts[1][1]),
    )
