"""The cosine of every pair, against the library and the statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load

from jobs.results import CosineMatrix, CosineResult, MetricsResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune.statistics import cosine_matrix
from tests.tiny_model import CLASSES, TINY_DIT
from tests.workers.conftest import Submit
from workers.handlers.cosine import _ordered
from workers.worker import Worker


@pytest.fixture
def computed(settings: Settings, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request: its result, its JSON or None, and its tensors."""
    worker = Worker(settings, "worker")

    def computed(kind: str = "cosine", **body: Any) -> Any:
        job = submit(kind, **body)
        worker.run(job.id)
        found = store.get(job.id)
        assert found.status == "succeeded", found.problem
        if kind != "cosine":
            return found, {name: store.artifacts.read(file) for name, file in found.artifacts.items()}
        result = CosineResult.model_validate(found.result)
        content = {name: store.artifacts.read(file) for name, file in found.artifacts.items()}
        matrix = None if result.matrix is None else CosineMatrix.model_validate_json(content[result.matrix])
        return result, matrix, load(content[result.artifact])

    return computed


def test_it_is_the_cosine_of_the_extracted_vectors(computed: Any) -> None:
    result, matrix, tensors = computed(timestep=0.5)
    _, files = computed("extract", timesteps=[0.5], parts=["c"])
    expected = cosine_matrix(load(files["vectors.safetensors"])["c"][0])
    torch.testing.assert_close(torch.tensor(matrix.values), expected.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(tensors["cosine"].float(), expected.float(), atol=1e-3, rtol=0)  # float16
    assert tensors["cosine"].dtype == torch.float16
    assert tensors["labels"].tolist() == matrix.labels == [0, 1, 2, 3]
    assert (matrix.names, matrix.count) == (CLASSES, 4)
    found, _ = computed("metrics", timestep=0.5)
    cosine = MetricsResult.model_validate(found.result).cosine
    assert cosine is not None
    assert [result.mean, result.min, result.max] == pytest.approx([cosine.mean, cosine.min, cosine.max])


def test_rows_and_columns_are_in_the_order_that_is_asked_for(computed: Any) -> None:
    _, by_class, _ = computed()
    for order in ("name", "likeness"):
        _, matrix, tensors = computed(order=order)
        assert sorted(matrix.labels) == [0, 1, 2, 3]
        assert tensors["labels"].tolist() == matrix.labels
        assert matrix.names == [CLASSES[label] for label in matrix.labels]
        assert matrix.values == [[by_class.values[row][column] for column in matrix.labels] for row in matrix.labels]
    _, by_name, _ = computed(order="name")
    assert by_name.names == sorted(CLASSES)


def test_the_cosines_of_many_vectors_are_in_the_file_alone(computed: Any) -> None:
    result, matrix, tensors = computed(part="t")
    assert (result.count, result.matrix, matrix) == (1000, None, None)
    assert tensors["cosine"].shape == (1000, 1000)


def test_numbers_in_names_are_sorted_as_numbers(computed: Any) -> None:
    _, matrix, _ = computed(model=TINY_DIT, order="name")  # whose classes have no names
    assert matrix.names == ["0", "1", "2", "3"]
    names = ["shape 10", "Shape 2", "cat", "shape 2 b"]
    assert [names[row] for row in _ordered("name", torch.eye(4), names)] == ["cat", "Shape 2", "shape 2 b", "shape 10"]
