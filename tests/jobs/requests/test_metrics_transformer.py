"""The requests of statistics of large transformers: what is filled in, what is the same job, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.problems import InvalidRequest
from jobs.requests.metrics_transformer import MetricsTransformerRequest, OverTimeTransformerRequest
from tests.jobs.requests.test_compact_transformer import (
    COGVIEW,
    DIT,
    FLUX,
    HUNYUAN,
    MINIMAX,
    MOCHI,
    POPULATION,
    QWEN,
    model,
    original,
    texts,
)

LONGCAT = "LongCatImageTransformer2DModel"


def test_the_times_are_plain_ones_by_default_also_beside_a_scheduler(tmp_path: Path) -> None:
    entry = model(tmp_path, FLUX, scheduler={"use_dynamic_shifting": True})
    found = MetricsTransformerRequest(model="flux").resolve(entry)
    assert (found.scheduler, found.steps, found.part, found.guidance) == ("plain", 50, "c", None)
    assert found.reading(entry) == {}


def test_the_times_of_a_model_without_plain_ones_are_its_schedulers_which_is_a_part_of_the_key(tmp_path: Path) -> None:
    entry = model(tmp_path, MOCHI, scheduler={})
    found = MetricsTransformerRequest(model="flux").resolve(entry)
    assert found.scheduler == "own"
    before = found.reading(entry)
    (tmp_path / "flux" / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    assert before != found.reading(entry) != {}


SHIFTS = {"use_dynamic_shifting": True}


@pytest.mark.parametrize(
    ("name", "fields", "field", "message"),
    [
        (LONGCAT, {"part": "y"}, "part", "c of flux is the time's part alone, so that there is no y; give c or t"),
        (HUNYUAN, {"part": "y"}, "part", "c of flux is the time's part alone"),
        (QWEN, {"guidance": [1.0]}, "guidance", "flux takes no guidance scale; leave guidance out"),
        (DIT, {}, "scheduler", "lies beside flux, which its pipeline has its times from; put it there"),
        (DIT, {"scheduler": "plain"}, "scheduler", "DiT has no plain schedule; register its scheduler too"),
        (COGVIEW, {}, "resolutions", "takes the size of the picture: give one or more widths and heights"),
        (COGVIEW, {"resolutions": [[64, 40]]}, "resolutions.0", "are multiples of 16 pixels"),
        (COGVIEW, {"scheduler": "own", "scheduled": {}}, "scheduler", "makes the times itself; use 'plain'"),
        (QWEN, {"resolutions": [[64, 64]]}, "resolutions", "the same at every resolution; leave them out"),
        (QWEN, {"scheduler": "own", "scheduled": SHIFTS}, "resolutions", "shifts times by the resolution"),
        (MOCHI, {"steps": 1, "scheduled": {}}, "steps", "takes at least 2 steps"),
        (FLUX, {"steps": 4096, "guidance": [1.0, 2.0]}, "steps", "4,096 times with 2 other inputs are 8,192 vectors"),
        (QWEN, {"classes": [1]}, "classes", "flux takes no class; leave classes out"),
        (DIT, {"classes": [3, 10], "scheduled": {}}, "classes", "class 10 is outside 0 to 9"),
        (DIT, {"steps": 1366, "classes": [1, 2, 3], "scheduled": {}}, "steps", "with 3 other inputs are 4,098"),
    ],
)
def test_what_a_model_does_not_take_or_lacks_is_refused_by_field(
    name: str, fields: dict[str, Any], field: str, message: str, tmp_path: Path
) -> None:
    given = {key: value for key, value in fields.items() if key != "scheduled"}
    with pytest.raises(InvalidRequest) as error:
        MetricsTransformerRequest(model="flux", **given).resolve(
            model(tmp_path, name, scheduler=fields.get("scheduled"))
        )
    found = {fault.location.removeprefix("body."): fault.message for fault in error.value.faults}
    assert message in found[field]


@pytest.mark.parametrize(
    ("name", "fields", "field", "message"),
    [
        (QWEN, {"guidance": [1.0]}, "guidance", "flux takes no guidance scale"),
        (QWEN, {"resolutions": [[64, 64]]}, "resolutions", "the same at every resolution"),
        (COGVIEW, {}, "resolutions", "takes the size of the picture"),
        (FLUX, {"points": 1000, "guidance": [1.0, 2.0, 3.0, 4.0, 5.0]}, "points", "are 5,000 vectors"),
        (DIT, {"points": 1000, "classes": [1, 2, 3, 4, 5]}, "points", "are 5,000 vectors"),
        (DIT, {"classes": [10]}, "classes", "class 10 is outside 0 to 9"),
    ],
)
def test_statistics_over_time_refuse_the_same(
    name: str, fields: dict[str, Any], field: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest) as error:
        OverTimeTransformerRequest(model="flux", **fields).resolve(model(tmp_path, name))
    (fault,) = error.value.faults
    assert (fault.location, message in fault.message) == (f"body.{field}", True)


Measured = MetricsTransformerRequest | OverTimeTransformerRequest


@pytest.mark.parametrize("kind", [MetricsTransformerRequest, OverTimeTransformerRequest])
def test_pooled_texts_are_of_the_models_width_and_each_a_vector(tmp_path: Path, kind: type[Measured]) -> None:
    flux, qwen = model(tmp_path, FLUX), model(tmp_path / "other", QWEN)
    asked = kind(model="flux", population=POPULATION)
    assert asked.resolve(flux, texts()).population == POPULATION
    for entry, given, message in [
        (flux, texts(width=2), "these pooled texts are 2 wide, and those of flux are 1"),
        (flux, texts(100), "50 times with 100 other inputs are 5,000 vectors, and at most 4,096 are measured"),
        (qwen, texts(), "flux takes no pooled text; leave population out"),
    ]:
        with pytest.raises(InvalidRequest) as error:
            asked.resolve(entry, given)
        (fault,) = error.value.faults
        assert message in fault.message


def test_minimax_h3_under_its_original_names_is_measured_in_whichever_order_its_rows_are(tmp_path: Path) -> None:
    assert MetricsTransformerRequest(model="flux").resolve(original(tmp_path, MINIMAX)).scheduler == "plain"
