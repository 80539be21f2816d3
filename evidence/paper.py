"""The paper's own numbers (arXiv 2602.21596 v1), for comparison."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TABLE_1", "TABLE_2", "TABLE_3", "TABLE_6", "TITLE", "PaperStatistics", "PaperVariant"]

TITLE = "A Hidden Semantic Bottleneck in Conditional Embeddings of Diffusion Transformers (ICLR 2026, arXiv 2602.21596)"


class PaperStatistics(NamedTuple):
    """Tables 1 and 4, of one model of ImageNet; nPR in per cent, as they have it."""

    d: int
    pr: float
    npr: float
    cosine: float
    cosine_y: float
    npr_y: float


TABLE_1 = {
    "dit": PaperStatistics(1152, 120.69, 10.47, 0.9001, 0.7774, 70.14),
    "sit": PaperStatistics(1152, 26.25, 2.28, 0.9852, 0.5436, 37.43),
    "mdt": PaperStatistics(1152, 18.45, 1.60, 0.9905, 0.8540, 36.75),
    "lightningdit": PaperStatistics(1152, 23.70, 2.05, 0.9779, 0.7166, 36.42),
    "repa": PaperStatistics(1152, 17.67, 1.53, 0.9946, 0.5194, 41.60),
    "mg": PaperStatistics(1152, 19.98, 1.73, 0.9934, 0.6853, 43.67),
}


class PaperVariant(NamedTuple):
    """A row of table 2 or 3: REPA-XL, MG or LightningDiT, 5,000 samples."""

    rule: str
    removed: float
    """In per cent."""
    fid: float
    inception: float
    clip: float


TABLE_2 = (
    PaperVariant("baseline", 0.0, 7.1694, 176.02, 29.746),
    PaperVariant("tail 0.01, every step", 38.94, 7.2143, 171.99, 29.737),
    PaperVariant("tail 0.01, first step", 38.94, 7.1690, 175.97, 29.807),
    PaperVariant("tail 0.01, last steps", 38.94, 7.1598, 175.49, 29.805),
    PaperVariant("tail 0.02, every step", 66.21, 9.2202, 125.15, 29.221),
    PaperVariant("tail 0.05, every step", 96.41, 56.2308, 20.47, 22.177),
    PaperVariant("tail 5, every step", 99.80, 356.135, 1.77, 21.922),
    PaperVariant("head 5, every step", 0.20, 7.8478, 164.15, 29.555),
    PaperVariant("head 1, every step", 0.69, 523.7637, 1.95, 22.690),
)
TABLE_3 = {
    "mg": (
        PaperVariant("baseline", 0.0, 7.2478, 174.52, 30.199),
        PaperVariant("tail 0.01, every step", 0.0, 7.2791, 170.55, 30.140),
        PaperVariant("tail 0.01, first step", 0.0, 7.2466, 174.55, 30.199),
        PaperVariant("tail 0.01, last steps", 0.0, 7.2455, 174.31, 30.198),
    ),
    "lightningdit": (
        PaperVariant("baseline", 0.0, 7.0802, 169.86, 30.720),
        PaperVariant("tail 0.01, every step", 0.0, 7.0130, 166.06, 30.705),
        PaperVariant("tail 0.01, first step", 0.0, 7.0712, 169.92, 30.729),
        PaperVariant("tail 0.01, last steps", 0.0, 7.0745, 169.92, 30.729),
    ),
}
TABLE_6 = {
    "repa": (("baseline", 0.8032, 0.6236), ("first step", 0.7878, 0.6252), ("last steps", 0.8045, 0.6381)),
    "mg": (("baseline", 0.7842, 0.6633), ("first step", 0.7854, 0.6625), ("last steps", 0.7898, 0.6644)),
    "lightningdit": (("baseline", 0.7928, 0.6248), ("first step", 0.7906, 0.6256), ("last steps", 0.7935, 0.6265)),
}
"""Precision and recall with tail 0.01."""
