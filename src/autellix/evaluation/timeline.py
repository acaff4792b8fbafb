"""What every program was doing, instant by instant: small, however long the run was.

A program's calls begin, are preempted and go on thousands of times a run. Nobody can
see that in a picture, so it is looked at so many times only, at equal distances.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from autellix.runtime.recording import Span, State

if TYPE_CHECKING:
    from autellix.runtime.recording import Track

INSTANTS: Final = 1_000
"""How often a run is looked at."""

_LETTERS: Final = {state: state.value[0] for state in State}
_STATES: Final = {letter: state for state, letter in _LETTERS.items()}
_RUN: Final = re.compile(r"(\D)(\d+)")


@attrs.frozen(kw_only=True)
class Timeline:
    """One run.

    Attributes:
        step_s: From one look to the next, seconds; the first is at the first arrival.
        firsts: At which look each program was first seen, in order of arrival.
        looks: What it did from then on: letters of states, each with how many looks
            long, as in ``w12r30``.
    """

    step_s: float
    firsts: Sequence[int]
    looks: Sequence[str]

    @classmethod
    def of(cls, tracks: Iterable[Track]) -> Self:
        """Return what was seen of programs that have all ended; at least one."""
        programs = [_spans(track) for track in tracks]
        start_s = min(spans[0].start_s for spans in programs)
        end_s = max(spans[-1].end_s for spans in programs)
        step_s = (end_s - start_s) / INSTANTS or 1.0

        def look(at_s: float) -> int:
            return ceil((at_s - start_s) / step_s)

        return cls(
            step_s=step_s,
            firsts=[look(spans[0].start_s) for spans in programs],
            looks=[
                _written(
                    (span.state, look(span.end_s) - look(span.start_s))
                    for span in spans
                )
                for spans in programs
            ],
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what ``attrs.asdict`` made a table of.

        Raises:
            ValueError: It is no timeline.
        """
        timeline = cls(**value)
        for looks in timeline.looks:
            if not re.fullmatch(rf"(?:[{''.join(_STATES)}]\d+)*", looks):
                raise ValueError(f"no timeline of a program: {looks!r:.80}")
        return timeline

    def spans(self) -> Iterator[list[Span]]:
        """Yield what each program did, in seconds; none, if it was never seen."""
        for first, looks in zip(self.firsts, self.looks, strict=True):
            spans, at = [], first
            for letter, length in _RUN.findall(looks):
                start_s = at * self.step_s
                at += int(length)
                spans.append(Span(_STATES[letter], start_s, at * self.step_s))
            yield spans


def _spans(track: Track) -> Sequence[Span]:
    """Return what a program did; one that took no time did nothing."""
    return track.spans or [Span(State.THINKING, track.opened_s, track.opened_s)]


def _written(runs: Iterable[tuple[State, int]]) -> str:
    seen = (run for run in runs if run[1])
    return "".join(
        f"{_LETTERS[state]}{sum(length for _, length in group)}"
        for state, group in groupby(seen, key=itemgetter(0))
    )
