"""Events become times in which programs ran, waited, were preempted, or did neither."""

import anyio

from autellix.backends.simulated import SimulatedEngine
from autellix.policies import PLAS, Ladder
from autellix.runtime import AutellixRuntime, Event, EventKind
from autellix.runtime.recording import Recording, Span, State
from autellix.testing import run_virtual


def told(*events: tuple[float, EventKind, int | None]) -> Recording:
    """Return a recording of one program's events: instant, kind, call."""
    recording = Recording()
    for at_s, kind, call in events:
        details = {"output_tokens": 5, "was": 1}
        recording(
            Event(
                at_s=at_s,
                kind=kind,
                program=7,
                program_class="chat",
                call=call,
                details=details,
            )
        )
    return recording


def test_spans_cover_a_program_without_gaps() -> None:
    """Each begins where the one before ended; what takes no time is left out."""
    recording = told(
        (1.0, EventKind.PROGRAM_OPENED, None),
        (1.5, EventKind.SUBMITTED, 1),
        (2.0, EventKind.BOUND, 1),
        (2.0, EventKind.SCHEDULED, 1),
        (2.5, EventKind.FIRST_TOKEN, 1),
        (3.0, EventKind.PREEMPTED, 1),
        (4.0, EventKind.RESUMED, 1),
        (5.0, EventKind.ENDED, 1),
        (5.5, EventKind.PROGRAM_CLOSED, None),
    )
    track = recording.tracks[7]
    assert track.spans == [
        Span(State.THINKING, 1.0, 1.5),
        Span(State.WAITING, 1.5, 2.0),
        Span(State.RUNNING, 2.0, 3.0),
        Span(State.PREEMPTED, 3.0, 4.0),
        Span(State.RUNNING, 4.0, 5.0),
        Span(State.THINKING, 5.0, 5.5),
    ]
    assert (track.opened_s, track.closed_s, track.output_tokens) == (1.0, 5.5, 5)
    assert recording.ended() == [track]


def test_a_program_open_at_an_interruption_has_not_ended() -> None:
    """Its block ends, by the interruption; what had ended before stays so."""
    opened = (1.0, EventKind.PROGRAM_OPENED, None)
    closed = (2.0, EventKind.PROGRAM_CLOSED, None)
    before, during = told(opened, closed), told(opened)
    before.interrupt()
    during.interrupt()
    during(Event(at_s=2.0, kind=EventKind.PROGRAM_CLOSED, program=7))
    assert [one.tracks[7].was_interrupted for one in (before, during)] == [False, True]
    assert [len(one.ended()) for one in (before, during)] == [1, 0]


def test_a_program_does_the_best_that_one_of_its_calls_does() -> None:
    """Running goes before preempted, preempted before waiting."""
    recording = told(
        (0.0, EventKind.PROGRAM_OPENED, None),
        (0.0, EventKind.SUBMITTED, 1),
        (0.0, EventKind.SUBMITTED, 2),
        (1.0, EventKind.SCHEDULED, 1),
        (2.0, EventKind.PREEMPTED, 1),
        (3.0, EventKind.SCHEDULED, 2),
        (4.0, EventKind.ENDED, 2),
    )
    assert [span.state for span in recording.tracks[7].spans] == [
        State.WAITING,
        State.RUNNING,
        State.PREEMPTED,
        State.RUNNING,
    ]
    assert recording.states() == {State.PREEMPTED: 1}


def test_a_retried_call_waits_under_its_new_id() -> None:
    """The old id is gone with its engine."""
    recording = told(
        (0.0, EventKind.PROGRAM_OPENED, None),
        (0.0, EventKind.SUBMITTED, 1),
        (1.0, EventKind.SCHEDULED, 1),
        (2.0, EventKind.RETRIED, 2),
        (3.0, EventKind.SCHEDULED, 2),
        (4.0, EventKind.ENDED, 2),
        (5.0, EventKind.PROGRAM_CLOSED, None),
    )
    spans = recording.tracks[7].spans
    assert [span.state for span in spans[:4]] == [
        State.WAITING,
        State.RUNNING,
        State.WAITING,
        State.RUNNING,
    ]
    assert spans[-1] == Span(State.THINKING, 4.0, 5.0)


def test_calls_that_end_after_their_program_change_nothing_but_tokens() -> None:
    """A cancelled call ends with the step it is in, perhaps after its program."""
    recording = told(
        (0.0, EventKind.PROGRAM_OPENED, None),
        (0.0, EventKind.SUBMITTED, 1),
        (1.0, EventKind.SCHEDULED, 1),
        (2.0, EventKind.PROGRAM_CLOSED, None),
        (2.5, EventKind.ENDED, 1),
    )
    track = recording.tracks[7]
    assert track.spans[-1] == Span(State.RUNNING, 1.0, 2.0)
    assert track.output_tokens == 5


def test_a_real_run_is_recorded_as_its_calls_report_it() -> None:
    """Per program of one chain, waiting and preempted time is the wait of its calls."""
    ladder = Ladder.geometric(0.1, 2.0, 4)
    waits_s: list[float] = []
    recording = Recording()

    async def main() -> None:
        engine = SimulatedEngine(slots=1)
        runtime = AutellixRuntime(engines=[engine], policy=PLAS(ladder=ladder))
        async with runtime, anyio.create_task_group() as tasks:
            with runtime.listen(recording):
                for index in range(3):
                    tasks.start_soon(one, runtime, index)
                await anyio.sleep(60)

    async def one(runtime: AutellixRuntime, index: int) -> None:
        await anyio.sleep(index * 0.05)
        async with runtime.program("one") as program:
            result = await program.generate("x" * 9, max_tokens=40, ignore_end=True)
        waits_s.append(sum(result.report.wait_s.values()))

    run_virtual(main)
    recorded_s = [
        sum(
            span.end_s - span.start_s
            for span in track.spans
            if span.state in {State.WAITING, State.PREEMPTED}
        )
        for track in recording.tracks.values()
    ]
    assert len(waits_s) == 3
    assert abs(sum(recorded_s) - sum(waits_s)) < 0.1
    states = {span.state for track in recording.tracks.values() for span in track.spans}
    assert State.PREEMPTED in states
