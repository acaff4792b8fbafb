"""What pictures are drawn on."""

import pytest

from autellix.evaluation.canvas import set_log_scale

figures = pytest.importorskip("matplotlib.figure")


def test_ticks_of_a_logarithmic_axis_are_numbers_that_can_be_read() -> None:
    """Also within less than a factor of ten, where powers tell next to nothing."""
    figure = figures.Figure()
    axes = figure.add_subplot()
    axes.plot([1.0, 2.0], [0.015, 0.11])
    set_log_scale(axes.yaxis)
    figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert {"0.02", "0.05", "0.1"} <= set(labels)
    assert not any(each.get_text() for each in axes.get_yticklabels(minor=True))
