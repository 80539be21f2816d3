"""Too few samples: which numbers are, and that the measures warn of them."""

from __future__ import annotations

import warnings

import pytest
import torch

from tailprune.quality import (
    FeatureMoments,
    FewSamplesWarning,
    Gaussian,
    few_samples,
    frechet_distance,
    inception_score,
    least_samples,
    precision_recall,
)


def gaussian(count: int, dim: int = 8) -> Gaussian:
    moments = FeatureMoments(dim)
    moments.add(torch.randn(count, dim, generator=torch.Generator().manual_seed(count)))
    return moments.gaussian()


def test_features_need_the_samples_that_the_authors_of_fid_recommend_in_proportion() -> None:
    assert [least_samples(features) for features in (2048, 512, 96)] == [10_000, 2_500, 469]
    assert least_samples(classes=1000) == 5_000


def test_the_reason_has_both_numbers_and_there_is_none_for_enough_or_an_unknown_number() -> None:
    assert few_samples(468, 96) == "468 samples are fewer than the 469 that 96 features need"
    assert few_samples(4, classes=3, what="images") == "4 images are fewer than the 15 that 3 classes need"
    assert few_samples(469, 96) is None
    assert few_samples(None, 96) is None


def test_moments_keep_how_many_features_they_are_of() -> None:
    assert gaussian(30).count == 30
    assert Gaussian(torch.zeros(2), torch.eye(2)).count is None


def test_a_distance_of_few_samples_or_to_a_small_reference_warns_and_one_of_many_does_not() -> None:
    many = gaussian(200)
    for pair in ((gaussian(39), many), (many, gaussian(39))):
        with pytest.warns(FewSamplesWarning, match="Frechet distance: 39 samples are fewer than the 40"):
            frechet_distance(*pair)
    with pytest.warns(FewSamplesWarning, match="39 samples are fewer than the 40 that 8 features need. Its value is"):
        frechet_distance(gaussian(39), gaussian(39))
    published = Gaussian(torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(many, published)
        frechet_distance(gaussian(39), many, warn=False)


def test_precision_recall_and_inception_score_warn_of_few_samples() -> None:
    features = torch.randn(39, 8)
    with pytest.warns(FewSamplesWarning, match="39 samples"):
        precision_recall(features, torch.randn(100, 8))
    with pytest.warns(FewSamplesWarning, match="9 samples are fewer than the 10 that 2 classes need"):
        inception_score(torch.full((18, 2), 0.5), splits=2)


def test_the_distance_of_few_samples_is_greater_and_its_excess_falls_as_one_over_their_number() -> None:
    """The fault that the limit is for: all sets are of the same distribution, and the distance should be 0."""
    reference = gaussian(100_000)
    excess = [frechet_distance(gaussian(count), reference, warn=False) for count in (20, 400)]
    assert excess[0] > 10 * excess[1]
