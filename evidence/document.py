"""Writes `docs/evidence.md` from the measurements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from evidence.claims import accuracy, claims, score, variant, verdict
from evidence.gathering import BUDGET, LAST, MAIN, SAMPLES_OF_SEARCH, STEPS, ModelEvidence, mean_cosine
from evidence.paper import TABLE_1, TABLE_2, TABLE_3, TABLE_6, TITLE
from evidence.rules import RULE_SAMPLES, RULE_STEPS, SHARES, correlation, least_at
from jobs.registry.evaluation import Measure
from jobs.study_results import Score, StudyVariant

__all__ = ["shown_of", "write"]

OF_MAIN = (
    "cosine", "cosine-10", "histogram", "vectors", "variance", "sparsity", "tsne", "removal-tail", "removal-head",
    "training", "study",
)  # fmt: skip
OF_OTHERS = ("removal-tail", "removal-head", "training")
CAPTIONS = {
    "cosine": "Cosine of c between all classes",
    "cosine-10": "... and between ten of them",
    "histogram": "Magnitudes of c",
    "vectors": "Condition vectors of five classes",
    "variance": "Variance of each component over the classes, sorted",
    "sparsity": "Share of components below a threshold",
    "tsne": "t-SNE of all components, of the head alone, of the tail alone",
    "removal-tail": "Samples with the tail removed",
    "removal-head": "Samples with the head removed",
    "training": "Cosine and nPR over training",
    "study": "Quality against what was removed",
}


def shown_of(model: str) -> tuple[str, ...]:
    """The figures of a model that the document shows."""
    return OF_MAIN if model == MAIN else OF_OTHERS


def write(found: Sequence[ModelEvidence], machine: str) -> tuple[str, str]:
    """The document, and its numbers as JSON. found: the evidence of each model; machine: in words."""
    parts = [
        _opening(found, machine),
        _verdicts(found),
        _heads(found),
        _table_1(found),
        _table_4(found),
        *(_table_2(one) for one in found if one.model == MAIN),
        _table_3([one for one in found if one.model != MAIN]),
        _table_6(found),
        _searches(found),
        _rules(found),
        _training(found),
        _figures(found),
    ]
    numbers = {
        one.model: {
            "c": one.c.model_dump(mode="json", exclude={"histogram", "variance"}),
            "y": one.y.model_dump(mode="json", exclude={"histogram", "variance"}),
            "study": one.study.model_dump(mode="json", exclude={"exports", "engine", "shards"}),
            "search": one.search.model_dump(mode="json"),
            "samples_per_class": one.samples_per_class,
            "rules": [
                {
                    "rule": cell.rule,
                    "share": cell.share,
                    "error": cell.error,
                    "drift": cell.drift.model_dump(mode="json", include={"value", "low", "high"}),
                    "accuracy": cell.accuracy.model_dump(mode="json", include={"value", "low", "high"}),
                }
                for cell in one.rules
            ],
        }
        for one in found
    }
    return "\n\n".join(part for part in parts if part) + "\n", json.dumps(numbers, indent=1) + "\n"


def _opening(found: Sequence[ModelEvidence], machine: str) -> str:
    sizes = ", ".join(f"{one.model} {one.samples_per_class}" for one in found)
    return f"""# Evidence

The paper's claims ({TITLE}), tested on the models that tailprune ships: the six class-conditional systems, trained
here on *shapes*, 100 classes of 16 x 16 pixels. They are some five hundred times smaller than the paper's models of
ImageNet, and were trained for minutes. Whether a claim holds here does not carry over to models of that size; it shows
what the software measures, and that a claim can fail.

`make evidence` writes this page. It starts the service and requests statistics, figures and one study for each model:
{machine}. {STEPS} sampling steps, instead of the models' default of 50; samples a class: {sizes}.

The *Fréchet distance*, the Inception score, precision and recall use the features of `shapes-classifier`: none can be
compared with the paper's, which use Inception. Class accuracy is also measured by `shapes-classifier`.
Fréchet distances have no interval: those of 500 images of *shapes* themselves, drawn anew, vary by about one, and a
smaller difference between two variants says little. †: of too few samples to compare with anything
([studies.md](studies.md#few-samples)).

nPR is PR / d with PR(v) = (Σ |vᵢ|)² / Σ vᵢ², a fraction, and not (Σ vᵢ²)² / Σ vᵢ⁴; drift, head, tail and removed are
in the [glossary](glossary.md). Each model has its own thresholds: those that remove about 40 (mild), 66 (strong) and
80 % (extreme) of the tail, and 2 and 5 % of the head, over all classes and steps. The numbers, unrounded, are in
[evidence/numbers.json](evidence/numbers.json)."""


def _verdicts(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for claim in claims(found):
        judged = verdict(claim)
        rows.append((claim.says, claim.rule, judged.word, judged.text))
    return "\n".join(
        [
            "## What agrees and what does not",
            "",
            f"✗: the claim does not hold for this model. *: {MAIN}, with the most samples.",
            "",
            *_table(("the paper", "rule here", "verdict", "what was measured"), rows),
        ]
    )


def _heads(found: Sequence[ModelEvidence]) -> str:
    rows = [
        (
            one.model, one.head.count, f"{one.head.negative:.0%}", f"{one.head.read:.2f}", f"{one.head.tail_read:.2f}",
            f"{accuracy(one.study.variants[0]):.1%}", f"{accuracy(variant(one, 'head-5', 'every')):.1%}",
        )
        for one in found
    ]  # fmt: skip
    head = (
        "model", "components of the head", "of them negative", "mean of SiLU(c), head", "tail", "class accuracy",
        "without 5 % of the head",
    )  # fmt: skip
    return "\n".join(
        [
            "## What the head does here",
            "",
            "The blocks read c through SiLU, which maps large negative numbers to almost zero. Where the large",
            "components are negative, the head has almost no effect, and neither has its removal.",
            "The head: as many components as the participation ratio, by their mean magnitude at pure noise.",
            "Means are of magnitudes.",
            "",
            *_table(head, rows),
        ]
    )


def _table_1(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for one in found:
        paper = TABLE_1[_family(one)]
        rows.append(
            (
                one.model, one.c.dim, f"{one.c.pr:.2f}", f"{one.c.npr:.4f}", f"{mean_cosine(one.c):.4f}",
                paper.d, f"{paper.pr:.2f}", f"{paper.npr / 100:.4f}", f"{paper.cosine:.4f}",
            )
        )  # fmt: skip
    head = ("model", "d", "PR", "nPR", "cosine", "paper: d", "PR", "nPR", "cosine")
    return "\n".join(["## Table 1: participation ratio and cosine of c at pure noise", "", *_table(head, rows)])


def _table_4(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for one in found:
        paper = TABLE_1[_family(one)]
        rows.append(
            (
                one.model, f"{mean_cosine(one.c):.4f}", f"{mean_cosine(one.y):.4f}", f"{one.c.npr:.4f}",
                f"{one.y.npr:.4f}", f"{paper.cosine:.4f}", f"{paper.cosine_y:.4f}", f"{paper.npr / 100:.4f}",
                f"{paper.npr_y / 100:.4f}",
            )
        )  # fmt: skip
    head = ("model", "cosine c", "cosine y", "nPR c", "nPR y", "paper: cosine c", "cosine y", "nPR c", "nPR y")
    return "\n".join(["## Table 4: the sum c against y alone", "", *_table(head, rows)])


HEADINGS: tuple[tuple[Measure, str], ...] = (
    ("fid", "Fréchet distance ↓"),
    ("kid", "kernel distance ↓"),
    ("inception-score", "Inception score ↑"),
    ("accuracy", "class accuracy ↑"),
    ("drift", "drift ↓"),
)


def _table_2(one: ModelEvidence) -> str:
    here = _study_table(one.study.variants)
    paper = [(r.rule, f"{r.removed:.2f}%", f"{r.fid:.3f}", f"{r.inception:.2f}", f"{r.clip:.3f}") for r in TABLE_2]
    count = one.study.variants[0].samples
    return "\n".join(
        [
            f"## Table 2: {one.model} under pruning of c",
            "",
            f"{count:,} samples, {one.samples_per_class} a class, {LAST} last steps; {one.seconds / 60:.0f} minutes.",
            "",
            *here,
            "",
            "The paper's REPA-XL, 5,000 samples, FID and Inception score of Inception's features:",
            "",
            *_table(("variant", "removed", "FID ↓", "IS ↑", "CLIP ↑"), paper),
            "",
            f"![{CAPTIONS['study']}](evidence/{one.model}-study.png)",
        ]
    )


def _table_3(found: Sequence[ModelEvidence]) -> str:
    parts = ["## Table 3: the other models", ""]
    for one in found:
        parts += [
            f"### {one.model}",
            "",
            f"{one.study.variants[0].samples:,} samples, {one.samples_per_class} a class, {LAST} last steps; "
            f"{one.seconds / 60:.0f} minutes.",
            "",
            *_study_table(one.study.variants),
            "",
        ]
        if (paper := TABLE_3.get(_family(one))) is not None:
            rows = [(r.rule, f"{r.fid:.3f}", f"{r.inception:.2f}", f"{r.clip:.3f}") for r in paper]
            parts += ["The paper's, with tail 0.01:", "", *_table(("variant", "FID ↓", "IS ↑", "CLIP ↑"), rows), ""]
    return "\n".join(parts).rstrip()


def _table_6(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for one in found:
        paper = {name: (precision, recall) for name, precision, recall in TABLE_6.get(_family(one), ())}
        variants = [
            ("baseline", one.study.variants[0], "baseline"),
            ("mild tail, every step", variant(one, "mild", "every"), ""),
            ("mild tail, first step", variant(one, "mild", "first"), "first step"),
            (f"mild tail, last {LAST} steps", variant(one, "mild", "last"), "last steps"),
        ]
        for name, of, same in variants:
            theirs = paper.get(same)
            rows.append(
                (
                    one.model, name, f"{score(of, 'precision'):.4f}", f"{score(of, 'recall'):.4f}",
                    "" if theirs is None else f"{theirs[0]:.4f}", "" if theirs is None else f"{theirs[1]:.4f}",
                )
            )  # fmt: skip
    head = ("model", "variant", "precision", "recall", "paper: precision", "recall")
    return "\n".join(["## Table 6: precision and recall (improved, k = 3)", "", *_table(head, rows)])


def _searches(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for one in found:
        search = one.search
        best = next((t for t in search.trials if t.threshold == search.threshold), None)
        rows.append(
            (
                one.model,
                "none" if best is None else f"{best.threshold:g}",
                "" if best is None else f"{best.fraction:.1%}",
                "" if search.baseline is None else f"{search.baseline:.1%}",
                "" if best is None else f"{best.value:.1%}",
                ", ".join(f"{t.threshold:g} {'✓' if t.within else '✗'}" for t in search.trials),
            )
        )
    head = ("model", "threshold", "removes", "baseline", "there", "tried, in this order")
    return "\n".join(
        [
            f"## The largest tail threshold that costs at most {100 * BUDGET:g} points of class accuracy",
            "",
            f"At every step, from where the modulation error predicts it; {SAMPLES_OF_SEARCH} samples a class.",
            "",
            *_table(head, rows),
        ]
    )


def _rules(found: Sequence[ModelEvidence]) -> str:
    parts = [
        "## Rules of pruning at equal shares",
        "",
        f"Every step, {RULE_STEPS} steps, {RULE_SAMPLES} samples a class. The first rule is the paper's;",
        "[pruning.md](pruning.md) says what the others are. Removed: of all components over the run. Error: the",
        "modulation error, without sampling. In brackets, 95 % intervals; bold: the least drift of its share.",
        "",
        "![Drift against modulation error](evidence/rules.png)",
        "",
    ]
    for one in found:
        baseline = accuracy(one.study.variants[0])
        parts += [
            f"### {one.model}: rules",
            "",
            f"Class accuracy without a prune {baseline:.1%}. Rank correlation of error and drift over the"
            f" {len(one.rules)} prunes: {correlation(one.rules):.3f}.",
            "",
            *_table(
                ("removed", "rule", "error", "drift ↓", "class accuracy ↑"),
                [
                    (
                        f"{share:.0%}", cell.rule, f"{cell.error:.3f}", _drift(cell.drift, least_at(one.rules, share)),
                        _cell("accuracy", cell.accuracy),
                    )
                    for share in SHARES
                    for cell in one.rules
                    if cell.share == share
                ],
            ),
            "",
        ]  # fmt: skip
    return "\n".join(parts).rstrip()


def _drift(of: Score, least: Score) -> str:
    value = "" if of.value is None else f"{of.value:.3f}"
    interval = "" if of.low is None or of.high is None else f" [{of.low:.3f}, {of.high:.3f}]"
    return f"**{value}**{interval}" if of is least else value + interval


def _training(found: Sequence[ModelEvidence]) -> str:
    rows = []
    for one in found:
        first, last = one.curve[0], one.curve[-1]
        least = min(one.curve, key=lambda point: point["cosine"])
        rows.append(
            (
                one.model, f"{last['step']:,.0f}", f"{first['npr']:.3f}", f"{last['npr']:.3f}",
                f"{first['cosine']:.4f}", f"{least['cosine']:.4f} ({least['step']:,.0f})", f"{last['cosine']:.4f}",
                f"{last['cosine_y']:.3f}",
            )
        )  # fmt: skip
    head = (
        "model", "steps", "nPR first", "nPR last", "cosine first", "least (at step)", "cosine last", "cosine of y last",
    )  # fmt: skip
    return "\n".join(["## Over training", "", "First: after 500 steps.", "", *_table(head, rows)])


def _figures(found: Sequence[ModelEvidence]) -> str:
    parts = ["## Figures"]
    for one in found:
        shown = [name for name in shown_of(one.model) if name != "study"]
        pictures = [f"{CAPTIONS[name]}:\n\n![{CAPTIONS[name]}](evidence/{one.model}-{name}.png)" for name in shown]
        parts += [f"### {one.model}", *pictures]
    return "\n\n".join(parts)


def _study_table(variants: Sequence[StudyVariant]) -> list[str]:
    rows = []
    for of in variants:
        removed = "0" if of.removed is None else f"{of.removed.mean:.1f} ({of.removed.fraction:.1%})"
        rows.append((of.name, removed, *(_cell(measure, of.scores.get(measure)) for measure, _ in HEADINGS)))
    return _table(("variant", "removed of a vector", *(heading for _, heading in HEADINGS)), rows)


def _cell(measure: Measure, of: Score | None) -> str:
    if of is None or of.value is None:
        return ""
    if measure == "accuracy":
        interval = "" if of.low is None or of.high is None else f" [{of.low:.1%}, {of.high:.1%}]"
        return f"{of.value:.1%}{interval}"
    digits = {"kid": ".4g", "inception-score": ".2f"}.get(measure, ".3f")
    return f"{of.value:{digits}}{'' if of.reliable else ' †'}"


def _family(one: ModelEvidence) -> str:
    return one.model.removeprefix("shapes-")


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
