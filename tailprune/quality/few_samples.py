"""From how many samples on a measure of a set can be compared: with fewer, its value is mostly due to their number.

    Frechet distance, kernel distance, precision, recall    features * 10,000 / 2,048
    Inception score                                         5 a class

The authors of the FID recommend at least 10,000 samples for Inception's 2,048 features (README of
github.com/bioinf-jku/TTUR); other features need as many in proportion. With fewer, the distance is greater, by about
1 / N (arXiv 1911.07023), and the balls of a manifold are larger, so that precision (of few reference images) and recall
(of few samples) are greater. The kernel distance is unbiased for independent samples, but not for as many samples of
every class: these are less alike than independent ones, which makes it smaller. Published Inception scores are of 5,000
samples at a time, of 1,000 classes.
"""

from __future__ import annotations

import math
import warnings

__all__ = ["FewSamplesWarning", "few_samples", "least_samples", "warn_of_few"]

SAMPLES_A_FEATURE = 10_000 / 2_048
SAMPLES_A_CLASS = 5


class FewSamplesWarning(UserWarning):
    """A measure of so few samples that its value is mostly due to their number."""


def least_samples(features: int = 0, classes: int = 0) -> int:
    """The least number of samples of a measure of so many features, or of probabilities of so many classes."""
    return max(math.ceil(features * SAMPLES_A_FEATURE), classes * SAMPLES_A_CLASS)


def few_samples(count: int | None, features: int = 0, classes: int = 0, what: str = "samples") -> str | None:
    """Why a measure of `count` samples cannot be compared, or None if they are enough or their number is not known.

    features, classes: as in `least_samples`
    what: what is counted, for the text
    """
    least = least_samples(features, classes)
    if count is None or count >= least:
        return None
    of = f"{features:,} features" if features else f"{classes:,} classes"
    return f"{count:,} {what} are fewer than the {least:,} that {of} need"


def warn_of_few(measure: str, *reasons: str | None) -> None:
    """Warn that a measure cannot be compared, if there is a reason."""
    if given := "; ".join(dict.fromkeys(reason for reason in reasons if reason)):
        warnings.warn(
            f"{measure}: {given}. Its value is mostly due to their number: compare it with nothing, or make more",
            FewSamplesWarning,
            stacklevel=3,
        )
