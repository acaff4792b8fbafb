"""What became of each program, put together from events: for progress and pictures."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from autellix.runtime.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autellix.runtime.events import Event


class State(StrEnum):
    """What a call does; of a program, the first of these that one of its calls does."""

    RUNNING = "running"
    PREEMPTED = "preempted"
    WAITING = "waiting"
    THINKING = "thinking"
    """No call is live: the agent uses a tool, or its user reads and types."""


class Span(NamedTuple):
    """A time, in seconds, in which a program was in one state."""

    state: State
    start_s: float
    end_s: float


_NEXT_STATE: Final[Mapping[EventKind, State]] = {
    EventKind.SUBMITTED: State.WAITING,
    EventKind.RETRIED: State.WAITING,
    EventKind.SCHEDULED: State.RUNNING,
    EventKind.RESUMED: State.RUNNING,
    EventKind.PREEMPTED: State.PREEMPTED,
}


@attrs.define(eq=False)
class Track:
    """One program.

    Attributes:
        name: Its class.
        opened_s: When its block began.
        closed_s: When its block ended; None while it has not.
        was_interrupted: Whether Ctrl-C came before that.
        spans: What it did in between, without gaps.
        output_tokens: Of its calls that have ended.
    """

    name: str
    opened_s: float
    closed_s: float | None = None
    was_interrupted: bool = False
    spans: list[Span] = attrs.field(factory=list)
    output_tokens: int = 0
    state: State = State.THINKING
    _since_s: float = attrs.field(init=False)
    _calls: dict[int, State] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._since_s = self.opened_s

    @property
    def has_ended(self) -> bool:
        """Whether its block ended by itself."""
        return self.closed_s is not None and not self.was_interrupted

    def move(self, call: int, state: State | None, at_s: float) -> None:
        """Take in what a call does from now on; None: it has ended.

        A cancelled call may end after its program; that changes nothing any more.
        """
        if self.closed_s is not None:
            return
        if state is None:
            self._calls.pop(call, None)
        else:
            self._calls[call] = state
        doing = set(self._calls.values())
        self._turn(next((s for s in State if s in doing), State.THINKING), at_s)

    def close(self, at_s: float) -> None:
        """Take in that its block has ended."""
        if at_s > self._since_s:
            self.spans.append(Span(self.state, self._since_s, at_s))
        self.closed_s = at_s

    def _turn(self, state: State, at_s: float) -> None:
        if self.state is state:
            return
        if at_s > self._since_s:
            self.spans.append(Span(self.state, self._since_s, at_s))
        self.state = state
        self._since_s = at_s


@attrs.define(eq=False)
class Recording:
    """Listens to a runtime.

    Attributes:
        tracks: Programs by id, in the order in which they opened.
    """

    tracks: dict[int, Track] = attrs.field(factory=dict)

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        if event.program is None:
            return
        if event.kind is EventKind.PROGRAM_OPENED:
            name = event.program_class or ""
            self.tracks[event.program] = Track(name, event.at_s)
            return
        track = self.tracks[event.program]
        if event.kind is EventKind.PROGRAM_CLOSED:
            track.close(event.at_s)
        elif event.call is not None:
            self._take_call(track, event, event.call)

    def _take_call(self, track: Track, event: Event, call: int) -> None:
        if event.kind is EventKind.RETRIED:
            track.move(int(event.details["was"]), None, event.at_s)
        if event.kind in _NEXT_STATE:
            track.move(call, _NEXT_STATE[event.kind], event.at_s)
        elif event.kind is EventKind.ENDED:
            track.output_tokens += int(event.details["output_tokens"])
            track.move(call, None, event.at_s)

    def interrupt(self) -> None:
        """Take in that programs now open will be cancelled."""
        for track in self.tracks.values():
            if track.closed_s is None:
                track.was_interrupted = True

    def ended(self) -> list[Track]:
        """Return the programs whose block has ended by itself."""
        return [track for track in self.tracks.values() if track.has_ended]

    def states(self) -> Counter[State]:
        """Return how many open programs are in each state."""
        open_ones = (t for t in self.tracks.values() if t.closed_s is None)
        return Counter(track.state for track in open_ones)

    def output_tokens(self) -> int:
        """Return how many tokens the calls that have ended produced."""
        return sum(track.output_tokens for track in self.tracks.values())
