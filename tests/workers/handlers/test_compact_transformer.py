"""Compacted large transformers, against what the library makes of the same files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
import redis
from safetensors.torch import save_file

from jobs.compact_transformer_results import CompactTransformerResult
from jobs.records import Job
from jobs.requests.compact_transformer import CompactTransformerRequest
from jobs.settings import Settings
from jobs.storage.condition_info import ConditionInfo
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore
from jobs.store.jobs import JobStore
from tailprune.spec.safetensors import write_file
from tailprune.transformers import compact, verify, writing
from tests.condition_files import TEXT, arrays, npz, safetensors
from tests.tailprune.transformers.original import as_bfl, as_minimax
from tests.tailprune.transformers.tiny_models import TINY, share_embedders
from tests.workers.handlers.conftest import TRANSFORMER, Does, Submits, detail
from workers.handlers import compact_transformer
from workers.lease import Cancelled, Preempted, Run

FIELDS: dict[str, Any] = {"steps": 4, "scheduler": "plain", "pooled": "zero"}


@pytest.fixture
def submitted(submitted: Submits) -> Submits:
    """Submits a request with these fields, of pooled texts that were uploaded if they are given."""

    def of_fields(texts: ConditionInfo | None = None, **fields: Any) -> Job:
        named = {} if texts is None else {"population": texts.id}
        return submitted(CompactTransformerRequest(model=TRANSFORMER, **fields, **named), texts)

    return of_fields


@pytest.fixture
def conditions(store: JobStore, redis_client: redis.Redis) -> ConditionStore:
    return ConditionStore(store.artifacts, redis_client)


@pytest.fixture
def texts(conditions: ConditionStore, settings: Settings) -> ConditionInfo:
    """Three pooled texts that were uploaded, as wide as those of the small FLUX.1."""
    return conditions.put(parse(npz(arrays(TEXT, 3)), settings))


def downloaded(job: Job, store: JobStore, folder: Path) -> Path:
    """The folder that a client has of the files of a job."""
    folder.mkdir()
    for name, artifact in job.artifacts.items():
        (folder / name).write_bytes(store.artifacts.read(artifact))
    return folder


def work(settings: Settings) -> list[Path]:
    return [each for each in (settings.data_dir / "incoming").glob("*") if each.name.startswith("compact-")]


@pytest.mark.parametrize(
    ("name", "fields"),
    [("flux", {"steps": 4, "guidance": [1.0, 3.5], "pooled": "zero"}), ("dit", {"rank": 5, "classes": [3, 1]})],
)
def test_the_files_are_those_that_the_library_writes(
    name: str,
    fields: dict[str, Any],
    folder: Path,
    submitted: Submits,
    done: Does,
    store: JobStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    whole: Any = TINY[name].build()
    share_embedders(whole)
    whole.save_pretrained(folder / "transformer", max_shard_size="60KB")
    job = done(submitted(**fields, scheduler="plain" if "steps" in fields else None))
    assert job.status == "succeeded", job.problem
    result = CompactTransformerResult.model_validate(job.result)
    written = compact(folder, tmp_path / "own", **fields)
    assert (result.rank, result.error, result.worst_error) == (written.rank, written.error, written.worst_error)
    assert (result.error_between, result.covers) == (written.error_between, written.covers)
    for change, before_and_after in [
        (result.parameters, written.parameters),
        (result.adaln_parameters, written.adaln_parameters),
        (result.bytes, written.bytes),
    ]:
        assert (change.before, change.after) == before_and_after
    assert len(result.sources) > 1
    assert result.sources == written.sources
    small = downloaded(job, store, tmp_path / "small")
    assert {each.name: each.read_bytes() for each in small.iterdir()} == {
        each.name: each.read_bytes() for each in (tmp_path / "own").iterdir()
    }
    assert result.files == {name: artifact.digest for name, artifact in job.artifacts.items()}
    assert {result.card, result.account} < set(job.artifacts)
    verify(small, folder)
    assert str(tmp_path / "data") not in json.dumps(job.public()) + (small / "compaction.json").read_text()
    assert work(settings) == []


def test_a_file_under_the_original_names_is_compacted_as_it_is(
    folder: Path, submitted: Submits, done: Does, store: JobStore, tmp_path: Path
) -> None:
    whole: Any = TINY["flux"].save(tmp_path / "whole")
    folder.mkdir()
    (folder / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    save_file(as_bfl(whole.state_dict()), folder / "model.safetensors")
    job = done(submitted(**FIELDS))
    assert job.status == "succeeded", job.problem
    small = downloaded(job, store, tmp_path / "small")
    assert verify(small, tmp_path / "whole") == verify(small, folder)
    assert "had the names of BFL and ComfyUI, and have those of diffusers" in (small / "README.md").read_text()


@pytest.mark.parametrize("pooled", [None, "zero", "mean"])
def test_a_population_that_was_uploaded_is_that_of_the_library(
    pooled: Any,
    texts: ConditionInfo,
    folder: Path,
    submitted: Submits,
    done: Does,
    store: JobStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    TINY["flux"].save(folder)
    job = done(submitted(texts, steps=4, scheduler="plain", pooled=pooled))
    assert job.status == "succeeded", job.problem
    (tmp_path / "own.safetensors").write_bytes(safetensors({"prompts": arrays(TEXT, 3)["pooled"].astype("float16")}))
    given = {"population": tmp_path / "own.safetensors", "pooled": pooled}
    written = compact(folder, tmp_path / "own", steps=4, **given)
    small = downloaded(job, store, tmp_path / "small")
    assert {each.name: each.read_bytes() for each in small.iterdir()} == {
        each.name: each.read_bytes() for each in (tmp_path / "own").iterdir()
    }
    result = CompactTransformerResult.model_validate(job.result)
    assert (result.text_error, result.covers, result.rank) == (written.text_error, written.covers, written.rank)
    assert (result.text_error is None) == (pooled is None)
    assert "population.safetensors" in result.files
    verify(small, folder)
    assert work(settings) == []
    other = ConditionInfo(**texts.model_dump() | {"id": "5" * 64})
    assert submitted(other, steps=4, scheduler="plain", pooled=pooled).id != job.id


def test_texts_that_are_gone_fail_the_job_which_leaves_nothing(
    texts: ConditionInfo,
    conditions: ConditionStore,
    folder: Path,
    submitted: Submits,
    done: Does,
    store: JobStore,
    settings: Settings,
) -> None:
    TINY["flux"].save(folder)
    conditions.remove(texts.id)
    assert f"no conditions have the id '{texts.id[:60]}" in detail(done(submitted(texts, steps=4, scheduler="plain")))
    assert work(settings) == []


@pytest.mark.parametrize("rows", ["stacked", "interleaved"])
def test_a_minimax_h3_under_its_original_names_is_compacted_in_the_order_that_is_given(
    rows: Any, folder: Path, submitted: Submits, done: Does, store: JobStore, tmp_path: Path
) -> None:
    whole: Any = TINY["minimax-h3"].save(tmp_path / "whole")
    folder.mkdir()
    (folder / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    save_file(as_minimax(whole.state_dict(), 2, rows), folder / "model.safetensors")
    job = done(submitted(rank=3, qkv=rows))
    assert job.status == "succeeded", job.problem
    small = downloaded(job, store, tmp_path / "small")
    assert verify(small, tmp_path / "whole") == verify(small, folder, qkv=rows)
    result = CompactTransformerResult.model_validate(job.result)
    assert f"The rows of q, k and v in qkv_proj were taken to be {rows}." in result.notes
    card = (small / "README.md").read_text()
    assert all(f"- {note}\n" in card for note in result.notes)


def test_the_times_are_those_of_the_models_own_scheduler(
    folder: Path, submitted: Submits, done: Does, store: JobStore
) -> None:
    TINY["qwen"].save(folder / "transformer")
    (folder / "scheduler").mkdir()
    said = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(said))
    job = submitted(steps=3, resolutions=[[64, 32]])
    result = CompactTransformerResult.model_validate(done(job).result)
    assert result.covers == "the scheduler's times of 3 steps at 64x32"
    again = submitted(steps=3, resolutions=[[64, 32]])
    assert again.id == job.id
    config.write_text(json.dumps(said | {"base_shift": 0.6}))
    other = submitted(steps=3, resolutions=[[64, 32]])
    assert other.id != job.id
    config.write_text(json.dumps(said))
    assert "is not the model of the request" in detail(done(other))


def test_what_would_be_no_smaller_fails_the_job_and_leaves_nothing(
    folder: Path, submitted: Submits, done: Does, settings: Settings
) -> None:
    TINY["flux"].save(folder)
    text = detail(done(submitted(**FIELDS | {"steps": 60})))
    assert text.startswith("flux: with ")
    assert "it would be no smaller" in text
    assert work(settings) == []


def test_files_that_are_written_to_meanwhile_are_not_stored(
    folder: Path, submitted: Submits, done: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder)
    job = submitted(**FIELDS)

    def meanwhile(*arguments: Any, **fields: Any) -> Any:
        found = compact(*arguments, **fields)
        (folder / "config.json").write_text("{}")
        return found

    monkeypatch.setattr(compact_transformer, "compact", meanwhile)
    assert "were written to while they were read" in detail(done(job))


class Interrupted:
    """Stops a job in its second file, once."""

    def __init__(self, reason: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reason: Exception | None = reason
        self.first: list[int] = []
        """The bytes that each attempt had when it first reported."""
        monkeypatch.setattr(compact_transformer, "compact", self.compact)

    def compact(self, *arguments: Any, on_bytes: Any, **fields: Any) -> Any:
        seen: list[int] = []

        def report(done: int, total: int) -> None:
            seen.append(done)
            if len(seen) == 1:
                self.first.append(done)
            on_bytes(done, total)
            if self.reason is not None and done > total / 2:
                raise self.reason

        return compact(*arguments, on_bytes=report, **fields)


def test_an_attempt_goes_on_with_the_files_of_one_that_was_interrupted(
    folder: Path, submitted: Submits, done: Does, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder, max_shard_size="60KB")
    stopped = Interrupted(Preempted(), monkeypatch)
    job = done(submitted(**FIELDS))
    assert job.status == "queued"
    (left,) = work(settings)
    finished = sorted(each.name for each in (left / ".model.partial").glob("*.done.json"))
    assert finished
    stopped.reason = None
    job = done(job)
    assert job.status == "succeeded", job.problem
    before, after = stopped.first
    assert after > before
    assert work(settings) == []


def test_a_cancelled_job_leaves_nothing(
    folder: Path, submitted: Submits, done: Does, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder, max_shard_size="60KB")
    stopped = Interrupted(Cancelled(), monkeypatch)
    done(submitted(**FIELDS))
    assert stopped.first, "it had begun"
    assert work(settings) == []


def test_a_folder_that_another_attempt_holds_is_left_to_it(
    folder: Path, submitted: Submits, done: Does, settings: Settings
) -> None:
    TINY["flux"].save(folder)
    job = submitted(**FIELDS)
    held = settings.data_dir / "incoming" / f"compact-{job.key}"
    held.mkdir(parents=True)
    (held / "model").mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert done(job).status == "succeeded"
    assert work(settings) == [held]
    assert [each.name for each in held.iterdir()] == ["model"]
    os.close(lock)


@pytest.mark.parametrize("name", ["README.md", "directions.safetensors", "population.safetensors"])
def test_a_file_that_is_missing_is_no_success(
    name: str,
    texts: ConditionInfo,
    folder: Path,
    submitted: Submits,
    done: Does,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TINY["flux"].save(folder)

    def without(source: Path, out: Path, **fields: Any) -> Any:
        found = compact(source, out, **fields)
        (out / name).unlink()
        return found

    monkeypatch.setattr(compact_transformer, "compact", without)
    assert f"{name} was deleted after it was written" in detail(done(submitted(texts, **FIELDS)))


@pytest.mark.parametrize("is_old", [False, True])
def test_an_attempt_that_was_interrupted_while_storing_is_stored_on_unless_its_artifacts_may_be_gone(
    is_old: bool,
    texts: ConditionInfo,
    folder: Path,
    submitted: Submits,
    done: Does,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TINY["flux"].save(folder, max_shard_size="60KB")
    step = Run.step
    made: list[int] = []

    def stopping(run: Run, done: int, total: int, unit: str) -> None:
        step(run, done, total, unit)
        if unit == "files" and done == total - 1 and len(made) == 1:
            raise Preempted

    def counted(*arguments: Any, **fields: Any) -> Any:
        made.append(1)
        return compact(*arguments, **fields)

    monkeypatch.setattr(Run, "step", stopping)
    monkeypatch.setattr(compact_transformer, "compact", counted)
    job = done(submitted(texts, **FIELDS))
    assert job.status == "queued"
    (left,) = work(settings)
    there = {each.name for each in (left / "model").iterdir()} - {"population.safetensors"}
    assert {Path(name).suffix for name in there} == {".json", ".md", ".py"}, "what is stored is not twice"
    if is_old:
        for note in (left / "stored").iterdir():
            os.utime(note, (0, 0))
    else:
        made.append(1)
        monkeypatch.setattr(compact_transformer, "compact", None)
    job = done(job)
    assert job.status == "succeeded", job.problem
    assert len(made) == 2
    result = CompactTransformerResult.model_validate(job.result)
    assert result.files == {name: artifact.digest for name, artifact in job.artifacts.items()}
    assert len(result.files) == len(result.sources) + 7
    assert work(settings) == []


def test_a_disk_that_is_full_leaves_what_is_finished_to_the_next_request(
    folder: Path, submitted: Submits, done: Does, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder, max_shard_size="60KB")
    written: list[Path] = []

    def full(path: Path, *content: Any) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        write_file(path, *content)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_file", full)
        job = done(submitted(**FIELDS))
    assert job.problem is not None
    assert job.problem.type == "urn:tailprune:problem:storage-full"
    assert written[0].is_file()
    stopped = Interrupted(Preempted(), monkeypatch)
    stopped.reason = None
    assert done(submitted(**FIELDS)).status == "succeeded"
    assert stopped.first[0] > 1
    assert work(settings) == []


def test_a_folder_that_is_worked_in_stays_young(
    folder: Path, submitted: Submits, done: Does, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder)
    job = submitted(**FIELDS)
    seen: list[float] = []
    held = settings.data_dir / "incoming" / f"compact-{job.key}"
    held.mkdir(parents=True)
    os.utime(held, (0, 0))
    step = Run.step

    def stepped(run: Run, *progress: Any) -> None:
        seen.append(held.stat().st_mtime)
        os.utime(held, (0, 0))
        step(run, *progress)

    monkeypatch.setattr(Run, "step", stepped)
    monkeypatch.setattr(compact_transformer, "TOUCH_SECONDS", -1.0)
    assert done(job).status == "succeeded"
    assert seen
    assert min(seen[:-1]) > 0


def test_a_scheduler_that_is_written_to_meanwhile_is_noticed(
    folder: Path, submitted: Submits, done: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["qwen"].save(folder / "transformer")
    (folder / "scheduler").mkdir()
    config = folder / "scheduler" / "scheduler_config.json"
    said = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    config.write_text(json.dumps(said))

    def meanwhile(*arguments: Any, **fields: Any) -> Any:
        found = compact(*arguments, **fields)
        config.write_text(json.dumps(said | {"shift": 3.0}))
        return found

    monkeypatch.setattr(compact_transformer, "compact", meanwhile)
    assert "or its scheduler's, were written to while they were read" in detail(done(submitted(steps=3)))


def test_a_worker_without_diffusers_says_that_the_scheduler_needs_it(
    folder: Path, submitted: Submits, done: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["qwen"].save(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    monkeypatch.setattr("tailprune.extras.find_spec", lambda name: None)
    text = detail(done(submitted(steps=3)))
    assert "this worker cannot make the times of a scheduler: this needs diffusers" in text


def test_progress_is_of_bytes_and_then_of_files(
    folder: Path, submitted: Submits, done: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder)
    seen: list[tuple[str | None, str]] = []
    step = Run.step

    def noted(run: Run, done: int, total: int, unit: str) -> None:
        seen.append((run.phase, unit))
        step(run, done, total, unit)

    monkeypatch.setattr(Run, "step", noted)
    done(submitted(**FIELDS))
    assert list(dict.fromkeys(seen)) == [("compacting", "bytes"), ("storing", "files")]
