"""What waits in which queue, and reads what."""

from __future__ import annotations

from typing import get_args

import pytest

from jobs.needs import Needs, needs_of
from jobs.records import Kind
from jobs.requests.fields import FigureName

FIGURES_OF_VECTORS = sorted(set(get_args(FigureName)) - {"removal", "training"})


@pytest.mark.parametrize("kind", ["metrics", "extract"])
def test_what_needs_the_condition_alone_is_quick(kind: Kind) -> None:
    assert needs_of(kind, {"model": "a"}) == Needs("metrics", "condition")


@pytest.mark.parametrize("figure", FIGURES_OF_VECTORS)
def test_figures_of_vectors_are_quick_and_show_names(figure: str) -> None:
    assert needs_of("figure", {"figure": figure}) == Needs("metrics", "named condition")


def test_what_samples_waits_with_the_long_jobs_and_reads_the_whole_model() -> None:
    for needs in (
        needs_of("prune-sample", {}),
        needs_of("study", {}),
        needs_of("compact", {}),
        needs_of("figure", {"figure": "removal"}),
    ):
        assert needs == Needs("sampling", "model")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_job_waits_among_the_parts_of_studies(kind: Kind) -> None:
    assert needs_of(kind, {}).queue != "shards"


def test_the_figure_of_training_reads_no_checkpoint() -> None:
    assert needs_of("figure", {"figure": "training"}) == Needs("metrics", "training")
