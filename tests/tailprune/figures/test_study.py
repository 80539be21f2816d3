"""The figure of a study: what is drawn is what was measured, each way to prune in one look in all panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tailprune.figures.study import MARKERS, Panel, Point, draw_study
from tailprune.figures.style import PALETTE, caption_of, render

TAIL = "tail, every step"
HEAD = "head, last 10 steps"
FID = Panel(
    "Fréchet distance (shapes-classifier)",
    "Fréchet distance",
    "lower",
    {TAIL: [Point(9.0, 80.0), Point(4.0, 40.0)], HEAD: [Point(6.0, 2.0)]},
    Point(3.0),
)
ACCURACY = Panel(
    "Class accuracy (shapes-classifier)",
    "Class accuracy",
    "higher",
    {TAIL: [Point(98.0, 40.0, 97.0, 98.5), Point(60.0, 80.0)]},
    Point(99.0, low=98.25, high=99.5),
    "%",
    (0, 100),
)


def drawn(panels: Sequence[Panel] = (FID, ACCURACY), text: str = "Note.") -> Figure:
    return draw_study(panels, "Quality", "a-model", text)


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def legend_of(figure: Figure) -> list[str]:
    (legend,) = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    return [text.get_text() for text in legend.get_texts()]


COLOURS = {TAIL: PALETTE[0], HEAD: PALETTE[1]}
"""In a figure of both, in this order."""


def curve(axes: Axes, way: str) -> Line2D:
    """The line through the values of a way."""
    (found,) = [line for line in axes.lines if line.get_color() == COLOURS[way] and line.get_linestyle() != "None"
                and len(line.get_xydata()) > 1]  # fmt: skip
    return found


def markers(axes: Axes, colour: str) -> list[Line2D]:
    """The markers of the values of a colour, without the ends of intervals."""
    return [line for line in axes.lines if line.get_color() == colour and len(line.get_xydata()) == 1
            and line.get_marker() in MARKERS + "*"]  # fmt: skip


def panel(lines: Mapping[str, Sequence[Point]], **said: Any) -> Panel:
    return Panel("Drift", "Drift", "lower", lines, **said)


def test_a_panel_is_titled_by_its_measure_with_an_arrow_and_its_axis_has_the_quantity_and_its_unit() -> None:
    fid, accuracy = panels_of(drawn())
    assert (fid.get_title(loc="left"), fid.get_ylabel()) == (f"{FID.title} ↓", "Fréchet distance")
    assert (accuracy.get_title(loc="left"), accuracy.get_ylabel()) == (f"{ACCURACY.title} ↑", "Class accuracy (%)")


def test_a_line_goes_from_the_baseline_through_its_variants_in_order_of_what_they_remove() -> None:
    fid, accuracy = panels_of(drawn())
    np.testing.assert_array_equal(curve(fid, TAIL).get_xydata(), [[0.0, 3.0], [40.0, 4.0], [80.0, 9.0]])
    np.testing.assert_array_equal(curve(fid, HEAD).get_xydata(), [[0.0, 3.0], [2.0, 6.0]])
    np.testing.assert_array_equal(curve(accuracy, TAIL).get_xydata(), [[0.0, 99.0], [40.0, 98.0], [80.0, 60.0]])
    assert [point.get_xydata().tolist() for point in markers(fid, PALETTE[0])] == [[[40.0, 4.0]], [[80.0, 9.0]]]
    assert not markers(accuracy, PALETTE[1])


def test_the_baseline_is_a_point_at_nothing_removed_a_dashed_line_across_and_its_interval_a_band() -> None:
    fid, accuracy = panels_of(drawn())
    (across,) = [line for line in fid.lines if line.is_dashed()]
    np.testing.assert_array_equal(across.get_ydata(), [3.0, 3.0])
    (point,) = [line for line in fid.lines if line.get_marker() == "*"]
    np.testing.assert_array_equal(point.get_xydata(), [[0.0, 3.0]])
    assert not fid.patches
    (band,) = accuracy.patches
    assert isinstance(band, Rectangle)
    assert (band.get_y(), band.get_y() + band.get_height()) == (98.25, 99.5)


def test_an_interval_is_a_bar_from_end_to_end_and_none_where_there_is_none() -> None:
    fid, accuracy = panels_of(drawn())
    assert not fid.containers
    bars = [found for found in accuracy.collections if isinstance(found, LineCollection)]
    segments = [segment.tolist() for bar in bars for segment in bar.get_segments()]
    assert segments == [[[40.0, 97.0], [40.0, 98.5]], [[0.0, 98.25], [0.0, 99.5]]]


def test_an_axis_ends_where_the_measure_does() -> None:
    near = Panel("Class accuracy", "Class accuracy", "higher", {TAIL: [Point(99.9, 40.0), Point(98.0, 99.0)]},
                 Point(100.0), "%", (0, 100))  # fmt: skip
    (axes,) = panels_of(drawn([near]))
    assert axes.get_ylim()[1] == 100
    assert axes.get_xlim()[1] == 100
    free = panels_of(drawn([panel({TAIL: [Point(99.9, 40.0)]}, baseline=Point(100.0))]))[0]
    assert free.get_ylim()[1] > 100


def test_a_value_of_too_few_samples_is_hollow_on_a_dotted_line_and_the_legend_says_what_that_is() -> None:
    few = panel({TAIL: [Point(9.0, 40.0, reliable=False)], HEAD: [Point(5.0, 2.0)]}, baseline=Point(10.0))
    figure = drawn([few])
    (axes,) = panels_of(figure)
    (hollow,), (full,) = markers(axes, PALETTE[0]), markers(axes, PALETTE[1])
    assert (hollow.get_markerfacecolor(), hollow.get_markeredgecolor()) == ("white", PALETTE[0])
    assert full.get_markerfacecolor() == PALETTE[1]
    assert (curve(axes, TAIL).get_linestyle(), curve(axes, HEAD).get_linestyle()) == (":", "-")
    assert legend_of(figure)[-1] == "too few samples"
    assert "too few samples" not in legend_of(drawn())


def test_an_interval_that_rounding_put_beside_its_value_is_drawn() -> None:
    assert render(drawn([panel({TAIL: [Point(0.3, 40.0, 0.1 + 0.2, 0.1 + 0.2)]})])).png


def test_the_legend_is_there_once_and_holds_what_is_in_any_panel() -> None:
    late = "tail, last 3 steps"
    figure = drawn([ACCURACY, FID, panel({late: [Point(0.1, 40.0)]})])
    assert legend_of(figure) == ["tail, every step", "head, last 10 steps", "tail, last 3 steps", "baseline"]


def test_a_way_looks_the_same_in_all_panels_and_unlike_the_others() -> None:
    without_tail = panel({HEAD: [Point(0.1, 2.0)]})
    fid, _, drift = panels_of(drawn([FID, ACCURACY, without_tail]))
    looks = [markers(axes, PALETTE[place])[0].get_marker() for axes, place in ((fid, 1), (drift, 1), (fid, 0))]
    assert looks[0] == looks[1] != looks[2]


def test_there_are_looks_for_more_ways_than_colours() -> None:
    ways = [f"tail, last {count} steps" for count in range(1, 41)]
    figure = drawn([panel({way: [Point(0.1, 40.0)] for way in ways})])
    looks = [
        (line.get_color(), line.get_marker()) for line in panels_of(figure)[0].lines if line.get_marker() in MARKERS
    ]
    assert len(set(looks)) == len(legend_of(figure)) == 40


@pytest.mark.filterwarnings("error")  # a layout without room for something is given up with a warning
def test_a_long_legend_takes_its_room_from_the_page_and_not_from_the_panels() -> None:
    heights = []
    for most in (1, 40):
        ways = [f"tail, last {count} steps, filled with the mean" for count in range(1, most + 1)]
        figure = drawn([panel({way: [Point(0.1, 40.0)] for way in ways})])
        figure.draw_without_rendering()
        heights.append(panels_of(figure)[0].get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.15)  # the rows of the legend are not all of one height


def test_what_is_removed_is_one_axis_from_zero_named_below() -> None:
    axes = panels_of(drawn([FID, ACCURACY, panel({TAIL: [Point(0.1, 90.0)]})]))
    assert [each.get_xlabel() for each in axes] == ["", *["components of c removed (%)"] * 2]
    assert len({each.get_xlim() for each in axes}) == 1
    assert axes[0].get_xlim()[0] == 0
    assert axes[0].get_xlim()[1] > 90


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", range(1, 12))
def test_no_panel_lies_on_another_or_beyond_the_page(count: int) -> None:
    figure = drawn([FID, ACCURACY, *[panel({TAIL: [Point(0.1, 40.0), Point(0.7, 80.0)]})] * 9][:count])
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    page = figure.bbox
    assert len(panels_of(figure)) == count
    for place, box in enumerate(boxes):
        assert box is not None
        assert box.height > 0
        # a pixel for rounding
        assert page.x0 - 1 <= box.x0 < box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0 < box.y1 <= page.y1 + 1
        assert not any(other is not None and box.padded(-1).overlaps(other) for other in boxes[place + 1 :])


@pytest.mark.parametrize(
    ("points", "baseline", "scale"),
    [
        ([Point(0.01, 40.0), Point(1.5, 80.0)], None, "log"),
        ([Point(0.01, 40.0)], Point(1.5), "log"),
        ([Point(0.1, 40.0), Point(1.5, 80.0)], None, "linear"),
        ([Point(0.01, 40.0), Point(1.5, 80.0)], Point(0.0), "linear"),
        ([Point(0.01, 40.0, -0.01, 0.03), Point(1.5, 80.0)], None, "linear"),
        ([Point(-5.0, 40.0), Point(900.0, 80.0)], None, "linear"),
    ],
)
def test_values_that_differ_by_more_than_a_factor_of_20_are_on_a_log_axis_where_all_are_positive(
    points: list[Point], baseline: Point | None, scale: str
) -> None:
    (axes,) = panels_of(drawn([panel({TAIL: points}, baseline=baseline)]))
    assert axes.get_yscale() == scale


def test_a_measure_with_a_greatest_value_is_never_on_a_log_axis() -> None:
    (axes,) = panels_of(drawn([panel({TAIL: [Point(0.01, 40.0), Point(1.0, 80.0)]}, bounds=(0, 1))]))
    assert axes.get_yscale() == "linear"


def test_a_measure_that_no_pruned_variant_has_is_left_out_and_no_measure_at_all_is_refused() -> None:
    bare = [panel({}, baseline=Point(1.0)), panel({TAIL: []})]
    assert [axes.get_title(loc="left") for axes in panels_of(drawn([*bare, FID]))] == [f"{FID.title} ↓"]
    with pytest.raises(ValueError, match="nothing was pruned"):
        drawn(bare)


def test_the_caption_says_the_title_the_model_and_the_note_and_nothing_is_a_formula() -> None:
    figure = drawn(text="A $ and a long note. " * 12)
    assert caption_of(figure).startswith("Quality: a-model. A \\$ and a long note.")
    assert len(figure.get_supxlabel().splitlines()) > 1
    assert render(figure).svg


def test_the_same_study_has_the_same_bytes_whatever_the_users_style() -> None:
    usual = render(drawn())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "theirs"}):
        before = dict(matplotlib.rcParams)
        assert render(drawn()) == usual
        assert dict(matplotlib.rcParams) == before
