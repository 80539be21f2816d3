"""The paper's claims, each tested on the measurements by the rule beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from evidence.gathering import HEADS, MAIN, TAILS, ModelEvidence, mean_cosine
from jobs.registry.evaluation import Measure
from jobs.study_results import StudyVariant

__all__ = ["Claim", "Verdict", "claims", "variant", "verdict"]

POINT = 0.01
"""One percentage point of class accuracy."""


class Claim(NamedTuple):
    """A claim of the paper, the rule that tests it here, and the models for which it holds and fails."""

    says: str
    rule: str
    holds: list[str]
    fails: list[str]
    detail: str


class Verdict(NamedTuple):
    """Whether a claim holds, and the measurement for each model."""

    word: str
    text: str


def claims(found: Sequence[ModelEvidence]) -> list[Claim]:
    """All claims, in the order of the paper."""
    return [
        _claim(
            found,
            "Condition vectors of different classes are nearly parallel (mean cosine 0.90 to 0.99).",
            "mean cosine of c at pure noise is 0.9 or more",
            lambda one: mean_cosine(one.c) >= 0.9,
            lambda one: f"{mean_cosine(one.c):.3f}",
        ),
        _claim(
            found,
            "y alone is much less parallel than c = y + t.",
            "mean cosine of y is at least 0.1 below that of c",
            lambda one: mean_cosine(one.y) <= mean_cosine(one.c) - 0.1,
            lambda one: f"{mean_cosine(one.y):.3f}",
        ),
        _claim(
            found,
            "c is carried by a few components: nPR of 0.01 to 0.02 for most models, 0.10 for DiT.",
            "nPR of c is 0.105 or less",
            lambda one: one.c.npr <= 0.105,
            lambda one: f"{one.c.npr:.3f}",
        ),
        _claim(
            found,
            "c is sparser than y.",
            "nPR of c is below that of y",
            lambda one: one.c.npr < one.y.npr,
            lambda one: f"{one.c.npr:.3f} against {one.y.npr:.3f}",
        ),
        _claim(
            found,
            "Removing about 40 % of the tail costs nothing, at every step.",
            "class accuracy falls by a point or less",
            lambda one: lost(one, "mild", "every") <= POINT,
            lambda one: _points(lost(one, "mild", "every")),
        ),
        _claim(
            found,
            "... nor at the first or at the last steps alone.",
            "class accuracy falls by a point or less, of both",
            lambda one: max(lost(one, "mild", "first"), lost(one, "mild", "last")) <= POINT,
            lambda one: f"{_points(lost(one, 'mild', 'first'))} and {_points(lost(one, 'mild', 'last'))}",
        ),
        _claim(
            found,
            "Late in sampling it even helps (FID 7.1694 to 7.1598).",
            "the Fréchet distance with the mild tail removed at the last steps is below the baseline's",
            lambda one: _gain(one) > 0,
            lambda one: f"{-_gain(one):+.3f}",
        ),
        _claim(
            found,
            "At 66 % on every step quality is visibly lower (FID 7.17 to 9.22).",
            "the Fréchet distance rises, and class accuracy falls by more than a point",
            lambda one: (
                lost(one, "strong", "every") > POINT
                and score(variant(one, "strong", "every"), "fid") > score(one.study.variants[0], "fid")
            ),
            lambda one: _points(lost(one, "strong", "every")),
        ),
        _claim(
            found,
            "Removing a few head components destroys the image (8 of 1,152; FID 524).",
            "class accuracy is halved with about 5 % of the components removed from the head",
            lambda one: accuracy(variant(one, "head-5", "every")) <= accuracy(one.study.variants[0]) / 2,
            lambda one: f"{accuracy(variant(one, 'head-5', 'every')):.1%}",
        ),
        _claim(
            found,
            "Precision and recall hardly change with the mild tail removed at the first or last steps.",
            "both within 0.02 of the baseline's",
            lambda one: _moved(one) <= 0.02,
            lambda one: f"{_moved(one):.3f}",
        ),
        _claim(
            found,
            "nPR falls while a model trains (0.90 to under 0.06 in 200,000 steps).",
            "the last nPR of the training record is below half the first",
            lambda one: one.curve[-1]["npr"] < one.curve[0]["npr"] / 2,
            lambda one: f"{one.curve[0]['npr']:.3f} to {one.curve[-1]['npr']:.3f}",
        ),
        _claim(
            found,
            "The cosine of c rises while a model trains.",
            "the last cosine of the training record is above the first",
            lambda one: one.curve[-1]["cosine"] > one.curve[0]["cosine"],
            lambda one: f"{one.curve[0]['cosine']:.4f} to {one.curve[-1]['cosine']:.4f}",
        ),
    ]


def verdict(claim: Claim) -> Verdict:
    """The verdict on a claim, with the number of models for which it holds."""
    if not claim.fails:
        return Verdict("holds", claim.detail)
    if not claim.holds:
        return Verdict("does not hold", claim.detail)
    return Verdict(f"holds for {len(claim.holds)} of {len(claim.holds) + len(claim.fails)}", claim.detail)


def variant(one: ModelEvidence, name: str, when: str) -> StudyVariant:
    """The variant of a model's study with this threshold, by name, and this schedule."""
    side, names = ("tail", TAILS) if name in TAILS else ("head", HEADS)
    fitting = [
        v for v in one.study.variants if v.prune is not None and v.prune.side == side and v.prune.schedule.when == when
    ]
    return sorted(fitting, key=lambda v: v.removed.fraction if v.removed else 0.0)[names.index(name)]


def score(of: StudyVariant, measure: Measure) -> float:
    """The value of a score, which must not be missing."""
    value = of.scores[measure].value
    assert value is not None, f"{of.name} has no {measure}"
    return value


def accuracy(of: StudyVariant) -> float:
    """Class accuracy, from 0 to 1."""
    return score(of, "accuracy")


def lost(one: ModelEvidence, name: str, when: str) -> float:
    """The decrease of class accuracy under a prune."""
    return accuracy(one.study.variants[0]) - accuracy(variant(one, name, when))


def _gain(one: ModelEvidence) -> float:
    return score(one.study.variants[0], "fid") - score(variant(one, "mild", "last"), "fid")


def _moved(one: ModelEvidence) -> float:
    measures: tuple[Measure, ...] = ("precision", "recall")
    baseline = one.study.variants[0]
    return max(
        abs(score(variant(one, "mild", when), measure) - score(baseline, measure))
        for when in ("first", "last")
        for measure in measures
    )


def _points(share: float) -> str:
    return f"{round(-100 * share, 1) or 0.0:+.1f} points"


def _claim(
    found: Sequence[ModelEvidence],
    says: str,
    rule: str,
    holds: Callable[[ModelEvidence], bool],
    shown: Callable[[ModelEvidence], str],
) -> Claim:
    yes = [one.model for one in found if holds(one)]
    no = [one.model for one in found if not holds(one)]
    detail = "; ".join(f"{_short(one.model)} {shown(one)}{'' if one.model in yes else ' ✗'}" for one in found)
    return Claim(says, rule, yes, no, detail)


def _short(model: str) -> str:
    return model.removeprefix("shapes-") + ("*" if model == MAIN else "")
