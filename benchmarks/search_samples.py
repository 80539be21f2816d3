"""How many prunes does a search for a threshold sample, beside bisection of the same candidates?

Of each shipped model every candidate is sampled and scored once. Searches with many budgets, and bisections, then look
the values up, and count how many different candidates they ask for. The answer of both has to be the same threshold.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import tailprune
from benchmarks.report import Section, at_most
from benchmarks.stacks import stack
from demo import ROOT
from jobs.registry.models import Registry
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import Search
from jobs.settings import Settings
from jobs.study_results import ScoredSearchMeasure, StudyVariant
from service.cli.client import Client
from tailprune.spec.prune import PruneSpec
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan
from workers.study.threshold_search import Candidates, magnitudes_of, predicted_errors, search_threshold

MODELS = ("shapes-dit", "shapes-sit", "shapes-repa", "shapes-lightningdit", "shapes-mg", "shapes-mdt")
TRIALS, STEPS, LABELS = 6, 20, range(0, 100, 2)
BUDGETS: Mapping[ScoredSearchMeasure, tuple[float, ...]] = {
    "fid": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    "accuracy": (0.02, 0.04, 0.08, 0.12, 0.2, 0.3),
    "drift": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
}
"""Of the FID, as shares of the unpruned samples'."""


def run() -> Section:
    """One table: a row for each model, the mean number of prunes that are sampled over the budgets of a measure."""
    rows, ours, theirs = [], dict.fromkeys(BUDGETS, 0), dict.fromkeys(BUDGETS, 0)
    same = searches = 0
    with stack() as running:
        for model in MODELS:
            known = _sampled(running.client, model)
            cells = []
            for measure, budgets in BUDGETS.items():
                unit = known.baseline.scores["fid"].value if measure == "fid" else 1.0
                assert unit is not None
                counts, bisected = [], []
                for budget in (share * unit for share in budgets):
                    found, asked = _searched(known, measure, budget)
                    answer, halvings = _bisected(known, measure, budget)
                    counts.append(asked)
                    bisected.append(halvings)
                    same += found == answer
                    searches += 1
                ours[measure] += sum(counts)
                theirs[measure] += sum(bisected)
                cells.append(f"{statistics.mean(counts):.1f} of {statistics.mean(bisected):.1f}")
            rows.append(f"| {model} | {' | '.join(cells)} |")
    lines = [
        "## A search for a threshold: prunes sampled, beside bisection\n",
        f"{2**TRIALS - 1} candidates, the quantiles of |c| by share; {len(LABELS)} samples each, {STEPS} steps; the "
        f"mean over {len(BUDGETS['fid'])} budgets, of the number that bisection samples: an FID of 2 to 100 % above "
        "that of the unpruned samples, an accuracy of 2 to 30 % less, a drift of 0.02 to 0.3. The unpruned samples "
        f"come besides. Both find the same threshold in {same} of {searches} searches.\n",
        f"| | {' | '.join(BUDGETS)} |",
        f"|---|{'---|' * len(BUDGETS)}",
        *rows,
    ]
    return Section(
        "\n".join(lines) + "\n",
        [
            at_most(
                f"prunes that a search by {measure} samples, against bisection", ours[measure] / theirs[measure], 0.5
            )
            for measure in ("fid", "accuracy")
        ],
    )


class _Known:
    """The scores of every candidate of a model."""

    def __init__(self, candidates: Candidates, variants: Mapping[float, StudyVariant], baseline: StudyVariant) -> None:
        self.candidates, self.variants, self.baseline = candidates, variants, baseline


def _sampled(client: Client, model: str) -> _Known:
    """Sample and score every candidate of a model. client: of the service."""
    entry = Registry.read(ROOT / "models" / "models.toml").get(model)
    asked = PruneSampleRequest(model=model, threshold=0.1, labels=list(LABELS), steps=STEPS)
    plan, inputs, system = (
        Plan.of(asked.resolve(entry, Settings()), 1),
        SampleInputs(),
        tailprune.load(entry.checkpoint),
    )
    search = Search(measure="drift", budget=1.0, trials=TRIALS)
    magnitudes = magnitudes_of(system, plan, inputs, search)
    candidates = Candidates(search, magnitudes, predicted_errors(system, plan, inputs))
    thresholds = dict.fromkeys(candidates.spec(place).threshold or 0.0 for place in range(1, candidates.count))
    prunes = [{"threshold": threshold} for threshold in thresholds]
    study = client.study(model, prunes=prunes, measures=[*BUDGETS], labels=list(LABELS), steps=STEPS).wait()
    assert study.result is not None
    baseline, *variants = study.result.variants
    return _Known(candidates, dict(zip(thresholds, variants, strict=True)), baseline)


def _searched(known: _Known, measure: ScoredSearchMeasure, budget: float) -> tuple[float | None, int]:
    """The threshold that a search finds, and how many it samples."""
    search = Search(measure=measure, budget=budget, trials=TRIALS)

    def try_out(spec: PruneSpec) -> StudyVariant:
        return known.variants[spec.threshold or 0.0]

    found = search_threshold(search, known.candidates, known.baseline, try_out, lambda _: None)
    return found.threshold, len(found.trials)


def _bisected(known: _Known, measure: ScoredSearchMeasure, budget: float) -> tuple[float | None, int]:
    """The same by bisection of the candidates."""
    baseline = known.baseline.scores[measure].value if measure in known.baseline.scores else 0.0
    assert baseline is not None
    low, high, tried = 0, known.candidates.count, set()
    found: float | None = None
    while high - low > 1:
        place = (low + high) // 2
        threshold = known.candidates.spec(place).threshold
        assert threshold is not None
        tried.add(threshold)
        value = known.variants[threshold].scores[measure].value
        assert value is not None
        if (value >= baseline - budget) if measure == "accuracy" else (value <= baseline + budget):
            low, found = place, max(found or 0.0, threshold)
        else:
            high = place
    return found, len(tried)
