from __future__ import annotations

import pytest
import redis
import torch

from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore, UnknownConditions
from tests.condition_files import VIDEO, arrays, safetensors
from workers.sampling.inputs import SampleInputs


@pytest.fixture
def store(settings: Settings, redis_client: redis.Redis) -> ConditionStore:
    return ConditionStore(ArtifactStore(settings, redis_client), redis_client)


def test_labels_are_what_a_label_system_takes(store: ConditionStore) -> None:
    inputs = SampleInputs.load(None, store)
    assert inputs.select([3, 1, 3])["labels"].tolist() == [3, 1, 3]
    assert inputs.population is None


def test_rows_are_those_of_the_uploaded_conditions_in_the_order_asked_for(
    store: ConditionStore, settings: Settings
) -> None:
    given = arrays(VIDEO, 3)
    inputs = SampleInputs.load(store.put(parse(safetensors(given), settings)).id, store)
    chosen = inputs.select([2, 0, 2])
    assert torch.equal(chosen["video"], torch.from_numpy(given["video"])[[2, 0, 2]])
    assert inputs.population is not None
    assert len(inputs.population["video"]) == 3


def test_conditions_that_are_no_longer_stored_are_reported_as_unknown(store: ConditionStore) -> None:
    with pytest.raises(UnknownConditions, match="upload their file"):
        SampleInputs.load("0" * 64, store)
