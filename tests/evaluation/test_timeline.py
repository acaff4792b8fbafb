"""What programs did when, kept small."""

import pytest

from autellix.evaluation.timeline import INSTANTS, Timeline
from autellix.runtime.recording import Span, State, Track


def track(*moves: tuple[State | None, float], opened_s: float = 0.0) -> Track:
    """Return a program of one call that goes through states; None ends the call."""
    made = Track("chat", opened_s)
    for state, at_s in moves[:-1]:
        made.move(0, state, at_s)
    made.close(moves[-1][1])
    return made


TRACKS = (
    track((State.WAITING, 0.0), (State.RUNNING, 250.0), (None, 1_000.0)),
    track(
        (State.RUNNING, 100.0),
        (State.PREEMPTED, 150.0),
        (State.RUNNING, 150.5),  # between two looks
        (None, 400.0),
        opened_s=100.0,
    ),
)


def test_what_is_drawn_is_what_was_done() -> None:
    """In seconds from the first arrival, what nobody can see left out."""
    timeline = Timeline.of(TRACKS)
    assert timeline.step_s == 1_000.0 / INSTANTS
    assert list(timeline.spans()) == [
        [Span(State.WAITING, 0.0, 250.0), Span(State.RUNNING, 250.0, 1_000.0)],
        [
            Span(State.RUNNING, 100.0, 150.0),
            Span(State.PREEMPTED, 150.0, 151.0),
            Span(State.RUNNING, 151.0, 400.0),
        ],
    ]
    assert timeline.looks[0] == "w250r750"


def test_runs_that_meet_again_are_one() -> None:
    """A state between two looks leaves no seam."""
    made = track(
        (State.RUNNING, 0.0), (State.WAITING, 0.2), (State.RUNNING, 0.4), (None, 900.0)
    )
    assert Timeline.of([made]).looks == ["r1000"]


def test_a_program_of_no_time_is_there_and_not_seen() -> None:
    """Rows and programs stay in step; a run of no time at all has a timeline too."""
    never = track((None, 30.0), opened_s=30.0)
    assert list(Timeline.of([*TRACKS, never]).spans())[2] == []
    assert list(Timeline.of([never]).spans()) == [[]]


@pytest.mark.parametrize("looks", ["x3", "w", "3", "w3 r1"])
def test_what_is_no_timeline_is_refused(looks: str) -> None:
    """It came from a file."""
    with pytest.raises(ValueError, match="no timeline"):
        Timeline.from_json({"step_s": 1.0, "firsts": [0], "looks": [looks]})
