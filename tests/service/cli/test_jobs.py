"""`tailprune jobs`, against the application on a real store: list, show, watch, cancel and save."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from jobs.problems import problem
from jobs.records import Job
from jobs.settings import Settings
from jobs.store.leases import Claim, LeaseStore
from service.cli import app
from service.cli.client import Client
from tests.service.conftest import REQUEST
from tests.service.keys import bearer, make_keys
from tests.service.results import PICTURE

Done = Callable[[str], Job]


@pytest.fixture(autouse=True)
def _service(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is the service that commands find; its client is one of httpx too."""

    class Sharing:
        """The client of the application, which stays open."""

        def __init__(self, **options: Any) -> None:
            self.base_url = options["base_url"].copy_with(path="/")

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def close(self) -> None:
            pass

    monkeypatch.setattr("httpx.Client", Sharing)
    monkeypatch.setenv("COLUMNS", "200")


def jobs(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["jobs", *map(str, arguments)])


@pytest.fixture
def post(client: TestClient) -> Callable[..., str]:
    """Posts a job; its id."""

    def post(seed: int = 0, **fields: Any) -> str:
        return str(client.post("/prune-sample", json=REQUEST | {"seed": seed, **fields}).json()["id"])

    return post


Post = Callable[..., str]


def test_jobs_are_listed_the_newest_first_over_all_pages(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailprune_client.methods.PAGE", 2)
    ids = [post(seed) for seed in range(5)]
    lines = jobs("list").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ids[::-1]
    assert all("prune-sample of shapes-sit at " in line for line in lines)
    assert len(jobs("list", "--limit", 3).stdout.splitlines()) == 1 + 3


def test_jobs_are_listed_by_kind_status_and_model(post: Post, done: Done) -> None:
    first, second = post(0), post(1)
    done(first)
    assert [job["id"] for job in json.loads(jobs("list", "--status", "queued", "--json").stdout)] == [second]
    assert [job["id"] for job in json.loads(jobs("list", "--model", "shapes-sit", "--json").stdout)] == [second, first]
    assert json.loads(jobs("list", "--kind", "study", "--json").stdout) == []
    said = jobs("list", "--kind", "studies")
    assert said.exit_code == 1
    assert "--kind: Input should be" in said.stderr


def test_the_list_says_why_jobs_failed(post: Post, claim: Callable[[str], Claim], leases: LeaseStore) -> None:
    failed = post()
    leases.fail(claim(failed), problem("failed", "the latents are not finite"))
    assert f"{failed} failed: the latents are not finite" in jobs("list").stdout


def test_an_empty_list_is_said_to_be_empty() -> None:
    said = jobs("list")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "no jobs\n")


def test_a_job_is_shown_with_its_request_its_result_and_where_its_files_are(post: Post, done: Done) -> None:
    made = done(post(7))
    said = jobs("show", made.id).stdout
    assert "seed               7" in said
    assert "shapes-sit: 1 samples of each variant" in said
    assert f"http://127.0.0.1:8000/jobs/{made.id}/artifacts/grid.png" in said
    assert json.loads(jobs("show", made.id, "--json").stdout) == made.public()


def test_watching_a_job_that_has_finished_shows_its_result_at_once(post: Post, done: Done) -> None:
    said = jobs("watch", done(post()).id)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "baseline" in said.stdout


def test_watching_a_job_that_failed_or_was_cancelled_has_another_status(
    post: Post, claim: Callable[[str], Claim], leases: LeaseStore
) -> None:
    failed, cancelled = post(0), post(1)
    leases.fail(claim(failed), problem("failed", "the latents are not finite"))
    jobs("cancel", cancelled)
    said = jobs("watch", failed)
    assert (said.exit_code, said.stdout) == (1, "")
    assert f"job {failed} failed: the latents are not finite" in said.stderr
    said = jobs("watch", cancelled, "--json")
    assert (said.exit_code, json.loads(said.stdout)["status"]) == (3, "cancelled")


def test_several_jobs_are_cancelled_and_each_that_cannot_be_is_told(
    post: Post, done: Done, claim: Callable[[str], Claim]
) -> None:
    finished, queued, running = (post(seed) for seed in range(3))
    done(finished)
    claim(running)
    said = jobs("cancel", finished, queued, running)
    assert said.exit_code == 1
    assert said.stdout.splitlines() == [f"{queued} cancelled", f"{running} stops at its next step"]
    assert f"{finished}: job {finished} has already succeeded" in said.stderr


def test_a_cancelled_job_that_goes_on_for_others_is_told_to(
    client: TestClient,
    post: Post,
    claim: Callable[[str], Claim],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    headers = [bearer(key) for key in make_keys(settings, ana="submit", bob="submit").values()]
    said = []
    for header in headers:
        client.headers.update(header)
        job_id = post()
    claim(job_id)
    for header in headers:
        client.headers.update(header)
        said.append(jobs("cancel", job_id).stdout.strip())
    assert said == [f"{job_id} goes on for others who asked for it", f"{job_id} stops at its next step"]


@pytest.fixture
def made(post: Post, done: Done) -> Job:
    """A job that made two files."""
    return done(post())


def test_all_files_of_a_job_are_saved_or_those_that_are_named(made: Job, tmp_path: Path) -> None:
    assert jobs("save", made.id, "grid.png", "--to", tmp_path / "one").exit_code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {"grid.png": PICTURE}
    said = jobs("save", made.id, "--to", tmp_path / "all")
    assert said.stdout.splitlines() == [str(tmp_path / "all" / name) for name in ("grid.png", "latents.safetensors")]
    assert all(Path(line).is_file() for line in said.stdout.splitlines())


def test_saving_replaces_no_file_unless_it_is_forced(made: Job, tmp_path: Path) -> None:
    (tmp_path / "grid.png").write_text("mine")
    said = jobs("save", made.id, "--to", tmp_path)
    assert said.exit_code == 1
    assert "grid.png: already there; --force replaces" in said.stderr
    assert [path.read_text() for path in tmp_path.iterdir() if path.is_file()] == ["mine"]
    assert jobs("save", made.id, "--to", tmp_path, "--force").exit_code == 0
    assert (tmp_path / "grid.png").read_bytes() == PICTURE


def test_files_that_a_job_does_not_have_are_refused(post: Post, made: Job, tmp_path: Path) -> None:
    said = jobs("save", made.id, "moon.png", "--to", tmp_path)
    assert said.exit_code == 1
    assert "has no file moon.png; it has grid.png, latents.safetensors" in said.stderr
    assert "it is queued, and has none yet" in jobs("save", post(9)).stderr


def test_a_job_that_is_not_there_is_reported() -> None:
    for command in ("show", "watch", "save"):
        said = jobs(command, "0" * 26)
        assert (said.exit_code, said.stdout) == (1, "")
        assert "No such job" in said.stderr


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://a:1", "http://a:1/jobs/1"),
        ("http://a/prefix/", "http://a/prefix/jobs/1"),
        ("https://a/prefix", "https://a/prefix/jobs/1"),
    ],
)
def test_addresses_are_shown_under_the_prefix_of_the_service(
    monkeypatch: pytest.MonkeyPatch, url: str, whole: str
) -> None:
    monkeypatch.undo()
    assert Client(url).url_of("/jobs/1") == whole


@pytest.mark.parametrize("arguments", [["show", "\udcff"], ["list", "--model", "\udcff"]])
def test_an_argument_that_is_no_text_is_refused_without_a_traceback(arguments: list[str]) -> None:
    said = jobs(*arguments)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == "tailprune: '\\udcff' is no text: it has bytes that are not utf-8\n"


def test_a_folder_that_cannot_be_made_is_reported_without_a_traceback(made: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = jobs("save", made.id, "--to", tmp_path / "file" / "folder")
    assert said.exit_code == 1
    assert said.stderr.startswith(f"tailprune: {tmp_path / 'file' / 'folder'}: ")
