"""The files of a finished study: the same scores in each, unrounded where programs read them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from jobs.registry.evaluation import MEASURES, Measure
from jobs.requests.sampled import ModulationFields
from jobs.requests.study import StudyRequest
from jobs.results import Engine, ModelUsed, Removed
from jobs.store.jobs import JobStore
from jobs.study_results import MeasureUsed, ReferenceUsed, Score, SearchResult, Shards, StudyResult, StudyVariant, Trial
from tailprune.figures import study as figures
from tailprune.spec.prune import PruneSpec, Schedule
from workers.outputs.variant import JobArtifacts
from workers.study import exports

LAST = Schedule(when="last", count=10)
THIRD = 1 / 3
SCORES: dict[str, dict[Measure, Score]] = {
    "baseline": {
        "fid": Score(value=3.17),
        "kid": Score(value=0.000123456, std=0.00004),
        "accuracy": Score(value=0.987, low=0.975, high=0.995),
    },
    "tail 0.05": {
        "fid": Score(value=4 + THIRD),
        "kid": Score(value=-0.0002, std=0.00004),
        "accuracy": Score(value=0.9012345, low=0.89, high=0.91),
        "psnr": Score(value=31.256, low=31.0, high=31.5, left_out=2),
    },
    "head 2.7, last 10 steps": {
        "fid": Score(value=67.5),
        "accuracy": Score(value=0.25, low=0.2, high=0.3),
        "psnr": Score(value=None, left_out=40),
    },
    "keep 24": {
        "fid": Score(value=3.5),
        "kid": Score(value=0.0),
        "accuracy": Score(value=0.98, low=0.97, high=0.99),
        "psnr": Score(value=float("inf")),
    },
}
PRUNES = {
    "tail 0.05": (PruneSpec(threshold=0.05), 40.0),
    "head 2.7, last 10 steps": (PruneSpec(threshold=2.7, side="head", schedule=LAST), 2.0),
    "keep 24": (PruneSpec(keep=24), 104.0),
}


def used(measure: Measure) -> MeasureUsed:
    facts = MEASURES[measure]
    extractor = "shapes-classifier" if facts.by else None
    reference = "shapes" if facts.reference else "baseline" if facts.paired else None
    title = facts.title if extractor is None else f"{facts.title} ({extractor})"
    return MeasureUsed(measure=measure, title=title, better=facts.better, extractor=extractor, reference=reference)


def variant(name: str) -> StudyVariant:
    if name not in PRUNES:
        return StudyVariant(name=name, prune=None, samples=1200, scores=SCORES[name])
    spec, mean = PRUNES[name]
    removed = Removed(mean=mean, min=1, max=128, fraction=mean / 128, by_step=[mean])
    prune = spec.resolved()
    return StudyVariant(name=name, prune=prune, removed=removed, samples=1200, scores=SCORES[name])


def result(*names: str, search: SearchResult | None = None) -> StudyResult:
    """A study of these variants, or of all."""
    return StudyResult(
        model=ModelUsed(name="shapes-repa", digest="ab" * 32),
        complete=True,
        measures=[used("fid"), used("kid"), used("accuracy"), used("psnr")],
        variants=[variant(name) for name in names or SCORES],
        search=search,
        shards=Shards(total=3, done=3, made=2, found=1),
        engine=Engine(device="cpu", dtype="float32", versions={}),
    )


def searched(**said: Any) -> SearchResult:
    given: dict[str, Any] = {
        "measure": "accuracy",
        "budget": 0.01,
        "limit": 0.977,
        "baseline": 0.987,
        "threshold": 0.0125,
        "fraction": 0.25,
        "trials": [
            Trial(threshold=0.05, fraction=0.5, value=0.9, within=False, variant="tail 0.05"),
            Trial(threshold=0.0125, fraction=0.25, value=0.98, within=True, variant="tail 0.0125"),
        ],
    }
    return SearchResult(**(given | said))


def tables(text: str) -> list[list[dict[str, str]]]:
    """The rows of the Markdown tables in a text."""
    blocks = [[line for line in block.splitlines() if line.startswith("| ")] for block in text.split("\n\n")]
    found = []
    for block in filter(None, blocks):
        heading, ruled, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
        assert all(set(cell) <= {"-", ":"} for cell in ruled)
        found.append([dict(zip(heading, row, strict=True)) for row in rows])
    return found


def marked(study: StudyResult, request: StudyRequest | None = None) -> str:
    return exports.markdown(study, request).decode()


@pytest.fixture
def files(store: JobStore) -> JobArtifacts:
    return JobArtifacts(store.artifacts)


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[figures.Panel]:
    """What was drawn, after `figure` was called."""
    seen: list[figures.Panel] = []

    def draw(panels: list[figures.Panel], **said: str) -> Any:
        seen.extend(panels)
        return figures.draw_study(panels, **said)

    monkeypatch.setattr(exports, "draw_study", draw)
    return seen


def test_the_document_is_the_result_but_for_the_names_of_its_exports() -> None:
    content = exports.document(result("baseline", "tail 0.05", search=searched()))
    assert b'\n  "model": {' in content
    assert "exports" not in json.loads(content)
    assert StudyResult.model_validate_json(content) == result("baseline", "tail 0.05", search=searched())


def test_the_table_reads_back_with_every_number_as_it_was() -> None:
    rows = list(csv.DictReader(io.StringIO(exports.table(result()).decode(), newline="")))
    assert [row["variant"] for row in rows] == list(SCORES)
    tail, head, kept = rows[1:]
    assert (tail["side"], float(tail["threshold"]), tail["keep"]) == ("tail", 0.05, "")
    assert (tail["fill"], tail["schedule"], tail["count"], tail["samples"]) == ("zero", "every", "", "1200")
    assert (float(tail["removed_mean"]), float(tail["removed_percent"])) == (40.0, 31.25)
    assert (head["schedule"], head["count"], head["side"]) == ("last", "10", "head")
    assert (kept["keep"], kept["side"], kept["threshold"], kept["fill"]) == ("24", "", "", "mean")
    for row in rows:
        for measure, score in SCORES[row["variant"]].items():
            for column, number in (
                (measure, score.value),
                (f"{measure}_low", score.low),
                (f"{measure}_high", score.high),
            ):
                assert row[column] == ("" if number is None else repr(number))


def test_lists_of_a_prune_have_a_cell_each() -> None:
    study = result("baseline", "tail 0.05")
    spec = PruneSpec(threshold_by_step=(0.5, None), blocks=(0, "final"), of="read").resolved()
    study.variants[1].prune = spec
    study.variants.append(
        study.variants[1].model_copy(
            update={"prune": PruneSpec(keep=3, schedule=Schedule("at", steps=(0, 2))).resolved()}
        )
    )
    _, one, other = csv.DictReader(io.StringIO(exports.table(study).decode(), newline=""))
    assert (one["threshold_by_step"], one["blocks"], one["of"], one["threshold"]) == ("0.5 none", "0 final", "read", "")
    assert (other["keep"], other["by"], other["schedule"], other["steps"]) == ("3", "variance", "at", "0 2")


def test_what_a_variant_does_not_have_is_empty_in_the_table() -> None:
    first = next(csv.DictReader(io.StringIO(exports.table(result()).decode(), newline="")))
    of_prunes = (
        "side",
        "threshold",
        "threshold_by_step",
        "remove_fraction",
        "keep",
        "keep_fraction",
        "by",
        "of",
        "fill",
    )
    of_prunes += ("schedule", "count", "steps", "blocks", "removed_mean", "removed_percent")
    assert {first[column] for column in (*of_prunes, "psnr", "psnr_low", "fid_low")} == {""}


def test_the_columns_of_the_table_are_five_a_measure_in_their_order() -> None:
    heading = exports.table(result()).decode().splitlines()[0].split(",")
    assert heading[heading.index("removed_percent") + 1 :] == [
        f"{name}{end}"
        for name in ("fid", "kid", "accuracy", "psnr")
        for end in ("", "_low", "_high", "_std", "_reliable")
    ]


def test_markdown_has_a_row_a_variant_and_an_arrow_where_a_measure_gets_better() -> None:
    (rows,) = tables(marked(result()))
    assert list(rows[0]) == [
        "variant",
        "removed (%)",
        "Fréchet distance (shapes-classifier) ↓",
        "Kernel distance (shapes-classifier) ↓",
        "Class accuracy (shapes-classifier), % ↑",
        "PSNR, dB ↑",
    ]
    assert [list(row.values()) for row in rows[:3]] == [
        ["baseline", "–", "3.170", "0.000123 ± 0.000040", "98.70 [97.50, 99.50]", "–"],
        ["tail 0.05", "31.25", "4.333", "-0.000200 ± 0.000040", "90.12 [89.00, 91.00]", "31.26 [31.00, 31.50]"],
        ["head 2.7, last 10 steps", "1.56", "67.500", "–", "25.00 [20.00, 30.00]", "–"],
    ]


def test_markdown_says_the_model_the_samples_and_what_each_measure_is_of() -> None:
    text = marked(result())
    assert "- Model: shapes-repa, sha256 `" + "ab" * 32 in text
    assert "- Samples: 1,200 a variant" in text
    assert (
        "- Fréchet distance (shapes-classifier): lower is better; by shapes-classifier; compared with shapes\n" in text
    )
    assert "± the deviation over its random subsets\n" in text
    assert (
        "- PSNR: higher is better; compared with the baseline; with its 95 % interval (bootstrap); "
        "samples without a value left out: 2 of tail 0.05, 40 of head 2.7, last 10 steps\n" in text
    )
    assert "Sampling" not in text
    assert "Search" not in text


def test_markdown_says_which_files_of_a_reference_were_passed_over() -> None:
    references = {
        "photos": ReferenceUsed(images=8, passed_over={".jp2": 2, "": 1}),
        "shapes": ReferenceUsed(images=100),
    }
    text = marked(result().model_copy(update={"references": references}))
    assert "- Reference photos: 8 images, and 2 .jp2, 1 of other kinds passed over\n" in text
    assert "shapes:" not in text


def test_markdown_says_how_was_sampled_where_that_is_given() -> None:
    request = StudyRequest(
        model="shapes-repa",
        prunes=[PruneSpec(threshold=0.05)],
        sampler="sde",
        steps=50,
        guidance_scale=2.5,
        guidance_interval=[0.0, 0.7],
        guided_channels=3,
        diffusion="sigma",
        last_step="mean",
        seed=7,
    )
    assert (
        "- Sampling: sde, 50 steps, guidance 2.5, guided from 0 to 0.7, 3 guided channels, "
        "diffusion sigma, last step mean, seed 7\n" in marked(result(), request)
    )
    plain = StudyRequest(
        model="shapes-repa",
        prunes=[PruneSpec(threshold=0.05)],
        sampler="euler",
        steps=20,
        guidance_scale=1.0,
        guidance_power=0.5,
        guided_channels="all",
        timestep_shift=2.0,
    )
    assert "- Sampling: euler, 20 steps, guidance 1, guidance power 0.5, timestep shift 2, seed 0\n" in marked(
        result(), plain
    )
    moved = plain.model_copy(
        update={"modulation": ModulationFields(weight=0.5, plus=3, minus=17), "precision": "bfloat16"}
    )
    assert (
        "guidance power 0.5, modulation guidance 0.5 towards class 3 away from class 17, timestep shift 2, bfloat16, "
        "seed 0\n" in marked(result(), moved)
    )
    assert "modulation guidance -1, seed 0\n" in marked(
        result(), request.model_copy(update={"modulation": ModulationFields(weight=-1.0), "diffusion": None, "seed": 0})
    )


def test_markdown_traces_a_search_in_a_second_table() -> None:
    text = marked(result(search=searched()))
    _, trials = tables(text)
    assert [list(row.values()) for row in trials] == [
        ["1", "0.05", "50.00", "90.00", "no", "tail 0.05"],
        ["2", "0.0125", "25.00", "98.00", "yes", "tail 0.0125"],
    ]
    assert "at least 97.70 (the baseline's 98.70, and a budget of 1.00)." in text
    assert "The largest threshold within, 0.0125, removes 25.00 %." in text


def test_markdown_says_so_where_a_search_found_nothing() -> None:
    search = searched(measure="fid", budget=0.5, limit=3.67, baseline=3.17, threshold=None, fraction=None)
    text = marked(result(search=search))
    assert "at most 3.670 (the baseline's 3.170, and a budget of 0.500). No threshold that was tried is within." in text
    without = searched(measure="fid", limit=3.67, baseline=None)
    assert "at most 3.670. The largest" in marked(result(search=without))


def test_markdown_of_a_study_that_sampled_nothing_has_the_errors_of_its_search() -> None:
    trial = Trial(threshold=0.05, fraction=0.5, value=0.123456, within=False, variant="tail 0.05")
    search = searched(measure="modulation-error", budget=0.1, limit=0.1, baseline=None, trials=[trial])
    baseline = StudyVariant(name="baseline", prune=None, samples=0, scores={})
    study = result(search=search).model_copy(update={"measures": [], "variants": [baseline]})
    text = marked(study)
    assert "- Samples: none" in text
    assert "Within the budget: Modulation error, at most 0.1." in text
    assert list(tables(text)[-1][0].values()) == ["1", "0.05", "50.00", "0.123", "no", "tail 0.05"]
    assert exports.figure(study) is None
    assert exports.table(study).startswith(b"variant,")


def test_the_figure_has_a_panel_a_measure_with_what_has_a_finite_value(panels: list[figures.Panel]) -> None:
    assert exports.figure(result()) is not None
    tail = "tail, every step"
    head = "head, last 10 steps"
    kept = "kept by variance, every step"
    fid, kid, accuracy, psnr = panels
    assert dict(fid.lines) == {
        tail: [figures.Point(4 + THIRD, 31.25)],
        head: [figures.Point(67.5, 1.5625)],
        kept: [figures.Point(3.5, 81.25)],
    }
    assert fid.baseline == figures.Point(3.17)
    assert list(kid.lines) == [tail, kept]
    (of_tail,) = kid.lines[tail]
    assert (of_tail.low, of_tail.high) == pytest.approx((-0.00024, -0.00016)), "± its deviation over the subsets"
    assert list(psnr.lines.values()) == [[figures.Point(31.256, 31.25, 31.0, 31.5)]]
    assert (psnr.baseline, psnr.unit, psnr.better) == (None, "dB", "higher")
    assert (accuracy.unit, accuracy.title) == ("%", "Class accuracy (shapes-classifier)")
    assert (accuracy.quantity, accuracy.bounds, fid.bounds) == ("Class accuracy", (0, 100), (0, None))
    assert accuracy.baseline is not None
    assert accuracy.baseline.extent == pytest.approx([98.7, 97.5, 99.5])


def test_a_measure_of_the_distance_to_the_baseline_begins_with_that_of_equal_samples(
    panels: list[figures.Panel],
) -> None:
    study = result("baseline", "tail 0.05")
    study.measures = [used("drift").model_copy(update={"reference": "baseline"}), used("ssim")]
    study.variants[1].scores = {"drift": Score(value=0.1), "ssim": Score(value=0.9)}
    exports.figure(study)
    assert [panel.baseline for panel in panels] == [figures.Point(0.0), figures.Point(1.0)]
    study.measures[1] = used("ssim").model_copy(update={"reference": "targets"})
    exports.figure(study)
    assert panels[3].baseline is None, "unpruned samples differ from their targets"


def test_scores_of_too_few_samples_are_marked_in_every_export(panels: list[figures.Panel]) -> None:
    study = result("baseline", "tail 0.05")
    note = "100 samples are fewer than the 469 that 96 features need"
    for name, few in (("baseline", True), ("tail 0.05", False)):
        scores = dict(SCORES[name])
        scores["fid"] = Score(value=4.0, reliable=not few, note=note if few else None)
        next(variant for variant in study.variants if variant.name == name).scores = scores
    first, second = csv.DictReader(io.StringIO(exports.table(study).decode(), newline=""))
    assert (first["fid_reliable"], second["fid_reliable"], first["accuracy_reliable"]) == ("false", "true", "true")
    text = marked(study)
    (rows,) = tables(text)
    assert [row["Fréchet distance (shapes-classifier) ↓"] for row in rows] == ["4.000 †", "4.000"]
    assert f"† Of too few samples to compare with anything. Fréchet distance: {note}." in text
    assert exports.figure(study) is not None
    fid = panels[0]
    assert fid.baseline is not None
    assert (fid.baseline.reliable, [point.reliable for (point,) in fid.lines.values()]) == (False, [True])
    assert "†" not in marked(result("baseline", "tail 0.05"))


def test_a_search_by_a_measure_of_too_few_samples_is_marked() -> None:
    text = marked(result(search=searched(measure="fid", budget=0.5, limit=3.67, baseline=3.17, reliable=False)))
    assert "at most 3.670 † (the baseline's" in text
    assert [row["Fréchet distance (shapes-classifier) ↓"] for row in tables(text)[1]] == ["0.900 †", "0.980 †"]


def test_a_result_that_was_stored_before_scores_said_whether_they_are_reliable_is_still_read() -> None:
    stored = json.loads(exports.document(result("baseline", "tail 0.05", search=searched())))
    for variant in stored["variants"]:
        for score in variant["scores"].values():
            del score["reliable"], score["note"]
    del stored["search"]["reliable"]
    read = StudyResult.model_validate(stored)
    assert all(score.reliable for variant in read.variants for score in variant.scores.values())


def test_prunes_that_differ_in_their_threshold_alone_are_one_line(panels: list[figures.Panel]) -> None:
    study = result("baseline", "tail 0.05")
    more = study.variants[1].model_copy(deep=True)
    assert more.prune is not None
    more.prune = replace(more.prune, threshold=0.1)
    study.variants.append(more)
    exports.figure(study)
    assert [len(points) for points in panels[0].lines.values()] == [2]


def test_the_figure_names_the_model_the_sampler_and_the_samples() -> None:
    said: dict[str, str] = {}

    def draw(panels: Any, **given: str) -> Any:
        said.update(given)
        return figures.draw_study(panels, **given)

    request = StudyRequest(
        model="shapes-repa", prunes=[PruneSpec(threshold=1.0)], sampler="euler", steps=50, guidance_scale=2.5
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exports, "draw_study", draw)
        exports.figure(result(), request)
    assert said["subtitle"] == "shapes-repa, euler, 50 steps, guidance 2.5, 1,200 samples a variant"
    assert "95 % intervals; of the kernel distance, ± its deviation" in said["text"]
    assert "No interval: Fréchet distance." in said["text"]


def test_there_is_no_figure_where_nothing_was_pruned_or_nothing_has_a_value() -> None:
    assert exports.figure(result("baseline")) is None
    study = result("baseline", "keep 24")
    study.measures = [used("psnr")]
    assert exports.figure(study) is None


def test_all_files_are_stored_under_the_names_that_are_returned(files: JobArtifacts, store: JobStore) -> None:
    study = result(search=searched())
    named = exports.write(study, files)
    assert {name: artifact.media_type for name, artifact in files.artifacts.items()} == {
        named.document: "application/json",
        named.table: "text/csv",
        named.markdown: "text/markdown",
        named.png: "image/png",
        named.svg: "image/svg+xml",
    }
    read = {name: store.artifacts.read(artifact) for name, artifact in files.artifacts.items()}
    assert read["study.json"] == exports.document(study)
    assert read["study.csv"] == exports.table(study)
    assert read["study.md"] == exports.markdown(study)
    assert Image.open(io.BytesIO(read["study.png"])).format == "PNG"
    assert ElementTree.fromstring(read["study.svg"]).tag == "{http://www.w3.org/2000/svg}svg"


def test_without_a_figure_its_names_are_null(files: JobArtifacts) -> None:
    named = exports.write(result("baseline"), files)
    assert (named.png, named.svg) == (None, None)
    assert sorted(files.artifacts) == ["study.csv", "study.json", "study.md"]
