"""Measures against closed forms, against their definitions written out, and against torchmetrics and scikit-image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from tailprune.quality import (
    FeatureMoments,
    Gaussian,
    Manifold,
    Predictions,
    bootstrap,
    bootstrap_relative_norm,
    class_matches,
    clip_scores,
    frechet_distance,
    inception_score,
    joint_probabilities,
    kernel_distance,
    precision_recall,
    psnr,
    ssim,
    wilson,
)
from tests.tailprune.test_statistics import LargestTensor

pytestmark = pytest.mark.filterwarnings("ignore::tailprune.quality.FewSamplesWarning")
DOUBLE = 1e-12  # of quantities computed in float64, relative to the largest


class Same(nn.Module):
    """The extractor given to torchmetrics: features are the 'images' themselves."""

    num_features = 8

    def forward(self, features: Tensor) -> Tensor:
        return features


def normal(count: int, dim: int = 8, seed: int = 0, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return mean + scale * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(*batches: Tensor) -> FeatureMoments:
    gathered = FeatureMoments(batches[0].shape[1])
    for batch in batches:
        gathered.add(batch)
    return gathered


def fitted(features: Tensor) -> Gaussian:
    return moments(features).gaussian()


def images(count: int, side: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


# Moments


def test_moments_are_the_mean_and_the_unbiased_covariance() -> None:
    features = normal(50, mean=3.0)
    found = fitted(features)
    torch.testing.assert_close(found.mean, features.mean(0), atol=DOUBLE, rtol=0)
    torch.testing.assert_close(found.covariance, features.T.cov(), atol=DOUBLE, rtol=0)


@pytest.mark.parametrize("sizes", [(1, 96), (40, 17, 40), (97,), (1,) * 97, (0, 50, 0, 47)])
@pytest.mark.parametrize("order", ["forwards", "backwards", "by the state"])
def test_merging_any_split_equals_one_pass(sizes: Sequence[int], order: str) -> None:
    features = normal(97, mean=1e4)  # far from 0, where sums of squares would lose eight digits
    whole, merged = moments(features), FeatureMoments(8)
    parts = [moments(part) for part in features.split(list(sizes))]
    for part in reversed(parts) if order == "backwards" else parts:
        merged.merge(FeatureMoments.from_state(part.state()) if order == "by the state" else part)
    assert merged.count == whole.count == 97
    assert (merged.mean - whole.mean).abs().max() <= DOUBLE * whole.mean.abs().max()
    # The deviations of values near 1e4 are themselves rounded to 1e-12.
    assert (merged.scatter - whole.scatter).abs().max() <= DOUBLE * 97 * 10
    assert (whole.scatter - 96 * features.T.cov()).abs().max() <= DOUBLE * 97 * 10


def test_merging_leaves_the_other_as_it_was_and_a_state_does_not_change_afterwards() -> None:
    first, other = moments(normal(5)), moments(normal(6, seed=1))
    before, kept = other.state(), first.state()
    first.merge(other)
    FeatureMoments.from_state(kept).merge(other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state().items())
    assert int(kept["count"]) == 5
    torch.testing.assert_close(kept["mean"], normal(5).mean(0), atol=DOUBLE, rtol=0)
    torch.testing.assert_close(kept["scatter"], 4 * normal(5).T.cov(), atol=DOUBLE, rtol=0)


def test_moments_refuse_what_is_not_finite_and_features_of_another_length() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        moments(torch.tensor([[1.0, math.inf]]))
    with pytest.raises(ValueError, match=r"features must have shape \(B, 8\), not \(3, 7\)"):
        FeatureMoments(8).add(torch.zeros(3, 7))
    with pytest.raises(ValueError, match="cannot merge moments of 7 features into moments of 8"):
        FeatureMoments(8).merge(FeatureMoments(7))
    with pytest.raises(ValueError, match="at least two images, not 1"):
        moments(torch.zeros(1, 8)).gaussian()


# Frechet distance


def test_frechet_distance_is_the_closed_form_of_two_gaussians_and_samples_approach_it() -> None:
    # Diagonal covariances: |m|^2 + sum_k (s_k - r_k)^2
    s, r = torch.linspace(0.5, 2.0, 8, dtype=torch.float64), torch.full((8,), 1.5, dtype=torch.float64)
    rotation = torch.linalg.qr(normal(8, seed=5))[0]  # the distance does not depend on it
    a = Gaussian(torch.zeros(8).double(), rotation @ s.square().diag() @ rotation.T)
    b = Gaussian(torch.full((8,), 0.3, dtype=torch.float64), rotation @ r.square().diag() @ rotation.T)
    closed = 8 * 0.09 + (s - r).square().sum().item()
    assert frechet_distance(a, b) == pytest.approx(closed, rel=1e-10)
    drawn_a, drawn_b = normal(20_000, seed=1) * s @ rotation.T, 0.3 + normal(20_000, seed=2) * r @ rotation.T
    errors = [abs(frechet_distance(fitted(drawn_a[:n]), fitted(drawn_b[:n])) - closed) for n in (200, 20_000)]
    assert errors[1] < 0.05 * closed  # deviations of the moments are about 1 / sqrt(20 000)
    assert errors[1] < errors[0]


@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_equals_that_of_torchmetrics_on_the_same_features(seed: int) -> None:
    mixing = normal(8, seed=seed + 10)
    real, fake = normal(200, seed=seed) @ mixing, normal(150, seed=seed + 20, mean=0.2) @ mixing.T
    theirs = FrechetInceptionDistance(feature=Same(), input_img_size=(8,)).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert frechet_distance(fitted(fake), fitted(real)) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_frechet_distance_of_a_set_to_itself_is_zero_also_where_the_covariance_is_singular() -> None:
    few = fitted(normal(5, dim=64, scale=10.0))  # of rank 4
    assert frechet_distance(few, few) < 1e-9 * few.covariance.trace().item()
    flat = fitted(torch.ones(4, 64))
    assert frechet_distance(flat, flat) == 0.0
    assert frechet_distance(flat, few) == pytest.approx(
        ((flat.mean - few.mean).square().sum() + few.covariance.trace()).item(), rel=1e-12
    )


def test_frechet_distance_of_singular_covariances_is_the_closed_form() -> None:
    a, b = torch.zeros(64, 64).double(), torch.zeros(64, 64).double()
    a[0, 0], a[1, 1], b[1, 1], b[2, 2] = 9.0, 4.0, 1.0, 25.0
    rotation = torch.linalg.qr(normal(64, dim=64))[0]  # so that no eigenvalue is exactly zero
    a, b = rotation @ a @ rotation.T, rotation @ b @ rotation.T
    zeros = torch.zeros(64).double()
    # Roots of eigenvalues that are rounding would add up to 1e-7.
    assert frechet_distance(Gaussian(zeros, a), Gaussian(zeros, b)) == pytest.approx(9 + (2 - 1) ** 2 + 25, rel=DOUBLE)


def test_frechet_distance_is_between_features_of_one_kind() -> None:
    with pytest.raises(ValueError, match="the same number of features, not 8 and 7"):
        frechet_distance(fitted(normal(9)), fitted(normal(9, dim=7)))


# Kernel distance


def test_kernel_distance_is_its_definition_written_out() -> None:
    x, y = normal(6, dim=4).float(), normal(6, dim=4, seed=1, mean=0.5).float()

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a.double() @ b.double()) / 4 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / 30
    across = sum(k(a, b) for a in x for b in y) / 36
    found = kernel_distance(x, y, subsets=2, subset_size=6)
    assert found.mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert found.std == pytest.approx(0.0, abs=1e-12)  # both subsets are the whole


def test_kernel_distance_equals_that_of_torchmetrics_where_subsets_are_the_whole() -> None:
    real, fake = normal(40), normal(40, seed=1, mean=0.3)
    theirs = KernelInceptionDistance(feature=Same(), subsets=1, subset_size=40).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert kernel_distance(fake, real, 1, 40).mean == pytest.approx(theirs.compute()[0].item(), rel=1e-6)


def test_kernel_distance_is_drawn_by_its_seed_alone() -> None:
    real, fake = normal(60), normal(50, seed=1, mean=0.3)
    first = kernel_distance(fake, real, subsets=5, subset_size=20, seed=3)
    torch.manual_seed(99)
    assert kernel_distance(fake, real, subsets=5, subset_size=20, seed=3) == first
    assert kernel_distance(fake, real, subsets=5, subset_size=20, seed=4).mean != first.mean
    assert first.std > 0


def test_kernel_distance_refuses_subsets_larger_than_a_set() -> None:
    with pytest.raises(ValueError, match="cannot draw subsets of 51 from the 50 features of samples"):
        kernel_distance(normal(50), normal(60), subset_size=51)


# Inception score


@pytest.mark.parametrize("splits", [1, 3])
def test_inception_score_of_predictions_that_say_nothing_is_one(splits: int) -> None:
    found = inception_score(torch.full((30, 7), 1 / 7), splits)
    assert (found.mean, found.std, found.splits) == (pytest.approx(1.0, abs=1e-6), pytest.approx(0.0, abs=1e-6), splits)


def test_inception_score_of_certain_and_balanced_predictions_is_the_number_of_classes() -> None:
    assert inception_score(torch.eye(7).repeat(4, 1), 4).mean == pytest.approx(7.0, rel=DOUBLE)


def test_inception_score_equals_that_of_torchmetrics() -> None:
    logits = 3 * normal(64, dim=8)
    theirs = TorchmetricsInceptionScore(feature=Same(), splits=1).set_dtype(torch.float64)
    theirs.update(logits)
    with pytest.warns(UserWarning, match="degrees of freedom"):  # theirs, of the deviation of one split
        expected = theirs.compute()[0].item()
    assert inception_score(logits.softmax(1), 1).mean == pytest.approx(expected, rel=1e-6)


def test_inception_score_is_of_parts_in_order() -> None:
    certain, uncertain = torch.eye(4), torch.full((4, 4), 0.25)
    found = inception_score(torch.cat([certain, uncertain]), 2)
    assert (found.mean, found.std) == (pytest.approx(2.5), pytest.approx(1.5))


def test_predictions_of_shards_merge_to_the_score_of_all() -> None:
    probabilities = (2 * normal(50)).softmax(1)
    merged = Predictions(8)
    for part in probabilities.split(17):
        shard = Predictions(8)
        shard.add(part)
        merged.merge(Predictions.from_state(shard.state()))
    assert merged.score() == pytest.approx(inception_score(probabilities, 1).mean, rel=DOUBLE)


def test_the_score_of_a_classifier_in_factors_is_over_the_pairs() -> None:
    # Shape and colour are always the same: three classes of nine, though each factor alone has three.
    certain = torch.eye(3).repeat(2, 1)
    joint = joint_probabilities(certain, certain.roll(1, dims=1))
    assert joint.argmax(1).tolist() == [1, 5, 6, 1, 5, 6]
    assert inception_score(joint, 1).mean == pytest.approx(3.0, rel=DOUBLE)


def test_logits_are_not_taken_for_probabilities() -> None:
    with pytest.raises(ValueError, match="may be logits"):
        inception_score(normal(10), 1)
    with pytest.raises(ValueError, match="splits must be from 1 to 10, the number of images, not 11"):
        inception_score(normal(10).softmax(1), 11)


# Precision and recall


def test_precision_and_recall_of_a_set_with_itself_are_one() -> None:
    features = normal(40).float()
    found = precision_recall(features, features)
    assert (found.precision, found.recall, found.k) == (1.0, 1.0, 3)


def test_precision_and_recall_of_sets_far_apart_are_zero() -> None:
    found = precision_recall(normal(40), normal(40, seed=1, mean=100.0))
    assert (found.precision, found.recall) == (0.0, 0.0)


def test_precision_and_recall_on_a_line_by_hand() -> None:
    reference = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    samples = torch.tensor([[0.5], [4.0], [30.0], [31.0], [40.0]])
    # To the first neighbour. Balls of the reference: 0 +- 1, 1 +- 1, 2 +- 1, 10 +- 8 cover 0.5 and 4.
    # Of the samples: 0.5 +- 3.5, 4 +- 3.5, 30 +- 1, 31 +- 1, 40 +- 9 cover 0, 1 and 2, not 10.
    found = precision_recall(samples, reference, k=1)
    assert (found.precision, found.recall) == (2 / 5, 3 / 4)
    assert Manifold(reference, k=1).squared_radii.tolist() == pytest.approx([1.0, 1.0, 1.0, 64.0], rel=DOUBLE)
    # To the second: 0 +- 2, 1 +- 1, 2 +- 2, 10 +- 9 cover 0.5 and 4; the samples' least ball is 30 +- 10, covering none
    # of 0, 1, 2 and not 10, which 0.5 +- 29.5 and 4 +- 26 cover, all of them.
    assert precision_recall(samples, reference, k=2).recall == 1.0


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_precision_and_recall_do_not_depend_on_the_blocks(rows_at_once: int) -> None:
    samples, reference = normal(33, dim=2), normal(41, dim=2, seed=1, mean=0.7)
    found = precision_recall(samples, reference, 3, rows_at_once)
    radii, distances = (torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") for a, b in (
        (reference, reference), (samples, reference)
    ))  # fmt: skip
    naive = (distances <= radii.sort(1).values[:, 3]).any(1).double().mean().item()
    assert 0 < found.precision < 1
    assert found.precision == pytest.approx(naive, abs=DOUBLE)


def test_distances_are_held_a_block_of_rows_at_a_time() -> None:
    points = normal(300, dim=2)
    with LargestTensor() as largest:
        precision_recall(points, points, rows_at_once=16)
    assert largest.elements == 16 * 300


def test_equal_samples_cover_each_other() -> None:
    # A model that collapsed: balls of radius 0, which only exact zeros between equal features keep covered.
    features = normal(20, dim=301).repeat(5, 1)
    manifold = Manifold(features, rows_at_once=7)
    assert manifold.squared_radii.eq(0).all()
    assert manifold.covers(features[:33]).all()


def test_a_manifold_of_known_radii_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, others = normal(20, dim=2), normal(30, dim=2)
    manifold = Manifold(features)
    monkeypatch.setattr(Tensor, "kthvalue", None)  # no neighbour is sought again
    again = Manifold(features, squared_radii=manifold.squared_radii)
    assert 0 < manifold.covers(others).sum() < 30
    assert torch.equal(again.covers(others), manifold.covers(others))


def test_a_manifold_needs_more_features_than_neighbours() -> None:
    with pytest.raises(ValueError, match="less than the number of features, 3, not 3"):
        Manifold(normal(3))


# Pairs of images


def test_ssim_equals_that_of_torchmetrics_over_the_windows_in_the_image() -> None:
    a, b = images(3, side=19), images(3, side=19, seed=1)
    b = (b.float() * 0.3 + a.float() * 0.7).to(torch.uint8)
    _, windows = structural_similarity_index_measure(
        a.double(), b.double(), sigma=1.5, data_range=255.0, reduction="none", return_full_image=True
    )
    expected = windows[..., 5:-5, 5:-5].mean((1, 2, 3))  # theirs also go over the border, filled up by reflection
    torch.testing.assert_close(ssim(a, b), expected, atol=1e-9, rtol=0)
    assert 0.1 < expected[0] < 0.99
    assert ssim(a, a).tolist() == pytest.approx([1.0] * 3, abs=DOUBLE)


def test_psnr_is_its_definition_and_infinite_for_equal_images() -> None:
    a, b = images(3), images(3, seed=1)
    b[1] = a[1]
    found = psnr(a, b)
    assert found[1] == math.inf
    mse = (a[2].double() - b[2].double()).square().mean().item()
    assert found[2].item() == pytest.approx(10 * math.log10(255**2 / mse), rel=DOUBLE)
    theirs = peak_signal_noise_ratio(a[2].double(), b[2].double(), data_range=255.0).item()
    assert found[2].item() == pytest.approx(theirs, rel=1e-7)  # their log(10) is in float32


def test_images_are_compared_with_as_many_of_one_size_and_in_bytes() -> None:
    with pytest.raises(ValueError, match="in pairs of the same size"):
        psnr(images(2), images(3))
    with pytest.raises(ValueError, match=r"uint8 with shape \(B, 3, H, W\), not float32 with shape \(2, 3, 16, 16"):
        psnr(images(2).float(), images(2))
    with pytest.raises(ValueError, match=r"at least 11 x 11; these have shape \(1, 3, 8, 8\)"):
        ssim(images(1, side=8), images(1, side=8))
    assert len(ssim(images(0), images(0))) == len(psnr(images(0), images(0))) == 0


# What images show


def test_class_accuracy_is_the_mean_of_matches() -> None:
    assert class_matches(torch.tensor([3, 1, 4, 1]), torch.tensor([3, 1, 5, 9])).tolist() == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="one label for each image"):
        class_matches(torch.zeros(4), torch.zeros(1))


def test_clip_score_is_a_hundred_times_the_cosine_also_below_zero() -> None:
    of_images = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    of_texts = torch.tensor([[1.0, 0.0], [7.0, 0.0], [0.0, -1.0]])
    assert clip_scores(of_images, of_texts).tolist() == pytest.approx([100.0, 100 / math.sqrt(2), -100.0], rel=1e-6)
    with pytest.raises(ValueError, match="one text for each image"):
        clip_scores(of_images, of_texts[:1])


# Confidence


def test_the_interval_holds_the_known_mean_about_95_times_in_100() -> None:
    values = normal(80, dim=200, mean=2.0).exp()  # skewed, as errors are
    truth = math.exp(2.5)
    held = sum(found.low <= truth <= found.high for found in (bootstrap(x, 300) for x in values.T))
    assert 0.84 <= held / 200 <= 0.98  # a percentile interval of 80 skewed values holds it a little less often
    normal_held = sum(found.low <= 0 <= found.high for found in (bootstrap(x, 300) for x in normal(80, dim=200).T))
    assert 0.89 <= normal_held / 200 <= 0.99  # three deviations of a binomial about 0.94


def test_an_interval_is_drawn_by_its_seed_alone_and_narrows_with_the_values() -> None:
    values = normal(400, dim=1).flatten()
    found = bootstrap(values, seed=1)
    np.random.seed(5)
    assert bootstrap(values, seed=1) == found
    assert bootstrap(values, seed=2).low != found.low
    assert found.mean == pytest.approx(values.mean().item(), rel=DOUBLE)
    # About 4 deviations of the mean wide, 2 sqrt(1 / n) each side
    assert found.high - found.low == pytest.approx(3.92 / math.sqrt(400), rel=0.15)


def test_the_interval_of_values_that_do_not_vary_is_their_mean() -> None:
    for values in (torch.full((9,), 0.5), torch.tensor([0.5])):
        found = bootstrap(values)
        assert (found.mean, found.low, found.high, found.level) == (0.5, 0.5, 0.5, 0.95)


def test_the_interval_of_a_share_is_wilsons_also_where_all_values_are_equal() -> None:
    found = wilson(
        torch.tensor([1.0, 1, 1, 0])
    )  # the score interval: (p + z^2/2n +- z sqrt(pq/n + z^2/4n^2)) / (1 + z^2/n)
    p, n, z = 0.75, 4, 1.959964
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (found.mean, found.low, found.high) == pytest.approx(
        (p, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)), abs=1e-6
    )
    perfect = wilson(torch.ones(10))
    assert (perfect.mean, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.722, abs=1e-3)
    with pytest.raises(ValueError, match="0 or 1"):
        wilson(torch.tensor([0.5]))


def test_the_interval_of_a_relative_norm_is_of_samples_drawn_with_their_error_and_energy() -> None:
    energy = torch.linspace(1, 3, 50, dtype=torch.float64)
    same = bootstrap_relative_norm(0.04 * energy, energy)
    assert (same.mean, same.low, same.high) == pytest.approx((0.2, 0.2, 0.2)), "every sample drifts alike"
    error = energy * torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bootstrap_relative_norm(error, energy)
    assert found.mean == pytest.approx(math.sqrt(error.sum().item() / energy.sum().item()))
    assert found.low < found.mean < found.high
    assert bootstrap_relative_norm(error, energy) == found
    one = bootstrap_relative_norm(error[:1], energy[:1])
    assert one.low == one.mean == one.high


def test_no_average_is_made_of_nothing_or_of_infinity() -> None:
    with pytest.raises(ValueError, match=r"N >= 1, not \(0,\)"):
        bootstrap(torch.zeros(0))
    with pytest.raises(ValueError, match="1 of 2 values are NaN or infinity"):
        bootstrap(torch.tensor([30.0, math.inf]))


def test_importing_the_measures_imports_no_heavy_library(run_python: Callable[[str], str]) -> None:
    heavy = ("torchmetrics", "transformers", "scipy", "skimage", "torchvision", "matplotlib")
    script = f"import sys, tailprune.quality; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(script) == "[]\n"
