"""The evidence: claims judged by their rules, and tables that say what was found."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demo import ROOT
from evidence.claims import claims, variant, verdict
from evidence.document import shown_of, write
from evidence.gathering import FIGURES, HeadSummary, ModelEvidence
from evidence.measuring import MODELS
from evidence.rules import RULES, SHARES, RuleCell, cells_of, compared, correlation, draw_errors, least_at, prunes
from jobs.results import MetricsResult
from jobs.study_results import Score, SearchResult, StudyResult, StudyVariant
from tailprune.spec.prune import PruneSpec

FRACTIONS = {"mild": 0.4, "strong": 0.66, "extreme": 0.8, "head-2": 0.02, "head-5": 0.05}
WHEN: list[tuple[str, int | None]] = [("every", None), ("first", 1), ("last", 10)]
CURVE = [
    {"step": 500, "npr": 0.9, "cosine": 0.90, "cosine_y": 0.0},
    {"step": 1000, "npr": 0.06, "cosine": 0.85, "cosine_y": 0.1},
    {"step": 1500, "npr": 0.05, "cosine": 0.95, "cosine_y": 0.2},
]


def metrics(model: str, part: str, npr: float, cosine: float) -> MetricsResult:
    answer: dict[str, Any] = {
        "model": {"name": model, "digest": "d"}, "part": part, "timestep": None, "count": 100, "dim": 128,
        "cosine": {"mean": cosine, "min": 0.0, "max": 1.0}, "pr": 128 * npr, "npr": npr, "norm": 1.0, "sparsity": [],
        "histogram": {"edges": [0, 1], "counts": [1]}, "variance": {"components": [1.0], "components_for": {}},
    }  # fmt: skip
    return MetricsResult.model_validate(answer)


def scored(name: str, accuracy: float, fid: float, prune: Any = None, fraction: float = 0.0) -> dict[str, Any]:
    scores: dict[str, Any] = {
        "fid": {"value": fid},
        "kid": {"value": 0.01, "std": 0.001},
        "inception-score": {"value": 50.0},
        "precision": {"value": 0.8},
        "recall": {"value": 0.6},
        "accuracy": {"value": accuracy, "low": accuracy - 0.01, "high": accuracy},
    }
    if prune is not None:
        scores["drift"] = {"value": 0.1}
    removed = {"mean": 128 * fraction, "min": 0, "max": 128, "fraction": fraction, "by_step": []}
    return {"name": name, "prune": prune, "removed": removed if prune else None, "samples": 100, "scores": scores}


def found(
    model: str, accuracy: dict[tuple[str, str], float], fid: dict[tuple[str, str], float] | None = None
) -> ModelEvidence:
    """A model whose baseline has an accuracy of 0.95 and a distance of 7, as have prunes that are given no others."""
    variants = [scored("baseline", 0.95, 7.0)]
    for name, fraction in FRACTIONS.items():
        side = "tail" if name in ("mild", "strong", "extreme") else "head"
        for when, count in WHEN if side == "tail" else WHEN[:1]:
            prune = {"threshold": fraction, "side": side, "fill": "zero", "schedule": {"when": when, "count": count}}
            at = (name, when)
            variants.append(scored(f"{name} {when}", accuracy.get(at, 0.95), (fid or {}).get(at, 7.0), prune, fraction))
    study = StudyResult.model_validate(
        {
            "model": {"name": model, "digest": "d"},
            "complete": True,
            "measures": [],
            "variants": variants,
            "shards": {"total": 1, "done": 1, "made": 1, "found": 0},
            "engine": {"device": "cpu", "dtype": "float32", "versions": {}},
        }
    )
    trial = {"threshold": 0.07, "fraction": 0.4, "value": 0.94, "within": True, "variant": "tail 0.07"}
    search = SearchResult.model_validate(
        {
            "measure": "accuracy", "budget": 0.02, "limit": 0.93, "baseline": 0.95, "threshold": 0.07, "fraction": 0.4,
            "trials": [trial],
        }
    )  # fmt: skip
    c, y = metrics(model, "c", 0.02, 0.97), metrics(model, "y", 0.4, 0.5)
    cells = [
        RuleCell(
            rule, share, error=share / (place + 1), drift=Score(value=share / (place + 2)), accuracy=Score(value=0.9)
        )
        for place, rule in enumerate(RULES)
        for share in SHARES
    ]
    return ModelEvidence(model, c, y, HeadSummary(3, 1.0, 0.01, 0.1), study, search, 5, 60.0, CURVE, cells)


AS_THE_PAPER = {("strong", "every"): 0.90, ("extreme", "every"): 0.3, ("head-5", "every"): 0.02}
FID_AS_THE_PAPER = {("strong", "every"): 9.2, ("mild", "last"): 6.9}


def test_what_is_as_in_the_paper_holds() -> None:
    judged = claims([found("shapes-repa", AS_THE_PAPER, FID_AS_THE_PAPER)])
    assert [verdict(claim).word for claim in judged] == ["holds"] * len(judged)


@pytest.mark.parametrize(
    ("accuracy", "fid", "fails"),
    [
        ({("mild", "every"): 0.93}, {}, "Removing about 40 %"),
        ({("mild", "first"): 0.93}, {}, "... nor at the first"),
        ({("head-5", "every"): 0.6}, {}, "Removing a few head components"),
        ({}, {("mild", "last"): 7.1}, "Late in sampling"),
        ({("strong", "every"): 0.945}, {}, "At 66 %"),
    ],
)
def test_what_is_otherwise_does_not_hold(accuracy: Any, fid: Any, fails: str) -> None:
    judged = claims([found("shapes-repa", AS_THE_PAPER | accuracy, FID_AS_THE_PAPER | fid)])
    (failed,) = [claim for claim in judged if claim.fails]
    assert failed.says.startswith(fails)
    assert verdict(failed).word == "does not hold"


def test_a_claim_that_some_models_bear_out_says_of_how_many_and_of_which() -> None:
    models = [
        found("shapes-repa", AS_THE_PAPER, FID_AS_THE_PAPER),
        found("shapes-sit", AS_THE_PAPER | {("mild", "every"): 0.5}, FID_AS_THE_PAPER),
    ]
    (claim,) = [claim for claim in claims(models) if claim.fails]
    judged = verdict(claim)
    assert judged.word == "holds for 1 of 2"
    assert judged.text.startswith("repa* +0.0 points; ")
    assert judged.text.endswith("sit -45.0 points ✗")


def test_a_variant_is_found_by_what_it_removes_and_when() -> None:
    one = found("shapes-repa", {})
    assert variant(one, "strong", "last").name == "strong last"
    assert variant(one, "head-2", "every").name == "head-2 every"


def test_the_document_has_every_table_with_the_papers_numbers_beside() -> None:
    models = [found(model, AS_THE_PAPER, FID_AS_THE_PAPER) for model in MODELS]
    text, numbers = write(models, "two workers")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split(":")[0] for heading in headings] == [
        "## What agrees and what does not",
        "## What the head does here",
        "## Table 1",
        "## Table 4",
        "## Table 2",
        "## Table 3",
        "## Table 6",
        "## The largest tail threshold that costs at most 2 points of class accuracy",
        "## Rules of pruning at equal shares",
        "## Over training",
        "## Figures",
    ]
    assert "| shapes-sit | 128 | 2.56 | 0.0200 | 0.9700 | 1152 | 26.25 | 0.0228 | 0.9852 |" in text
    assert "| tail 0.02, every step | 66.21% | 9.220 | 125.15 | 29.221 |" in text
    assert "| strong every | 84.5 (66.0%) | 9.200 | 0.01 | 50.00 | 90.0% [89.0%, 90.0%] | 0.100 |" in text
    assert set(json.loads(numbers)) == set(MODELS)


def test_every_table_has_as_many_cells_in_each_row() -> None:
    text, _ = write([found(model, {}) for model in MODELS], "two workers")
    lines = text.splitlines()
    for line, following in pairwise(lines):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|"), following


def test_every_figure_that_is_shown_is_made() -> None:
    made = {name for name, _, _ in FIGURES} | {"study"}
    assert all(set(shown_of(model)) <= made for model in MODELS)


def test_the_written_evidence_is_of_all_models_and_has_its_figures() -> None:
    text = (ROOT / "docs" / "evidence.md").read_text()
    numbers = json.loads((ROOT / "docs" / "evidence" / "numbers.json").read_text())
    assert set(numbers) == set(MODELS)
    for model in MODELS:
        for name in shown_of(model):
            assert f"(evidence/{model}-{name}.png)" in text
            assert (ROOT / "docs" / "evidence" / f"{model}-{name}.png").is_file()


def test_a_score_of_too_few_samples_is_marked_in_the_document() -> None:
    one = found("shapes-repa", AS_THE_PAPER, FID_AS_THE_PAPER)
    assert "| baseline | 0 | 7.000 | " in write([one], "two workers")[0]
    one.study.variants[0].scores["fid"].reliable = False
    assert "| baseline | 0 | 7.000 † | " in write([one], "two workers")[0]


def test_each_rule_removes_each_share_and_the_prunes_are_in_the_order_of_the_cells() -> None:
    names = [PruneSpec(**prune).resolved().name for prune in prunes()]
    assert len(set(names)) == len(RULES) * len(SHARES)
    variants = [StudyVariant.model_validate(scored("baseline", 0.95, 7.0))]
    variants += [StudyVariant.model_validate(scored(name, 0.9, 7.0, {"threshold": 1})) for name in names]
    cells = cells_of("shapes-sit", variants, steps=3)
    assert [(cell.rule, cell.share) for cell in cells] == [(rule, share) for rule in RULES for share in SHARES]
    for rule in RULES:
        errors = [cell.error for cell in cells if cell.rule == rule]
        assert errors == sorted(errors)
        assert 0 < errors[0] < errors[-1] < 2


def test_rules_are_compared_share_by_share() -> None:
    text = compared({"shapes-sit": found("shapes-sit", {}).rules, "shapes-dit": found("shapes-dit", {}).rules})
    ahead = (len(RULES) + 1) / 2
    for share in SHARES:
        assert f"- {100 * share:.0f} % removed: the least drift is that of `deviation, mean` in 2 of 2 models" in text
    assert text.count(f"(the paper's rule drifts {ahead:.1f} times as far)") == len(SHARES)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * len(RULES)
    assert rows[1].startswith("| shapes-sit | abs(c), zero | 0.200 | ")
    assert rows[len(RULES)].startswith(f"|  | deviation, mean | **{0.4 / (len(RULES) + 1):.3f}**")


def test_the_least_drift_of_a_share_is_marked_and_the_correlation_told(tmp_path: Path) -> None:
    one = found("shapes-sit", {})
    assert least_at(one.rules, 0.4).value == pytest.approx(0.4 / (len(RULES) + 1))
    assert correlation(one.rules) > 0.9
    text, numbers = write([one], "here")
    assert f"Rank correlation of error and drift over the {len(one.rules)} prunes: {correlation(one.rules):.3f}" in text
    assert f"| 40% | deviation, mean | {0.4 / len(RULES):.3f} | **{0.4 / (len(RULES) + 1):.3f}** | 90.0% |" in text
    assert len(json.loads(numbers)["shapes-sit"]["rules"]) == len(one.rules)
    draw_errors({"shapes-sit": one.rules, "shapes-dit": one.rules}, tmp_path / "rules.png")
    assert Image.open(tmp_path / "rules.png").width > 1000
