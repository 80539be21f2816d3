"""The precision of a request: what samples are made in, and what its result says of that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
import torch
from safetensors.torch import load

import tailprune
from jobs.records import Job
from jobs.results import PruneSampleResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune.systems import choices
from tailprune.systems import speed as speeds
from tests.workers.conftest import Submit
from workers.model_pool import ModelPool
from workers.outputs import drift as drifts
from workers.worker import Worker


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


def done(worker: Worker, store: JobStore, job: Job) -> PruneSampleResult:
    worker.run(job.id)
    record = store.get(job.id)
    assert record.status == "succeeded", record.problem
    return PruneSampleResult.model_validate(record.result)


def latents(store: JobStore, job: Job) -> torch.Tensor:
    return load(store.artifacts.read(store.get(job.id).artifacts["baseline.safetensors"]))["latents"]


def test_bfloat16_is_near_to_float32_and_its_drift_is_reported(worker: Worker, submit: Submit, store: JobStore) -> None:
    wide, narrow = submit(), submit(precision="bfloat16")
    assert done(worker, store, wide).engine.model_dump(include={"dtype", "dtype_drift"}) == {
        "dtype": "float32",
        "dtype_drift": None,
    }
    engine = done(worker, store, narrow).engine
    assert engine.dtype == "bfloat16"
    first, truth = latents(store, narrow)[0], latents(store, wide)[0]
    drift = ((first - truth).norm() / truth.norm()).item()
    assert engine.dtype_drift == pytest.approx(drift, rel=0.2)
    assert 1e-5 < drift < 0.05


def test_a_drift_is_measured_once_for_all_labels_and_seeds(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    sample_plan = drifts.sample_plan
    monkeypatch.setattr(drifts, "sample_plan", lambda *given: made.append(1) or sample_plan(*given))
    first = done(worker, store, submit(precision="bfloat16")).engine
    again = done(worker, store, submit(precision="bfloat16", labels=[3], seed=5)).engine
    assert (len(made), again.dtype_drift) == (2, first.dtype_drift)
    other = done(worker, store, submit(precision="bfloat16", steps=3)).engine
    assert (len(made), other.dtype_drift == first.dtype_drift) == (4, False)


@pytest.fixture
def bfloat16_takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long each layer takes in bfloat16, where it takes 1 ms in float32."""

    def takes(milliseconds: float) -> None:
        monkeypatch.setattr(speeds, "has_bfloat16", lambda: True)
        monkeypatch.setattr(
            choices,
            "measure",
            lambda forms, dtype: dict.fromkeys(forms.calls, milliseconds if dtype == torch.bfloat16 else 1.0),
        )

    return takes


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have bfloat16")
@pytest.mark.parametrize(
    ("milliseconds", "dtype", "speed"), [(0.5, "bfloat16", 2.0), (0.99, "float32", None), (2.0, "float32", None)]
)
def test_auto_on_a_cpu_is_what_was_measured_clearly_faster(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    bfloat16_takes: Callable[[float], None],
    milliseconds: float,
    dtype: str,
    speed: float | None,
) -> None:
    bfloat16_takes(milliseconds)
    engine = done(worker, store, submit(precision="auto")).engine
    assert (engine.dtype, engine.bfloat16_speed) == (dtype, speed)
    assert (engine.dtype_drift is None) == (dtype == "float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing is measured on a GPU")
def test_a_result_tells_that_bfloat16_is_slower_and_which_forms_its_layers_had(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    settings: Settings,
    bfloat16_takes: Callable[[float], None],
) -> None:
    bfloat16_takes(4.0)
    engine = done(worker, store, submit(precision="bfloat16")).engine
    assert (engine.dtype, engine.bfloat16_speed) == ("bfloat16", 0.25)
    assert {name.split()[0]: form for name, form in engine.kernels.items()} == {
        "linear": "linear", "attention": "fused", "GELU": "tanh"
    }  # fmt: skip
    assert all(name.endswith(", bfloat16") for name in engine.kernels)
    (file,) = (settings.data_dir / "kernels").glob("*.json")
    assert engine.kernels.keys() < json.loads(file.read_text())["choices"].keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have bfloat16")
def test_auto_is_float32_where_nothing_can_be_kept(models: ModelPool) -> None:
    assert models.dtype_of(models.source("tiny", "model"), "auto") == torch.float32


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((9, 0), torch.bfloat16)])
def test_auto_is_bfloat16_on_a_gpu_that_has_it(
    models: ModelPool, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(models, "device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    source = models.source("tiny", "model")
    assert models.dtype_of(source, "auto") == dtype
    assert models.dtype_of(source, "float32") == torch.float32
    assert models.dtype_of(source, "bfloat16") == torch.bfloat16


def test_one_model_is_warm_in_both_precisions(models: ModelPool) -> None:
    source = models.source("tiny", "model")
    wide, narrow = models.system(source, "float32"), models.system(source, "bfloat16")
    assert (models.system(source, "float32") is wide, models.system(source, "bfloat16") is narrow) == (True, True)
    kinds = {name: tensor.dtype for name, tensor in narrow.state_dict().items()}
    assert kinds["blocks.0.mlp.fc1.weight"] == torch.bfloat16
    for name in ("t_embedder.mlp.0.weight", "x_embedder.proj.weight", "blocks.0.adaLN_modulation.1.weight"):
        assert kinds[name] == torch.float32, name
    assert {tensor.dtype for tensor in wide.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("model", ["shapes-dit", "shapes-sit", "shapes-mdt", "shapes-lightningdit", "shapes-mg"])
def test_shipped_models_drift_little_in_bfloat16(model: str) -> None:
    system = tailprune.load(f"models/{model}")
    options: dict[str, Any] = {"steps": 6, "guidance": 2.0, "seeds": [0, 1]}
    inputs = {"labels": torch.tensor([3, 42])}
    truth = tailprune.sample(system, inputs, **options)
    system.compute_in(torch.bfloat16)
    made = tailprune.sample(system, inputs, **options)
    assert 1e-4 < ((made - truth).norm() / truth.norm()).item() < 0.05
