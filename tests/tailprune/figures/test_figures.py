"""Figures: what they show is what the statistics say, and their files are a function of what was drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from tailprune.figures.components import draw_histogram, draw_sparsity, draw_variance
from tailprune.figures.cosine import draw_cosine
from tailprune.figures.error import RULES, SHARES, DriftPoint, draw_error
from tailprune.figures.head import head_of
from tailprune.figures.labelled_vectors import LabelledVectors, picked, shared_words, spread
from tailprune.figures.rank import draw_rank
from tailprune.figures.removal import ImageRow, choose_thresholds, draw_removal
from tailprune.figures.style import caption_of, render
from tailprune.figures.training import draw_training
from tailprune.figures.tsne import draw_tsne, embed
from tailprune.figures.vectors import draw_vectors
from tailprune.magnitudes import Magnitudes
from tailprune.spec import InputError
from tailprune.statistics import cosine_matrix, describe
from tailprune.transformers import Anatomy, Ranks

HEAD = [3, 17]
CURVE = [{"step": 100.0 * n, "npr": 0.4 / n, "cosine": 1 - 0.1 / n, "cosine_y": 0.1 * n} for n in range(1, 4)]


def vectors(count: int = 8, dim: int = 24) -> Tensor:
    """Small components of both signs, and two large ones that all vectors have alike."""
    values = 0.03 * torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    values[:, HEAD] += torch.tensor([6.0, -4.0])
    return values


def labelled(values: Tensor | None = None, **changed: Any) -> LabelledVectors:
    values = vectors() if values is None else values
    names = [f"class {row}" for row in range(len(values))]
    usual = {"values": values, "model": "a-model", "part": "c", "time": 0.25, "kind": "class", "names": names}
    return LabelledVectors(**(usual | changed))


def anatomy(**changed: Any) -> Anatomy:
    """An anatomy whose errors fall to a tenth with every second direction, but for the last."""
    errors = (0.5, 0.2, 0.05, 0.02, 0.005, 0.00005)
    usual = {
        "path": "p", "name": "FluxTransformer2DModel", "models": "FLUX.1", "naming": "diffusers", "parameters": 100,
        "bytes": 200, "adaln_parameters": 30, "adaln_bytes": 60, "adaln_types": ("BF16",), "embedder_parameters": 5,
        "condition_dim": 24, "depends_on": ("time", "guidance", "pooled text"), "time_range": (0, 1),
        "time_factor": 1000, "linears": (), "unmeasured": None, "replacements": (), "recommendation": "leave it",
        "ranks": Ranks({0.1: 2, 0.01: 4, 0.001: 5, 0.0001: 5}, errors, 1001, 128, 512),
    }  # fmt: skip
    return Anatomy(**(usual | changed))


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


ERRORS = {rule: [0.1 * (place + 1) * share for share in SHARES] for place, rule in enumerate(RULES)}
DRAW: dict[str, Callable[[], Figure]] = {
    "cosine": lambda: draw_cosine(labelled()),
    "cosine of some": lambda: draw_cosine(labelled(), [0, 2, 5]),
    "histogram": lambda: draw_histogram(labelled()),
    "vectors": lambda: draw_vectors(labelled(), [1, 4]),
    "variance": lambda: draw_variance(labelled()),
    "sparsity": lambda: draw_sparsity(labelled(), [0.05]),
    "tsne": lambda: draw_tsne(labelled(), seed=3),
    "removal": lambda: draw_removal(
        [ImageRow("baseline", "", images())], ["a", "b", "c"], "Samples", "a-model", "Note."
    ),
    "error": lambda: draw_error(ERRORS, "Errors", "a-model", "Note.", [DriftPoint("|c|, zero", 0.5, 0.02)]),
    "training": lambda: draw_training(CURVE, "a-model", 0.25),
    "rank": lambda: draw_rank(anatomy(), "a-model"),
}
each_figure = pytest.mark.parametrize("name", DRAW)


@each_figure
def test_the_same_figure_has_the_same_bytes_in_both_formats_whatever_the_users_style(name: str) -> None:
    usual = render(DRAW[name]())
    assert Image.open(io.BytesIO(usual.png)).format == "PNG"
    assert ElementTree.fromstring(usual.svg).tag == "{http://www.w3.org/2000/svg}svg"
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "theirs"}):
        before = dict(matplotlib.rcParams)
        assert render(DRAW[name]()) == usual
        assert dict(matplotlib.rcParams) == before


@each_figure
def test_a_figure_says_which_model_it_is_of_and_names_its_axes(name: str) -> None:
    figure = DRAW[name]()
    assert "a-model" in caption_of(figure)
    if name not in ("removal",):
        drawn = [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]
        assert all(axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes)[1:] for axes in drawn)
        assert any(axes.get_ylabel() for axes in drawn)


@pytest.mark.parametrize("name", [name for name in DRAW if name not in ("removal", "error", "training", "rank")])
def test_a_figure_of_vectors_says_their_part_and_time(name: str) -> None:
    assert "a-model, c at t = 0.25" in caption_of(DRAW[name]())


def test_no_figure_needs_pyplot(run_python: Callable[[str], str]) -> None:
    code = (
        "import sys, torch\n"
        "from tailprune.figures.components import draw_histogram\n"
        "from tailprune.figures.style import render\n"
        "from tailprune.figures.labelled_vectors import LabelledVectors\n"
        "assert 'matplotlib' not in sys.modules\n"
        "render(draw_histogram(LabelledVectors(torch.randn(3, 8), 'm', 'c', 0.0, 'class', ['a', 'b', 'c'])))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    run_python(code)


def test_the_matrix_that_is_drawn_is_the_cosine_of_the_rows_that_are_named() -> None:
    axes = draw_cosine(labelled(), [0, 2, 5]).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), cosine_matrix(vectors()[[0, 2, 5]]).clamp(-1, 1).numpy())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 0", "class 2", "class 5"]


def test_two_figures_of_cosines_have_the_range_of_colours_that_was_asked_for() -> None:
    near, far = labelled(), labelled(vectors() + torch.randn(8, 24, generator=torch.Generator().manual_seed(1)))
    own = [draw_cosine(each).axes[0].images[0].get_clim() for each in (near, far)]
    assert own[0] != own[1]
    figures = [draw_cosine(each, limits=(0.5, 0.99)) for each in (near, far)]
    assert {figure.axes[0].images[0].get_clim() for figure in figures} == {(0.5, 0.99)}
    assert "Colours from 0.5 to 0.99" in caption_of(figures[0])
    own_range, wide = (draw_cosine(near, limits=limits).axes[0].texts for limits in (None, (0.0, 1.0)))
    assert [text.get_text() for text in own_range] == [text.get_text() for text in wide], "with as many digits"


def test_rows_of_many_classes_are_named_by_the_word_that_a_block_of_them_shares() -> None:
    names = [f"{colour} {shape}" for shape in ("circle", "star") for colour in ("red", "green", "blue") * 3]
    axes = draw_cosine(labelled(vectors(18), names=names)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["circle", "star"]
    assert list(axes.get_yticks()) == [4.0, 13.0]


def test_rows_of_some_of_many_classes_have_the_names_of_these_classes() -> None:
    names = [str(number) for number in range(60)]
    axes = draw_cosine(labelled(vectors(60), names=names), rows=list(range(20, 60, 2))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["20", "28", "36", "44", "52"]


def test_the_mean_of_the_cosine_is_reported() -> None:
    assert f"mean {describe(vectors()).cosine.mean:.4f}" in caption_of(draw_cosine(labelled()))


def test_vectors_that_are_all_alike_have_a_cosine_figure() -> None:
    assert render(draw_cosine(labelled(torch.ones(3, 4)))).png


def test_a_name_is_no_formula() -> None:
    named = labelled(vectors(3), names=["$x", "a_b$", "50 $ or less"])
    assert render(draw_cosine(named)).svg
    assert render(draw_vectors(named, [0, 1, 2])).svg


def test_the_head_is_as_many_of_the_greatest_components_as_the_participation_ratio() -> None:
    found = head_of(vectors())
    assert found.components == HEAD
    assert round(found.pr) == 2
    assert found.threshold == pytest.approx(vectors()[:, 17].abs().mean().item())
    assert sorted(found.components + found.tail) == list(range(24))
    assert "the 2 components of greatest mean |c|" in found.rule("c")


def test_vectors_without_a_head_have_it_everywhere() -> None:
    found = head_of(torch.ones(3, 5))
    assert (found.components, found.tail) == ([0, 1, 2, 3, 4], [])
    assert render(draw_vectors(labelled(torch.ones(3, 5)), [0])).png
    assert render(draw_tsne(labelled(torch.ones(5, 5)))).png


def test_zeros_are_drawn_too() -> None:
    zeros = labelled(torch.zeros(4, 6))
    for figure in (draw_histogram(zeros), draw_variance(zeros), draw_sparsity(zeros), draw_vectors(zeros, [0])):
        assert render(figure).png


def test_the_bars_of_the_histogram_are_shares_of_all_components() -> None:
    (steps,) = draw_histogram(labelled()).axes[0].patches
    values, edges, _ = steps.get_data()  # type: ignore[attr-defined]
    assert sum(values) == pytest.approx(100)
    assert edges[0] <= vectors().abs().min() < vectors().abs().max() <= edges[-1]


def test_the_lines_are_the_vectors_and_the_magnified_panel_is_scaled_to_the_tail() -> None:
    whole, magnified, *_ = draw_vectors(labelled(), [1, 4]).axes
    lines = [line.get_ydata() for line in whole.lines if len(line.get_xdata()) == 24]  # type: ignore[arg-type]
    np.testing.assert_allclose(lines, vectors()[[1, 4]])
    tail = vectors()[[1, 4]][:, head_of(vectors()).tail]
    assert tail.abs().max() < magnified.get_ylim()[1] < 1
    assert {text.get_text() for text in whole.texts} == {"3", "17"}


def test_the_curve_of_variances_falls_and_marks_the_head() -> None:
    curve, head = draw_variance(labelled()).axes[0].lines[:2]
    expected = vectors().double().var(0, unbiased=False).sort(descending=True).values
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), expected)
    assert len(np.asarray(head.get_xdata())) == len(HEAD)


def test_the_curve_of_sparsity_is_the_fraction_below_and_marks_what_was_asked_for() -> None:
    axes = draw_sparsity(labelled(), [0.05, 1.0]).axes[0]
    taus, shares = (np.asarray(values, dtype=float) for values in axes.lines[0].get_data())
    for tau, share in list(zip(taus, shares, strict=True))[::50]:
        assert share == pytest.approx(100 * describe(vectors()).sparsity(tau))
    assert [float(line.get_xdata()[0]) for line in axes.lines[1:]] == [0.05, 1.0]  # type: ignore[index]


def test_without_thresholds_those_that_remove_some_shares_are_marked() -> None:
    axes = draw_sparsity(labelled()).axes[0]
    marked = [float(line.get_xdata()[0]) for line in axes.lines[1:]]  # type: ignore[index]
    shares = [describe(vectors()).sparsity(tau) for tau in marked]
    assert shares == pytest.approx([0.40, 0.66, 0.80], abs=0.03)  # thresholds have two digits


def test_an_embedding_is_the_same_for_its_seed_and_keeps_what_lies_apart_apart() -> None:
    two = np.concatenate([np.zeros((6, 3)), np.full((6, 3), 9.0)]) + 0.1 * np.random.default_rng(0).normal(size=(12, 3))
    found = embed(two, seed=1)
    assert (found == embed(two, seed=1)).all()
    one, other = found[:6], found[6:]
    within = max(np.ptp(one, axis=0).max(), np.ptp(other, axis=0).max())
    assert np.linalg.norm(one.mean(0) - other.mean(0)) > within / 2


def test_the_seed_starts_an_embedding_that_has_no_directions_to_start_from() -> None:
    line = np.arange(6.0).reshape(6, 1)
    assert not (embed(line, 0) == embed(line, 1)).all()
    assert np.isfinite(embed(np.ones((5, 3)), 2**63 - 1)).all()
    with pytest.raises(ValueError, match="at least 4 vectors"):
        embed(np.ones((3, 3)), 0)


def test_the_panels_of_tsne_are_all_the_head_and_the_tail() -> None:
    titles = [axes.get_title(loc="left") for axes in draw_tsne(labelled()).axes[:3]]
    assert titles == ["all: 24 components", "head alone: 2 components", "tail alone: 22 components"]


def colours_of(figure: Figure) -> list[list[tuple[float, ...]]]:
    """The colours of the points in the first panel, by marker."""
    return [[tuple(colour) for colour in points.get_facecolors()] for points in figure.axes[0].collections]


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_tsne_shows_the_words_that_names_share_by_colour_and_marker() -> None:
    names = [f"{colour} {shape}" for shape in ("circle", "star") for colour in ("red", "lime")]
    figure = draw_tsne(labelled(vectors(8), names=names * 2))
    assert legend_of(figure) == ["red", "lime", "circle", "star"]
    red, lime = (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)
    assert colours_of(figure) == [[red, lime] * 2] * 2, "a colour is drawn as itself, and a shape has a marker"


def test_tsne_of_few_classes_names_them_and_of_many_without_shared_words_shows_the_norm() -> None:
    few = draw_tsne(labelled(vectors(5), names=["owl", "red fox", "cat", "dog", "ant"]))
    assert legend_of(few) == ["owl", "red fox", "cat", "dog", "ant"]
    assert len({tuple(points) for points in colours_of(few)[0]}) == 5
    named = draw_tsne(labelled(vectors(4), names=["red circle", "blue circle", "lime circle", "black circle"]))
    assert colours_of(named)[0][0] == (1.0, 0.0, 0.0, 1.0), "not the colour of another name"
    many = draw_tsne(labelled(vectors(30)))
    assert not many.legends
    assert many.axes[-1].get_ylabel() == "norm of c"


def test_names_share_the_words_of_places_that_repeat() -> None:
    assert shared_words(["red a", "red b", "blue a", "blue b"]) == [
        ["red", "red", "blue", "blue"],
        ["a", "b", "a", "b"],
    ]
    assert shared_words(["class 0", "class 1", "class 2", "class 3"]) == []
    assert shared_words(["tench, Tinca tinca", "goldfish", "goldfish", "shark"]) == []


def test_every_component_of_a_small_head_is_numbered() -> None:
    values = 0.01 * torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    values[:, [30, 124, 126]] += torch.tensor([-3.0, -1.5, -4.0])
    whole = draw_vectors(labelled(values), [0, 1]).axes[0]
    assert {text.get_text() for text in whole.texts} == {"30", "124", "126"}


def test_no_name_of_a_vertical_line_crosses_another_line() -> None:
    variance = torch.linspace(0, -6, 128).exp()
    values = torch.randn(400, 128, generator=torch.Generator().manual_seed(0)) * variance.sqrt()
    figure = draw_variance(labelled(values))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    lines = [line.get_window_extent() for line in axes.lines if line.is_dashed()]
    assert len(boxes) == len(lines) == 3
    assert not any(box.overlaps(line.padded(0.5)) for box in boxes for line in lines)


def test_a_figure_with_a_head_has_the_formula_of_npr_and_its_value_as_a_fraction() -> None:
    npr = describe(vectors()).npr
    for draw in (draw_histogram, draw_variance, draw_tsne):
        assert f"PR = (Σ|cᵢ|)² / Σcᵢ² = {24 * npr:.1f}, nPR = PR / d = {npr:.3f}" in caption_of(draw(labelled()))


def test_the_shares_of_a_sparsity_figure_are_said_to_be_of_one_time() -> None:
    assert "The shares are of c at t = 0.25 alone." in caption_of(draw_sparsity(labelled()))
    assert "alone" not in caption_of(draw_sparsity(labelled(part="y", time=None)))
    assert draw_sparsity(labelled()).axes[0].get_ylim()[1] == 100


def test_chosen_thresholds_remove_about_the_shares_they_are_chosen_for() -> None:
    c = torch.randn(4, 500, 32, generator=torch.Generator().manual_seed(0))
    magnitudes = Magnitudes(lambda: c.split(1))
    tail = [(c.abs() < tau).double().mean().item() for tau in choose_thresholds(magnitudes, "tail")]
    head = [(c.abs() > tau).double().mean().item() for tau in choose_thresholds(magnitudes, "head")]
    assert tail == pytest.approx([0.40, 0.66, 0.80], abs=0.01)  # thresholds have two digits
    assert head == pytest.approx([0.02, 0.05, 0.10], abs=0.01)


def test_the_images_stand_in_rows_under_the_names_of_their_columns() -> None:
    rows = [ImageRow("baseline", "", images()), ImageRow("|c| < 1", "40% removed", 255 - images())]
    axes = draw_removal(rows, ["red circle", "b", "c"], "Samples", "a-model", "").axes[0]
    sheet = np.asarray(axes.images[0].get_array())
    assert (sheet[:8, :8] == images()[0]).all()
    assert (sheet[-8:, -8:] == 255 - images()[2]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["baseline", "|c| < 1\n40% removed"]
    assert len(axes.get_xticks()) == 3


def test_the_curves_of_training_are_those_of_the_record() -> None:
    parallel, few = draw_training(CURVE, "a-model", 0.25).axes
    np.testing.assert_allclose(
        [line.get_ydata() for line in parallel.lines], [[0.9, 0.95, 1 - 0.1 / 3], [0.1, 0.2, 0.3]]
    )
    np.testing.assert_allclose(np.asarray(few.lines[0].get_ydata()), [0.4, 0.2, 0.4 / 3])
    assert few.get_ylabel() == "nPR = PR / d"
    assert parallel.get_ylim()[1] == 1


def test_a_record_without_its_numbers_is_refused_naming_them() -> None:
    with pytest.raises(ValueError, match="no points"):
        draw_training([], "a-model", 0.0)
    with pytest.raises(ValueError, match="point 1 of the curve lacks npr"):
        draw_training([CURVE[0], {"step": 1, "cosine": 1}], "a-model", 0.0)


def test_picks_are_drawn_by_the_seed_and_in_order() -> None:
    assert picked(100, 10, 0) == picked(100, 10, 0) == sorted(set(picked(100, 10, 0)))
    assert picked(100, 10, 0) != picked(100, 10, 1)
    assert spread(1000, 5) == [0, 250, 500, 749, 999]
    assert (spread(3, 5), spread(3, 1)) == ([0, 1, 2], [0])


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        labelled(torch.full((2, 3), torch.nan))


def test_columns_that_do_not_fit_a_page_are_left_out_and_said_to_be() -> None:
    wide = np.zeros((5, 8, 160, 3), np.uint8)
    figure = draw_removal([ImageRow("baseline", "", wide)], [str(n) for n in range(5)], "Sounds", "a-model", "Note.")
    shown = len(figure.axes[0].get_xticks())
    assert 1 <= shown < 5
    assert f"the first {shown} of 5 samples" in caption_of(figure)


def test_a_measured_drift_has_the_colour_of_its_rule_and_a_hollow_marker() -> None:
    (axes,) = DRAW["error"]().axes
    named = {line.get_label(): line for line in axes.lines}
    (point,) = [line for line in axes.lines if list(line.get_xdata()) == [50.0]]
    assert point.get_color() == named["|c|, zero"].get_color()
    assert point.get_markerfacecolor() == "white"
    assert {*RULES, "measured drift"} <= set(named)


def test_errors_that_are_all_zero_are_drawn_too() -> None:
    render(draw_error(dict.fromkeys(RULES, [0.0] * len(SHARES)), "Errors", "a-model", "Note."))


def test_the_ranks_that_errors_need_are_marked_on_the_curve_and_said_in_the_caption() -> None:
    ranks = anatomy().ranks
    assert ranks is not None
    figure = draw_rank(anatomy(), "a-model")
    (axes,) = figure.axes
    curve, *marks = axes.lines
    assert list(curve.get_ydata()) == list(ranks.errors)
    assert list(curve.get_xdata()) == list(range(6))
    assert [line.get_xdata()[0] for line in marks] == [2, 4, 5]  # type: ignore[index]
    names = [text.get_text() for text in axes.texts]
    assert names == ["rank 2: 10 %", "rank 4: 1 %", "rank 5: 0.1 % and 0.01 %"]
    caption = caption_of(figure)
    assert "2 for 10 %, 4 for 1 %, 5 for 0.1 %, 5 for 0.01 %." in caption
    assert "at one guidance and one pooled text, from 128 of the 512 rows of its layers" in caption
    assert "estimates" not in caption_of(draw_rank(anatomy(ranks=replace(ranks, rows=512)), "a-model"))


def test_names_of_ranks_are_beside_their_lines_and_inside_of_the_axes() -> None:
    figure = DRAW["rank"]()
    render(figure)
    (axes,) = figure.axes
    box = axes.get_window_extent()
    for text in axes.texts:
        assert text.get_ha() == "left"
        assert text.get_window_extent().x1 <= box.x1


def test_ranks_that_were_not_measured_are_not_drawn_and_the_reason_is_said() -> None:
    with pytest.raises(InputError, match="not measured: the headers alone were read"):
        draw_rank(anatomy(ranks=None, unmeasured="the headers alone were read: fetch the weights"), "a-model")
