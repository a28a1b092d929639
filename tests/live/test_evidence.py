"""Figures of comparisons: what they draw, and what they say to those who cannot see them."""

from __future__ import annotations

import torch

from cxgrad_lite.plots import (
    accuracies_by_seed,
    accuracy_dots,
    bars_by_setting,
    curves_by_block,
    gap_over_training,
    paired_differences,
)


def test_accuracies_are_drawn_by_seed_with_their_mean() -> None:
    arms = {"MAML": torch.tensor([[40.0, 44.0], [60.0, 56.0]]), "CxGrad": torch.full((2, 2), 70.0)}
    picture = accuracies_by_seed(arms)
    assert "MAML 42.0, 58.0; CxGrad 70.0, 70.0" in picture.alt
    (ax,) = picture.figure.axes
    assert [list(line.get_xdata()) for line in ax.lines[::2]] == [[50.0, 50.0], [70.0, 70.0]], "means"
    assert [list(line.get_xdata()) for line in ax.lines[1::2]] == [[42.0, 58.0], [70.0, 70.0]], "seeds"


def test_the_best_dot_is_above_and_one_off_the_axis_is_at_its_end() -> None:
    picture = accuracy_dots({"CAVIA": (0.5, 0.01), "MAML": (0.84, 0.01), "CxGrad": (0.92, 0.005)}, 80)
    assert "CxGrad 92.0 ± 0.5 %, MAML 84.0 ± 1.0 %, CAVIA 50.0" in picture.alt
    (ax,) = picture.figure.axes
    dots = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in ax.lines if line.get_marker() in ("o", "<")}
    assert dots == {(92.0,): (0,), (84.0,): (1,), (80,): (2,)} and ax.get_ylim()[0] > ax.get_ylim()[1]


def test_of_several_differences_the_last_is_bold_and_told() -> None:
    picture = paired_differences({"a − b": [(1.0, 0.5), (2.0, 0.4), (1.5, 2.0)], "c − b": [(-1.0, 0.3)]}, "points")
    assert "a − b +1.50 ± 2.00; c − b -1.00 ± 0.30" in picture.alt
    (ax,) = picture.figure.axes
    assert len(ax.containers) == 4, "an interval for each"
    bold = [container.lines[0] for container in ax.containers if container.lines[0].get_color() == "black"]
    assert [line.get_xdata()[0] for line in bold] == [1.5, -1.0]
    assert bold[0].get_ydata()[0] > 0, "below the seeds of its row"


def test_a_gap_is_that_of_runs_with_the_same_seed() -> None:
    one, other = torch.tensor([[50.0, 62.0], [54.0, 60.0]]), torch.tensor([[44.0, 61.0], [40.0, 55.0]])
    picture = gap_over_training([500, 1000], ("CxGrad", one), ("MAML", other))
    assert "+10.0 after 500, +3.0 after 1000" in picture.alt
    _, right = picture.figure.axes
    assert [list(line.get_ydata()) for line in right.lines] == [[6.0, 1.0], [14.0, 5.0], [10.0, 3.0]]


def test_panels_of_curves_share_their_axis() -> None:
    x, low, high = [1, 100], torch.full((2, 4), 0.5), torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 90.0]])
    picture = curves_by_block({"one": [(x, low, False)], "two": [(x, high, True)]}, "γ")
    left, right = picture.figure.axes
    assert left.get_ylim() == right.get_ylim() and right.get_ylim()[1] > 90
    assert "two, at the end in blocks 1 to 4: 5/6/7/90" in picture.alt
    assert {line.get_linestyle() for line in right.lines} == {"--"}


def test_bars_stand_in_a_panel_for_each_setting() -> None:
    maml, cxgrad = {"head": (50.0, 1.0), "body": (20.0, 2.0)}, {"head": (20.0, 1.0), "body": (60.0, 2.0)}
    found = {"7 × 7": {"MAML": maml, "CxGrad": cxgrad}, "photographs": {"MAML": maml}}
    picture = bars_by_setting(found, "accuracy, %", (0, 100), chance=20)
    assert "7 × 7, CxGrad: head 20 ± 1, body 60 ± 2" in picture.alt
    left, right = picture.figure.axes
    assert [bar.get_height() for bar in left.patches] == [50.0, 20.0, 20.0, 60.0]
    assert right.get_ylim() == left.get_ylim() == (0, 100)
