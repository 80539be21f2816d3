"""The job `register`: what it adds, and what it refuses before anything is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from safetensors.torch import load_file, save_file

from jobs.keys import job_key
from jobs.records import Job
from jobs.registry import registration
from jobs.registry.added import AddedStore
from jobs.registry.digests import content_digest
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.requests.register import RegisterRequest
from jobs.results import RegisterResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tests.hub import answer_here
from tests.registry import extend
from tests.tiny_model import CLASSES, NAME, TINY_DIT
from tests.workers.conftest import Submit
from workers.lease import Preempted
from workers.worker import Worker

SIT: dict[str, Any] = {"family": "sit", "num_heads": 2}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The folder of the registry is one of checkpoints too."""
    return settings.model_copy(update={"model_folders": str(settings.registry.parent)})


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


@pytest.fixture
def added(redis_client: redis.Redis) -> AddedStore:
    return AddedStore(redis_client)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are inspected in this process, which has torch imported."""
    monkeypatch.setattr("jobs.registry.registration.science", answer_here(monkeypatch))


@pytest.fixture
def register(worker: Worker, store: JobStore, settings: Settings) -> Any:
    """Does the job of a request, as it is resolved by the service; the finished job."""

    def register(name: str = "mine", before: Any = None, **body: Any) -> Job:
        asked = RegisterRequest(name=name, **{"source": f"{NAME}.safetensors", **SIT, **body})
        assets = EvaluationAssets.from_registry(Registry.read(settings.registry))
        request = asked.resolve(worker.context.catalogue.folders, assets)
        job, _ = store.submit(request, job_key("register", request.model_dump(), "", {}))
        if before is not None:
            before()
        worker.run(job.id)
        return store.get(job.id)

    return register


def detail(job: Job) -> str:
    assert (job.status, job.result) == ("failed", None)
    assert job.problem is not None
    assert job.problem.type.endswith(":failed")
    return job.problem.detail


@pytest.mark.usefixtures("near")
def test_an_added_model_samples_as_the_same_file_of_the_registry(
    register: Any, worker: Worker, store: JobStore, submit: Submit, settings: Settings
) -> None:
    job = register(class_names=CLASSES, decoder="pixels", reference="shapes", classifier="shapes-classifier")
    result = RegisterResult.model_validate(job.result)
    digest = content_digest(settings.registry.parent / f"{NAME}.safetensors", settings.data_dir)
    assert (result.model.name, result.model.digest, result.family) == ("mine", digest, "sit")
    assert (result.classes, result.null_condition, result.latent_shape) == (4, True, [3, 8, 8])
    entry = worker.context.models.entry("mine")
    whole = worker.context.models.entry(NAME)
    assert (entry.names, entry.reference, entry.extractor) == (whole.names, "shapes", "inception")
    made = {}
    for name in ("mine", NAME):
        sampled = submit(model=name, steps=4, sampler="euler", labels=["star"], guidance_scale=2.0)
        worker.run(sampled.id)
        done = store.get(sampled.id)
        assert done.status == "succeeded", done.problem
        made[name] = (
            done.artifacts["latents.safetensors"].digest
            if "latents.safetensors" in done.artifacts
            else (done.result or {})["variants"][0]["embedding"]
        )
    assert made["mine"] == made[NAME]


@pytest.mark.usefixtures("near")
def test_what_is_assumed_is_in_the_result_by_the_fields_of_the_request(register: Any) -> None:
    job = register(source=f"{TINY_DIT}.pt", family="dit", num_heads=2)
    assert job.result["assumptions"] == [
        "uses the weights under 'ema': choose with key",
        "4 classes and the null condition; classes 5 if the last row is a class too",
    ]


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"source": "condition-only.safetensors"}, "condition-only.safetensors"),
        ({"source": "classifier.safetensors"}, "classifier.safetensors"),
        ({"source": "classes.txt"}, "classes.txt"),
        ({"family": "mdt"}, "does not fit mdt"),
        ({"class_names": ["one", "two"]}, "there are 2 names, and the model has 4 classes"),
        ({"decoder": "sd-vae", "decoder_source": "tiny-dit.pt"}, "decoder 'sd-vae' takes 4 channels"),
        ({"family": None}, "give family, one of"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_added(
    register: Any, added: AddedStore, body: dict[str, Any], why: str
) -> None:
    assert why in detail(register(**body))
    assert added.all() == {}


@pytest.mark.usefixtures("near")
def test_damaged_weights_are_refused(register: Any, added: AddedStore, settings: Settings) -> None:
    tensors = load_file(settings.registry.parent / f"{NAME}.safetensors")
    tensors["final_layer.linear.bias"][0] = float("inf")
    save_file(tensors, settings.registry.parent / "damaged.safetensors")
    assert "holds NaN or infinity" in detail(register(source="damaged.safetensors"))
    assert added.all() == {}


def test_a_file_that_is_not_on_the_workers_machine_is_named_as_registered(
    register: Any, added: AddedStore, settings: Settings
) -> None:
    file = settings.registry.parent / f"{NAME}.safetensors"
    said = detail(register(before=file.unlink))
    assert said.startswith(f"source: {file} is not on this worker's machine: its folder has to be at the same place")
    assert added.all() == {}


def test_a_link_that_leads_out_by_the_time_the_job_runs_is_refused(
    register: Any, added: AddedStore, settings: Settings, tmp_path: Path
) -> None:
    file = settings.registry.parent / f"{NAME}.safetensors"

    def swap() -> None:
        file.rename(tmp_path / "elsewhere.safetensors")
        file.symlink_to(tmp_path / "elsewhere.safetensors")

    assert "leads out of the folders" in detail(register(before=swap))
    assert added.all() == {}


@pytest.mark.usefixtures("near")
def test_a_file_that_changes_while_it_is_read_is_refused(
    register: Any, added: AddedStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = registration.inspect

    def changing(source: str, *rest: Any) -> Any:
        found = inspect(source, *rest)
        Path(source).write_bytes(Path(source).read_bytes() + b" ")
        return found

    monkeypatch.setattr(registration, "inspect", changing)
    assert "was written to while it was read" in detail(register())
    assert added.all() == {}


@pytest.mark.usefixtures("near")
def test_a_name_that_was_taken_meanwhile_is_refused(register: Any, added: AddedStore) -> None:
    assert register(title="first").status == "succeeded"
    first = added.get("mine")
    assert "there is a model 'mine' already" in detail(register(title="second"))
    assert added.get("mine") == first


@pytest.mark.usefixtures("near")
def test_a_name_that_only_the_worker_has_in_its_registry_is_refused(
    settings: Settings, redis_client: redis.Redis, store: JobStore, added: AddedStore
) -> None:
    entry = {"family": "sit", "checkpoint": "a.pt", "classes": 4, "condition_dim": 32, "latent_shape": [3, 8, 8]}
    extend(settings.registry, {"models": {"mine": entry}})
    path = str(settings.registry.parent / f"{NAME}.safetensors")
    job, _ = store.submit(RegisterRequest(name="mine", source=path, **SIT), "key")
    Worker(settings, "worker").run(job.id)
    assert "there is a model 'mine' already" in detail(store.get(job.id))
    assert added.all() == {}


def test_a_stopped_job_ends_the_process_that_reads(processes: None) -> None:
    def stop() -> None:
        raise Preempted

    before = psutil.Process().children()
    with pytest.raises(Preempted):
        registration.science(["inspect", "/nothing.pt"], stop)
    assert psutil.Process().children() == before


def test_the_process_that_reads_says_what_a_checkpoint_is_and_a_bug_is_not_the_clients(
    processes: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(settings.registry.parent / f"{NAME}.safetensors")
    found = registration.inspect(path, SIT, lambda: None)
    assert (found["family"], found["configuration"]["num_heads"]) == ("sit", 2)
    monkeypatch.setenv("PYTHONPATH", str(settings.registry.parent))
    monkeypatch.chdir(settings.registry.parent)
    (settings.registry.parent / "tailprune.py").write_text("raise KeyError('a bug')")
    with pytest.raises(RuntimeError, match="a bug"):
        registration.inspect(path, SIT, lambda: None)
