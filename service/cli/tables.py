"""Results as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from jobs.results import Drift, ExtractResult, MetricsResult, PruneSampleResult, Removed

__all__ = ["extract_table", "metrics_tables", "prune_sample_table"]

ABSENT = "–"


def prune_sample_table(result: PruneSampleResult) -> Table:
    """One row a variant: what was removed, the condition vectors after that, and how far the samples drifted."""
    timing, engine = result.timing, result.engine
    table = Table(
        title=f"{result.model.name}: {len(result.variants[0].images)} samples of each variant",
        caption=f"{timing.sample:.2f} s on {engine.device}, {timing.samples_per_second:.1f} samples a second",
    )
    table.add_column("variant", no_wrap=True)
    for heading in ("removed", "nPR", "cosine", "drift", "PSNR dB", "SSIM"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = next(variant.embedding for variant in result.variants if variant.embedding is not None)
    for variant in result.variants:
        embedding = variant.embedding
        npr, cosine = (
            (before.npr_before, before.cosine_before)
            if embedding is None
            else (embedding.npr_after, embedding.cosine_after)
        )
        shown = (f"{npr:.3f}", ABSENT if cosine is None else f"{cosine:.3f}")
        table.add_row(variant.name, _removed(variant.removed), *shown, *_drift(variant.drift))
    return table


def metrics_tables(result: MetricsResult) -> tuple[Table, Table]:
    """The statistics, and how much lies below each threshold."""
    at = "" if result.timestep is None else f" at t = {result.timestep:g}"
    summary = Table("statistic", title=f"{result.model.name}: {result.count} vectors {result.part}{at}")
    summary.add_column("value", justify="right")
    cosine = result.cosine
    summary.add_row("components d", f"{result.dim}")
    summary.add_row("cosine, mean of pairs", f"{cosine.mean:.4f}")
    summary.add_row("cosine, least–most", f"{cosine.min:.4f}–{cosine.max:.4f}")
    summary.add_row("participation ratio", f"{result.pr:.1f}")
    summary.add_row("nPR", f"{result.npr:.4f}")
    summary.add_row("norm", f"{result.norm:.3f}")
    for share, components in result.variance.components_for.items():
        summary.add_row(f"components for {float(share):.0%} of variance", f"{components}")
    sparsity = Table("threshold", title="components below")
    sparsity.add_column("fraction", justify="right")
    for row in result.sparsity:
        sparsity.add_row(f"{row.threshold:g}", f"{row.fraction:.1%}")
    return summary, sparsity


def extract_table(result: ExtractResult) -> Table:
    """The tensors of the file."""
    table = Table("tensor", title=f"{result.model.name}: {result.bytes:,} bytes")
    table.add_column("shape", justify="right")
    for name, shape in result.shapes.items():
        table.add_row(name, " x ".join(map(str, shape)))
    return table


def _removed(removed: Removed | None) -> str:
    return ABSENT if removed is None else f"{removed.mean:.1f} ({removed.fraction:.0%})"


def _drift(drift: Drift | None) -> tuple[str, str, str]:
    if drift is None:
        return ABSENT, ABSENT, ABSENT
    if drift.ssim is None:  # pictures that cannot be compared
        return f"{drift.latent:.3f}", ABSENT, ABSENT
    psnr = "equal" if drift.psnr is None else f"{drift.psnr:.1f}"
    return f"{drift.latent:.3f}", psnr, f"{drift.ssim:.3f}"
