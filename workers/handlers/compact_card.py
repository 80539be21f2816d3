"""The card of a compacted model: what it was made of, what was removed, for what it is exact, and what that cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.requests.compact import CompactRequest
from jobs.results import Change, CompactResult, Covered
from tailprune.spec.prune import plain

__all__ = ["card"]

MEGABYTE = 1e6


def card(request: CompactRequest, result: CompactResult) -> str:
    """The card of what a resolved request made, as Markdown."""
    sections = [
        (result.compacted.name, [_made_of(result)]),
        ("What was removed", _removed(request, result)),
        ("What it is exact for", [_covered(request, result.covered), *_exact(request, result)]),
        ("Size", [_sizes(result)]),
        ("Measured drift", [_drift(request, result)]),
    ]
    heads = ("#", *["##"] * (len(sections) - 1))
    parts = [part for head, (title, texts) in zip(heads, sections, strict=True) for part in (f"{head} {title}", *texts)]
    return "\n\n".join(parts) + "\n"


def _made_of(result: CompactResult) -> str:
    return (
        f"Made of the model `{result.model.name}` (checkpoint sha256 `{result.model.digest}`) by tailprune "
        f"{result.engine.versions['tailprune']}. Its checkpoint has sha256 `{result.compacted.digest}`. The condition "
        f"vectors are the whole model's, with {result.components} components; AdaLN, which turns them into shifts, "
        f"scales and gates, reads {result.width} columns in their place."
    )


def _removed(request: CompactRequest, result: CompactResult) -> Iterator[str]:
    kept, of = result.kept, result.components
    if result.kept_components is None:
        yield (
            f"AdaLN reads {kept} principal directions of SiLU(c), of {of} there are; what varies in the others is "
            "gone, and stands at its mean over what is covered."
        )
        return
    gone = of - kept
    instead = f" {_instead(result)}" if gone else ""
    yield f"{gone} of {of} components ({gone / of:.1%}), {_rule(request)}.{instead}"
    yield f"Components kept, from 0: {_ranges(result.kept_components)}."


def _rule(request: CompactRequest) -> str:
    if request.threshold is not None:
        size = "below" if request.side == "tail" else "above"
        return f"those whose magnitude is {size} {plain(request.threshold)} in every vector that is covered"
    return (
        f"those that at no covered time are among the {request.keep} whose SiLU(c) varies most over the classes or "
        "conditions"
    )


def _instead(result: CompactResult) -> str:
    if result.fill == "zero":
        return "Nothing stands in their place: they count as zero."
    if result.time_columns == 0:
        return (
            "In their place stands their mean over the classes or conditions, which is the same at every covered time."
        )
    return (
        "In their place stands their mean over the classes or conditions at each time, told to AdaLN by "
        f"{result.time_columns} columns that depend on time alone."
    )


def _covered(request: CompactRequest, covered: Covered) -> str:
    times = covered.timesteps
    of = "" if request.timesteps is not None else f", those of sampler `{request.sampler}` with {request.steps} steps"
    if request.timestep_shift is not None:
        of += f" and a shift of {request.timestep_shift:g}"
    if covered.labels is None:
        rows = "all rows" if request.rows is None else f"rows {_ranges(request.rows)}"
        subjects = f"{covered.conditions} uploaded conditions (`{request.conditions}`, {rows})"
    else:
        subjects = f"labels {_ranges(covered.labels)}"
    return f"Covered are {len(times)} times from {times[0]:g} to {times[-1]:g}{of}; {subjects}; {_guidance(covered)}."


def _guidance(covered: Covered) -> str:
    if covered.guidance_scale is not None:
        return f"told the guidance scale {covered.guidance_scale:g}, which the model takes as an input, and no other"
    return "and the null condition of guided sampling" if covered.guided else "without the null condition"


def _exact(request: CompactRequest, result: CompactResult) -> Iterator[str]:
    if result.by == "directions":
        yield (
            "It is exact for nothing: it approximates the whole model, best over what is covered, by the drift below. "
            "Elsewhere it may be further off."
        )
        return
    if result.fill == "zero":
        yield (
            "At every time and of every label it gives what the whole model gives with those components at zero, to "
            "float rounding. What is covered only decided which they are."
        )
        if request.threshold is not None:
            size = f"{request.side} {plain(request.threshold)}"
            yield (
                f"Pruned vector by vector ({size}), it gives at what is covered what the whole model gives when it is "
                "pruned so. Unpruned it keeps a component in all vectors that any of them keeps it in."
            )
        return
    yield (
        "At the covered times it gives what the whole model gives with those components at that mean; what the blocks "
        f"are told of the mean is off by {result.bias_error or 0:.1g} of all of it. Between these times the mean is "
        "interpolated, and outside of them it stays as at the nearest."
    )


def _sizes(result: CompactResult) -> str:
    rows = [
        ("parameters", _change(result.parameters)),
        ("of these AdaLN's", _change(result.adaln_parameters)),
        ("file, MB", _change(result.bytes, MEGABYTE)),
    ]
    lines = ["| | whole | compacted | less |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {before} | {after} | {less} |" for name, (before, after, less) in rows]
    return "\n".join(lines)


def _change(change: Change, unit: float = 1) -> tuple[str, str, str]:
    before, after = (f"{value / unit:,.1f}" if unit != 1 else f"{value:,}" for value in (change.before, change.after))
    return before, after, f"{1 - change.after / change.before:.1%}"


def _drift(request: CompactRequest, result: CompactResult) -> str:
    compared, drift = result.compared, result.compared.drift
    elsewhere = "" if request.timesteps is None else " This sampling may evaluate times that are not covered."
    psnr = "the pictures are equal" if drift.psnr is None else f"PSNR {drift.psnr:.1f} dB"
    ssim = "" if drift.ssim is None else f", SSIM {drift.ssim:.4f}"
    return (
        f"Of {compared.samples} samples from the same noise, sampler `{compared.sampler}`, {compared.steps} steps, "
        f"guidance scale {compared.guidance_scale:g}: the latents are off by {drift.latent:.4f} of the whole model's; "
        f"{psnr}{ssim}. `{result.samples}` shows both.{elsewhere}"
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those that follow each other as first–last."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
