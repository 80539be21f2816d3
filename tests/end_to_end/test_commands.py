"""`tailprune prune-sample` and `tailprune metrics` against a running service."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from service.cli import app
from tests.end_to_end.stack import Stack, eventually
from tests.end_to_end.test_serve import COMMAND
from tests.redis_process import free_port

runner = CliRunner()


@pytest.fixture(autouse=True)
def _usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_prune_sample_prints_a_row_for_each_variant_and_saves_the_grid(stack: Stack, tmp_path: Path) -> None:
    arguments = ["--threshold", "0.5", "--threshold", "1", "--label", "0", "--label", "star", "--samples", "2"]
    said = runner.invoke(app, ["prune-sample", "tiny", *arguments, "--save", str(tmp_path), "--url", stack.url])
    assert said.exit_code == 0, said.output
    rows = [line for line in said.output.splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["baseline", "tail 0.5", "tail 1"]
    assert all("…" not in row for row in rows)
    assert "%)" in rows[1]
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_class_that_does_not_exist_is_reported_with_the_closest_name(stack: Stack) -> None:
    said = runner.invoke(app, ["extract", "tiny", "--label", "cricle", "--url", stack.url])
    assert said.exit_code == 1
    assert "the closest name is 'circle', label 0" in " ".join(said.stderr.split())


def test_prune_sample_prints_json_when_asked(stack: Stack) -> None:
    said = runner.invoke(app, ["prune-sample", "tiny", "--keep", "8", "--json", "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert [variant["name"] for variant in json.loads(said.stdout)["result"]["variants"]] == ["baseline", "keep 8"]


def test_metrics_prints_the_statistics_and_the_sparsity(stack: Stack) -> None:
    said = runner.invoke(app, ["metrics", "tiny", "--part", "y", "--threshold", "0.25", "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert "4 vectors y" in said.output
    for word in ("nPR", "cosine", "0.25", "components for 90% of variance"):
        assert word in said.output


def test_figure_writes_the_format_that_the_file_is_named_for(stack: Stack, tmp_path: Path) -> None:
    for name, begin in (("cosine.png", b"\x89PNG"), ("cosine.svg", b"<?xml")):
        arguments = ["tiny", "cosine", "--classes", "3", "--out", str(tmp_path / "figures" / name)]
        said = runner.invoke(app, ["figure", *arguments, "--url", stack.url])
        assert said.exit_code == 0, said.output
        assert (tmp_path / "figures" / name).read_bytes().startswith(begin)


def test_figure_refuses_a_file_of_another_format_and_an_option_that_does_not_apply(
    stack: Stack, tmp_path: Path
) -> None:
    said = runner.invoke(app, ["figure", "tiny", "cosine", "--out", str(tmp_path / "a.pdf"), "--url", stack.url])
    assert said.exit_code == 2
    arguments = ["tiny", "histogram", "--side", "head", "--out", str(tmp_path / "a.png")]
    refused = runner.invoke(app, ["figure", *arguments, "--url", stack.url])
    assert refused.exit_code == 1
    assert "--side: side is not an option of the figure 'histogram'" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_extract_prints_the_shapes_and_writes_the_vectors(stack: Stack, tmp_path: Path) -> None:
    out = tmp_path / "vectors.safetensors"
    arguments = ["tiny", "--timestep", "0", "--timestep", "0.5", "--label", "3", "--part", "c", "--out", str(out)]
    said = runner.invoke(app, ["extract", *arguments, "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert "2 x 1 x 32" in said.output
    tensors = load_file(out)
    assert (tensors.keys(), tensors["labels"].tolist()) == ({"c", "timesteps", "labels"}, [3])


def test_extract_without_a_file_says_where_it_is(stack: Stack) -> None:
    said = runner.invoke(app, ["extract", "tiny", "--json", "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["result"]["counts"] == {"timesteps": 1, "inputs": 4, "dim": 32}
    save = f"`tailprune jobs save {json.loads(said.stdout)['id']} --url {stack.url}`"
    assert said.stderr.endswith(f"--out FILE writes them, and so does {save}\n")


def test_a_refused_request_is_explained_without_a_traceback(stack: Stack) -> None:
    said = runner.invoke(app, ["prune-sample", "tiny", "--threshold", "-1", "--label", "9", "--url", stack.url])
    assert said.exit_code == 1
    assert "--threshold: Input should be greater than or equal to 0" in said.stderr
    unknown = runner.invoke(app, ["metrics", "giant", "--url", stack.url])
    assert unknown.exit_code == 1
    assert "known models: tiny" in unknown.stderr


def test_without_a_service_the_way_out_is_named() -> None:
    for command in (["metrics", "tiny"], ["models", "remove", "tiny-compact-0"]):
        said = runner.invoke(app, [*command, "--url", f"http://127.0.0.1:{free_port()}"])
        assert said.exit_code == 1
        assert "tailprune serve" in said.stderr
        assert "[Errno" in said.stderr  # and not taken for markup


def test_an_interrupted_command_leaves_its_job_running(stack: Stack) -> None:
    arguments = ["tiny", "--threshold", "0.5", "--steps", "1000", "--samples", "60", "--seed", "99"]
    client = subprocess.Popen([*COMMAND, "prune-sample", *arguments, "--url", stack.url], stderr=subprocess.PIPE)

    def running() -> list[str]:
        listed = stack.http.get("/jobs", params={"status": "running"}).json()["jobs"]
        return [job["id"] for job in listed]

    eventually(running, "the job runs")
    (job_id,) = running()
    try:
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=20)
        assert client.returncode == 130
        assert f"job {job_id} continues to run" in said.decode()
        assert stack.job(job_id)["status"] == "running"
    finally:
        stack.http.delete(f"/jobs/{job_id}")


def test_compact_prints_what_it_saved_and_the_new_name_and_writes_the_model(stack: Stack, tmp_path: Path) -> None:
    arguments = ["compact", "tiny", "--keep", "6", "--by", "directions", "--save", str(tmp_path), "--url", stack.url]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert "AdaLN reads 6 of 32 directions" in said.stdout
    name = said.stdout.splitlines()[-1]
    assert name.startswith("tiny-compact-")
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "card.md", "samples.png"}
    assert load_file(tmp_path / "model.safetensors")["reader.basis"].shape == (6, 32)
    sampled = runner.invoke(app, ["prune-sample", name, "--url", stack.url])
    assert sampled.exit_code == 0, sampled.output
    assert "baseline" in sampled.stdout


def test_compact_prints_json_when_asked_and_covers_what_is_given(stack: Stack) -> None:
    covered = ["--label", "0", "--label", "2", "--timestep", "0", "--timestep", "0.5", "--unguided"]
    said = runner.invoke(app, ["compact", "tiny", "--threshold", "2.2", *covered, "--json", "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["result"]["covered"] == {
        "timesteps": [0, 0.5],
        "labels": [0, 2],
        "conditions": None,
        "guided": False,
        "guidance_scale": None,
    }


def test_compact_keeps_components_that_predict_the_others(stack: Stack) -> None:
    said = runner.invoke(app, ["compact", "tiny", "--keep", "6", "--fill", "refit", "--url", stack.url])
    assert said.exit_code == 0, said.output
    assert "AdaLN reads 6 of 32 components, the others predicted" in " ".join(said.output.split())
    options = ["--threshold", "0.5", "--of", "read", "--fill", "refit", "--json", "--url", stack.url]
    job = json.loads(runner.invoke(app, ["compact", "tiny", *options]).stdout)
    assert (job["request"]["of"], job["result"]["by"], job["result"]["fill"]) == ("read", "threshold", "refit")


def test_models_remove_deletes_a_compacted_model_which_can_be_made_again(stack: Stack) -> None:
    make = ["compact", "tiny", "--keep", "5", "--by", "directions", "--url", stack.url]
    name = runner.invoke(app, make).stdout.splitlines()[-1]
    remove = ["models", "remove", name, "--url", stack.url]
    said = runner.invoke(app, remove)
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith(f"{name} is deleted")
    assert name not in [model["name"] for model in stack.http.get("/models").json()["models"]]
    again = runner.invoke(app, remove)
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"tailprune: No such model: no model is named '{name}'; known models: tiny" in again.stderr
    assert runner.invoke(app, make).stdout.splitlines()[-1] == name
    sampled = runner.invoke(app, ["prune-sample", name, "--url", stack.url])
    assert sampled.exit_code == 0, sampled.output


def test_models_remove_leaves_a_registered_model_and_says_where_it_is_taken_out(stack: Stack) -> None:
    said = runner.invoke(app, ["models", "remove", "tiny", "--url", stack.url])
    assert (said.exit_code, said.stdout) == (1, "")
    assert "'tiny' is registered" in said.stderr
    assert stack.http.get("/models/tiny").status_code == 200


def test_compact_says_what_is_wrong_with_a_request(stack: Stack) -> None:
    said = runner.invoke(app, ["compact", "tiny", "--keep", "33", "--url", stack.url])
    assert said.exit_code == 1
    assert "--keep: keep 33 is more than the 32 components of tiny" in said.stderr
