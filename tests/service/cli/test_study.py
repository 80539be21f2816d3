"""`tailprune study`: what it asks the service for, and how it shows the answer."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from jobs.problems import problem
from jobs.records import Job, new_id
from jobs.requests.study import StudyRequest
from service.cli import app
from tests.service.results import STUDY, STUDY_FILES


class FakeService:
    """Answer every study at once, with the made-up result."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.result = STUDY
        self.outcome: dict[str, Any] = {"status": "succeeded"}
        self.job: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name in STUDY_FILES:
            return httpx.Response(200, content=STUDY_FILES[name][0])
        if request.method == "GET":
            return httpx.Response(200, json=self.job)
        assert (request.method, request.url.path) == ("POST", "/studies")
        self.bodies.append(json.loads(request.content))
        asked = StudyRequest.model_validate_json(request.content)
        now = datetime.now(UTC)
        artifacts = {
            name: {"digest": "0" * 64, "size": 1, "media_type": kind} for name, (_, kind) in STUDY_FILES.items()
        }
        job = Job.model_validate(
            {
                "id": new_id(),
                "kind": "study",
                "key": "k",
                "model": asked.model,
                "title": asked.job_title,
                **self.outcome,
                "request": asked.model_dump(),
                "created": now,
                "finished": now,
                "result": self.result if self.outcome["status"] == "succeeded" else None,
                "artifacts": artifacts,
            }
        )
        self.job = job.public()
        return httpx.Response(200, json=self.job)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """The service that the command finds; terminals are 80 columns wide."""
    service = FakeService()
    real = httpx.Client

    def client(**options: Any) -> httpx.Client:
        return real(**options, transport=httpx.MockTransport(service))

    monkeypatch.setattr("httpx.Client", client)
    monkeypatch.setenv("COLUMNS", "80")
    return service


def study(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def asked(service: FakeService, *arguments: object) -> dict[str, Any]:
    """The body that the command posts."""
    said = study(*arguments)
    assert said.exit_code == 0, said.output
    return service.bodies[-1]


def test_thresholds_sides_schedules_and_fills_are_a_grid(service: FakeService) -> None:
    options = ["--threshold", 0.1, "--threshold", 0.2, "--side", "tail", "--side", "head", "--fill", "mean"]
    schedules = ["--schedule", "every", "--schedule", "first", "--schedule", "first:3", "--schedule", "last:10"]
    schedules += ["--schedule", "at:0,3,7"]
    assert asked(service, "scored", *options, *schedules) == {
        "model": "scored",
        "grid": {
            "thresholds": [0.1, 0.2],
            "sides": ["tail", "head"],
            "schedules": [
                {"when": "every"},
                {"when": "first"},
                {"when": "first", "count": 3},
                {"when": "last", "count": 10},
                {"when": "at", "steps": [0, 3, 7]},
            ],
            "fills": ["mean"],
        },
    }


def test_what_is_not_said_is_left_to_the_service(service: FakeService) -> None:
    assert asked(service, "scored", "--threshold", 0.1) == {"model": "scored", "grid": {"thresholds": [0.1]}}


def test_components_are_kept_on_every_schedule(service: FakeService) -> None:
    body = asked(service, "scored", "--keep", 8, "--keep", 16, "--schedule", "every", "--schedule", "last:10")
    last = {"when": "last", "count": 10}
    assert body["prunes"] == [
        {"keep": 8, "schedule": {"when": "every"}},
        {"keep": 8, "schedule": last},
        {"keep": 16, "schedule": {"when": "every"}},
        {"keep": 16, "schedule": last},
    ]
    assert asked(service, "scored", "--keep", 8, "--fill", "zero")["prunes"] == [{"keep": 8, "fill": "zero"}]


def test_shares_rankings_and_what_is_read_have_options(service: FakeService) -> None:
    body = asked(service, "scored", "--remove-fraction", 0.66, "--of", "c", "--of", "read", "--fill", "mean")
    assert body["grid"] == {"remove_fractions": [0.66], "of": ["c", "read"], "fills": ["mean"]}
    kept = ("--keep", 8, "--keep-fraction", 0.3, "--by", "deviation", "--by", "magnitude", "--of", "read")
    body = asked(service, "scored", *kept)
    read = {"by": "magnitude", "of": "read"}
    assert body["prunes"] == [
        {"keep": 8, "by": "deviation"},
        {"keep": 8, **read},
        {"keep_fraction": 0.3, "by": "deviation"},
        {"keep_fraction": 0.3, **read},
    ]
    assert "grid" not in body
    searched = asked(service, "scored", "--search", "drift", "--budget", 0.1, "--of", "read")["search"]
    assert searched == {"measure": "drift", "budget": 0.1, "of": "read"}


def test_a_search_has_its_budget_schedule_and_trials(service: FakeService) -> None:
    options = ["--search", "accuracy", "--budget", 0.02, "--trials", 5, "--schedule", "last:10", "--fill", "mean"]
    assert asked(service, "scored", *options) == {
        "model": "scored",
        "search": {
            "measure": "accuracy",
            "budget": 0.02,
            "trials": 5,
            "schedule": {"when": "last", "count": 10},
            "fill": "mean",
        },
    }


def test_how_samples_are_made_and_measured_is_reported(service: FakeService) -> None:
    options: dict[str, Any] = {
        "--label": 3,
        "--samples": 2,
        "--measure": "fid",
        "--extractor": "inception",
        "--reference": "photos",
        "--sampler": "euler",
        "--steps": 20,
        "--guidance": 1.5,
        "--seed": 7,
    }
    words = [word for option in options.items() for word in option]
    body = asked(service, "scored", "--threshold", 0.1, *words, "--label", 4, "--measure", "drift")
    assert body == {
        "model": "scored",
        "grid": {"thresholds": [0.1]},
        "labels": [3, 4],
        "samples_per_label": 2,
        "measures": ["fid", "drift"],
        "extractor": "inception",
        "reference": "photos",
        "sampler": "euler",
        "steps": 20,
        "guidance_scale": 1.5,
        "seed": 7,
    }


def test_conditions_take_the_place_of_labels(service: FakeService) -> None:
    options = ["--threshold", 0.1, "--conditions", "0" * 64, "--row", 1, "--row", 2]
    body = asked(service, "sound", *options)
    assert (body["conditions"], body["rows"]) == ("0" * 64, [1, 2])


def test_a_whole_request_is_read_from_a_file_and_sent_as_it_is(service: FakeService, tmp_path: Path) -> None:
    body = {"model": "scored", "prunes": [{"keep": 3}], "grid": [{"thresholds": [1]}], "targets": "photos"}
    (tmp_path / "study.json").write_text(json.dumps(body))
    assert asked(service, "--body", tmp_path / "study.json") == body


def test_the_scores_are_shown_with_their_intervals_and_what_they_are_of(service: FakeService) -> None:
    shown = study("scored", "--threshold", 0.1).stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert rows[:4] == [
        ["baseline", "–", "1.25", "0.5", "0.97", "–", "–"],
        ["", "", "", "±0.0625", "0.93–0.99", "", ""],
        ["tail 0.1", "50%", "2.5", "0.75", "0.96", "0.125", "–"],
        ["", "", "", "±0.125", "0.91–0.98", "", ""],
    ]
    assert "scored: 100 samples of each variant" in shown
    assert "fid: Fréchet distance (shapes-classifier), against shapes" in shown
    assert "accuracy ↑" in shown
    assert "drift ↓" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_files_of_a_reference_that_were_passed_over_are_shown(service: FakeService) -> None:
    service.result = STUDY | {"references": {"photos": {"images": 8, "passed_over": {".jp2": 2, "": 1}}}}
    assert "photos: 8 images, and 2 .jp2, 1 of other kinds passed over" in study("scored", "--threshold", 0.1).stdout


def test_measures_that_do_not_fit_one_table_are_in_another(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "64")
    rows = [line for line in study("scored", "--threshold", 0.1).stdout.splitlines() if "tail 0.1" in line]
    assert [row.count("│") for row in rows] == [7, 4]  # four measures, and the fifth, which has no value
    assert rows[1].split("│")[3].strip() == "–"


def test_where_no_table_fits_each_variant_has_a_line_for_each_measure(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    lines = study("scored", "--threshold", 0.1).stdout.splitlines()
    at = lines.index("tail 0.1")
    assert lines[at + 1 : at + 5] == [
        "  removed: 50%",
        "  fid ↓: 2.5",
        "  kid ↓: 0.75 ±0.125",
        "  accuracy ↑: 0.96 0.91–0.98",
    ]


def test_a_search_is_shown_with_what_it_tried(service: FakeService) -> None:
    said = study("scored", "--search", "drift", "--budget", 0.2).stdout
    assert "search by drift, budget 0.2: threshold 0.1 removes 50%" in said
    assert [cell.strip() for cell in said.splitlines()[-3].split("│")[1:-1]] == ["0.1", "50%", "0.125", "yes"]


def test_a_search_by_modulation_error_is_shown_without_scores(service: FakeService) -> None:
    service.result = STUDY | {"measures": [], "search": STUDY["search"] | {"measure": "modulation-error"}}
    said = study("scored", "--search", "modulation-error", "--budget", 0.2).stdout
    assert "search by modulation-error, budget 0.2: threshold 0.1 removes 50%" in said
    assert "samples of each variant" not in said


def test_scores_and_searches_of_too_few_samples_are_marked(service: FakeService) -> None:
    few = copy.deepcopy(STUDY)
    note = "100 samples are fewer than the 469 that 96 features need"
    few["variants"][0]["scores"]["fid"] |= {"reliable": False, "note": note}
    few["search"]["reliable"] = False
    service.result = few
    said = study("scored", "--threshold", 0.1, "--search", "drift", "--budget", 0.2).stdout
    assert f"† cannot be compared: {note}" in " ".join(said.split())
    assert "1.25†" in said
    assert "2.5†" not in said
    assert [cell.strip() for cell in said.splitlines()[-4].split("│")[1:-1]] == ["0.1", "50%", "0.125†", "yes"]
    service.result = STUDY
    assert "†" not in study("scored", "--threshold", 0.1).stdout


def test_a_search_that_found_nothing_says_so(service: FakeService) -> None:
    nothing = {"threshold": None, "fraction": None}
    service.result = STUDY | {"search": STUDY["search"] | nothing}
    said = study("scored", "--search", "drift", "--budget", 0.2).stdout
    assert "no threshold was within the budget" in said


def test_the_result_is_printed_as_json_when_asked(service: FakeService) -> None:
    printed = json.loads(study("scored", "--threshold", 0.1, "--json").stdout)
    assert [variant["name"] for variant in printed["result"]["variants"]] == ["baseline", "tail 0.1"]
    assert printed["links"]["artifacts"].keys() == STUDY_FILES.keys()


def test_the_exports_are_saved(service: FakeService, tmp_path: Path) -> None:
    said = study("scored", "--threshold", 0.1, "--save", tmp_path / "study")
    assert {path.name: path.read_bytes() for path in (tmp_path / "study").iterdir()} == {
        name: content for name, (content, _) in STUDY_FILES.items()
    }
    assert said.stderr.count("written: ") == len(STUDY_FILES)


def test_an_export_that_there_is_not_is_not_saved(service: FakeService, tmp_path: Path) -> None:
    service.result = STUDY | {"exports": STUDY["exports"] | {"png": None, "svg": None}}
    study("scored", "--threshold", 0.1, "--save", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.csv", "study.json", "study.md"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name a model"),
        (["scored", "--schedule", "sometimes"], "'sometimes' is none of every, first, first:3, last:10"),
        (["scored", "--schedule", "last:0"], "'last:0' is none of"),
        (["scored", "--schedule", "last"], "'last' is none of"),
        (["scored", "--schedule", "every:2"], "'every:2' is none of"),
        (["scored", "--schedule", "at"], "'at' is none of"),
        (["scored", "--schedule", "at:1,"], "'at:1,' is none of"),
        (["scored", "--keep", "3", "--side", "head"], "goes with --threshold"),
        (["scored", "--threshold", "1", "--by", "deviation"], "goes with --keep"),
        (["scored", "--budget", "1"], "goes with --search"),
        (["scored", "--threshold", "1", "--trials", "3"], "goes with --search"),
        (["scored", "--search", "drift"], "needs --budget"),
        (["scored", "--search", "lpips", "--budget", "1"], "lpips"),
        (
            ["scored", "--search", "drift", "--budget", "1", "--fill", "zero", "--fill", "mean"],
            "a search takes only one",
        ),
        (["--body", "none.json"], "does not exist"),
        (["--body", "list.json"], "holds no JSON object"),
        (["--body", "broken.json"], "is not JSON"),
        (["--body", "whole.json", "scored"], "leave the other options out"),
        (["--body", "whole.json", "--seed", "1"], "leave the other options out"),
        (["--body", "whole.json", "--schedule", "every"], "leave the other options out"),
    ],
)
def test_a_command_that_makes_no_request_is_refused_before_it_is_sent(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, content in (("list", "[]"), ("broken", "{"), ("whole", '{"model": "scored"}')):
        (tmp_path / f"{name}.json").write_text(content)
    said = study(*arguments)
    assert (said.exit_code, service.bodies) == (2, [])
    assert why in said.stderr


def test_a_refused_study_is_explained_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {
        "type": "urn:tailprune:problem:invalid-request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "one thing is wrong with the request; see errors",
        "errors": [{"location": "body.reference", "message": "no reference 'moon' is registered; known: shapes"}],
    }
    real = httpx.Client
    refusing = httpx.MockTransport(lambda _: httpx.Response(422, json=refusal))
    monkeypatch.setattr("httpx.Client", lambda **options: real(**options, transport=refusing))
    said = study("scored", "--threshold", 0.1, "--reference", "moon")
    assert said.exit_code == 1
    assert "--reference: no reference 'moon' is registered" in said.stderr


def test_numbers_that_json_lacks_are_sent_for_the_service_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    real = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(422)

    refusing = httpx.MockTransport(answer)
    monkeypatch.setattr("httpx.Client", lambda **options: real(**options, transport=refusing))
    said = study("scored", "--threshold", "nan", "--reference", "\udcff")
    assert (said.exit_code, "Traceback" in said.output) == (1, False)
    assert json.loads(sent[0])["reference"] == "\udcff"
    assert b"NaN" in sent[0]


def test_a_study_that_failed_is_printed_as_json_before_it_is_reported(service: FakeService) -> None:
    service.outcome = {"status": "failed", "problem": problem("failed", "the latents are not finite")}
    said = study("scored", "--threshold", 0.1, "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout)["problem"]["detail"] == "the latents are not finite"
    assert said.stderr.endswith("failed: the latents are not finite\n")
