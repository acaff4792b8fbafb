"""Pictures of single runs: that they show what they are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autellix.evaluation import run_pictures
from autellix.evaluation.canvas import COLOURS
from autellix.evaluation.lessons import Lessons
from autellix.evaluation.timeline import Timeline
from autellix.runtime.recording import State
from tests.evaluation.builders import point, result, row
from tests.evaluation.test_lessons import TABLE
from tests.evaluation.test_timeline import TRACKS

figures = pytest.importorskip("matplotlib.figure")
ROWS = [row(1_000.0), row(300.0, started_s=100.0)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the figure that is drawn on; nothing is rendered."""
    figure = figures.Figure()

    @contextmanager
    def canvas(*_: Any, **__: Any) -> Iterator[Any]:
        yield figure

    monkeypatch.setattr(run_pictures, "canvas", canvas)
    return figure


def lines(axes: Any, label: str) -> list[tuple[float, float, float]]:
    """Return where lines begin and end, and in which row, of those with a label."""
    (found,) = (each for each in axes.collections if each.get_label() == label)
    return [(line[0][0], line[1][0], line[0][1]) for line in found.get_segments()]


def test_a_timeline_shows_running_and_waiting(drawn: Any, tmp_path: Path) -> None:
    """Each state in its colour, a row a program."""
    run = result(point(), ROWS, timeline=Timeline.of(TRACKS))
    run_pictures.draw_timeline([("fcfs", run)], "title", tmp_path / "p.png")
    (axes,) = drawn.axes
    states = run_pictures._STATES
    assert lines(axes, states[State.WAITING][1]) == [(0.0, 250.0, 0)]
    running = [(250.0, 1_000.0, 0), (100.0, 150.0, 1), (151.0, 400.0, 1)]
    assert lines(axes, states[State.RUNNING][1]) == running
    assert lines(axes, states[State.PREEMPTED][1]) == [(150.0, 151.0, 1)]


def test_a_run_without_a_timeline_is_drawn_as_lines(drawn: Any, tmp_path: Path) -> None:
    """Results from before there was one can be drawn."""
    run_pictures.draw_timeline([("fcfs", result(point(), ROWS))], "t", tmp_path / "p")
    assert len(drawn.axes[0].collections[0].get_segments()) == 2


def test_what_was_learned_is_shown_class_by_class(drawn: Any, tmp_path: Path) -> None:
    """The distribution, the index curve, and how many ends they rest on."""
    run = result(point(policy="gittins"), ROWS, lessons=Lessons.of(TABLE))
    run_pictures.draw_lessons([("gittins", run)], "title", tmp_path / "p.png")
    above, below = drawn.axes
    assert above.get_title() == "chat"
    assert [line.get_label() for line in above.lines] == ["gittins, 4 ends"]
    shown, learned = below.lines[0].get_ydata(), TABLE.rows["chat"].rank_s
    assert list(shown) == pytest.approx(learned[1 : len(shown) + 1], rel=1e-5)


def test_what_was_learned_without_classes_is_shown_as_one(
    drawn: Any, tmp_path: Path
) -> None:
    """A short run has only rare classes."""
    few = Lessons.of(type(TABLE)(first_s=0.001))
    run = result(point(policy="gittins"), ROWS, lessons=few)
    run_pictures.draw_lessons([("gittins", run)], "title", tmp_path / "p.png")
    assert drawn.axes[0].get_title() == "all programs"


@pytest.mark.slow
def test_pictures_are_files(tmp_path: Path) -> None:
    """Of both kinds."""
    run = result(point(), ROWS, timeline=Timeline.of(TRACKS), lessons=Lessons.of(TABLE))
    run_pictures.draw_timeline([("a", run), ("b", run)], "t", tmp_path / "one.png")
    run_pictures.draw_lessons([("a", run)], "t", tmp_path / "two.png")
    assert (tmp_path / "one.png").stat().st_size > 1_000
    assert (tmp_path / "two.png").stat().st_size > 1_000


def test_more_runs_than_colours_are_drawn(drawn: Any, tmp_path: Path) -> None:
    """Colours come again; none of the runs is left out."""
    run = result(point(), ROWS, lessons=Lessons.of(TABLE))
    runs = [(f"gittins {number}", run) for number in range(len(COLOURS) + 2)]
    run_pictures.draw_lessons(runs, "t", tmp_path / "p")
    legend = drawn.axes[0].get_legend()
    assert len(legend.get_texts()) == len(runs)
