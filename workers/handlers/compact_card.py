"""The card of a compacted model: its origin, what was removed, what it is exact for, its size and its drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.requests.compact import CompactRequest
from jobs.results import Change, CompactResult, Covered
from tailprune.spec.prune import plain

__all__ = ["card"]

MEGABYTE = 1e6


def card(request: CompactRequest, result: CompactResult) -> str:
    """The card as Markdown. request: the resolved one; result: what it made."""
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
        f"Made from the model `{result.model.name}` (checkpoint sha256 `{result.model.digest}`) by tailprune "
        f"{result.engine.versions['tailprune']}. Its checkpoint has sha256 `{result.compacted.digest}`. The condition "
        f"vectors are the whole model's, with {result.components} components; AdaLN, which turns them into shifts, "
        f"scales and gates, reads {result.width} columns in their place."
    )


def _removed(request: CompactRequest, result: CompactResult) -> Iterator[str]:
    kept, total = result.kept, result.components
    if result.kept_components is None:
        yield (
            f"AdaLN reads {kept} principal directions of SiLU(c) out of {total}; in the others SiLU(c) stays at "
            "its mean over the covered vectors."
        )
        return
    removed = total - kept
    fill = f" {_fill(result)}" if removed else ""
    yield f"{removed} of {total} components ({removed / total:.1%}), {_rule(request)}.{fill}"
    yield f"Components kept, from 0: {_ranges(result.kept_components)}."


def _rule(request: CompactRequest) -> str:
    if request.threshold is not None:
        size = "below" if request.side == "tail" else "above"
        magnitude = "magnitude of SiLU(c)" if request.of == "read" else "magnitude"
        return f"those whose {magnitude} is {size} {plain(request.threshold)} in every covered vector"
    if request.by == "prediction":
        return f"those that are predicted from the other {request.keep} with the least change of the modulations"
    return (
        f"those that at no covered time are among the {request.keep} whose SiLU(c) varies most over the classes or "
        "conditions"
    )


def _fill(result: CompactResult) -> str:
    if result.fill == "zero":
        return "They are set to zero."
    if result.fill == "refit":
        return (
            "Their SiLU(c) is predicted from that of the components kept, by least squares over the covered vectors, "
            "and the prediction is folded into AdaLN's weights and biases."
        )
    if result.time_columns == 0:
        return "They are set to their mean over the classes or conditions, which is the same at every covered time."
    return (
        "They are set to their mean over the classes or conditions at each time, which AdaLN reads as "
        f"{result.time_columns} columns that depend on time alone."
    )


def _covered(request: CompactRequest, covered: Covered) -> str:
    times = covered.timesteps
    sampling = (
        "" if request.timesteps is not None else f", those of sampler `{request.sampler}` with {request.steps} steps"
    )
    if request.timestep_shift is not None:
        sampling += f" and a shift of {request.timestep_shift:g}"
    if covered.labels is None:
        rows = "all rows" if request.rows is None else f"rows {_ranges(request.rows)}"
        subjects = f"{covered.conditions} uploaded conditions (`{request.conditions}`, {rows})"
    else:
        subjects = f"labels {_ranges(covered.labels)}"
    span = f"{len(times)} times from {times[0]:g} to {times[-1]:g}{sampling}"
    return f"Covered are {span}; {subjects}; {_guidance(covered)}."


def _guidance(covered: Covered) -> str:
    if covered.guidance_scale is not None:
        return f"at guidance scale {covered.guidance_scale:g}, which the model takes as an input, and no other"
    return "and the null condition of guided sampling" if covered.guided else "without the null condition"


def _exact(request: CompactRequest, result: CompactResult) -> Iterator[str]:
    if result.by == "directions":
        yield (
            "It is exact for nothing: it approximates the whole model, best over the covered vectors, with the drift "
            "below. Elsewhere the error may be larger."
        )
        return
    if result.fill == "zero":
        yield (
            "At every time and for every label it gives what the whole model gives with those components at zero, to "
            "float rounding. The covered vectors only decided which components these are."
        )
        if request.threshold is not None:
            size = f"{request.side} {plain(request.threshold)}{' of SiLU(c)' if request.of == 'read' else ''}"
            yield (
                f"Pruned vector by vector ({size}), it gives for the covered vectors what the whole model gives under "
                "the same prune. Unpruned, it keeps a component in all vectors if any of them keeps it."
            )
        return
    if result.fill == "refit":
        yield (
            "At every time and for every label it gives what the whole model gives with those components at their "
            "prediction, to float rounding. The prediction is a fit to the covered vectors, with the drift below; "
            "elsewhere the error may be larger."
        )
        return
    yield (
        "At the covered times it gives what the whole model gives with those components at that mean; the mean's share "
        f"of the modulations has a relative error of {result.bias_error or 0:.1g}. Between these times the mean is "
        "interpolated, and outside of them it is that of the nearest."
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
        f"guidance scale {compared.guidance_scale:g}: the relative difference of the latents is {drift.latent:.4f}; "
        f"{psnr}{ssim}. `{result.samples}` shows both.{elsewhere}"
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in ascending order, consecutive ones as first–last."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
