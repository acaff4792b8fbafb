"""One program while it is recorded, and what it is in a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.workloads.lineage import (
    Branch,
    close_branch,
    current_branch,
    open_branch,
)
from autellix.workloads.prefix_sharing import SharedTokens, Start
from autellix.workloads.trace import TraceCall
from autellix.workloads.trace_checks import outputs_in_prompt

if TYPE_CHECKING:
    from autellix.runtime.events import Event

GROUP_TOKENS: Final = 32
"""Prompts of different programs that share less at their start are no group."""


@attrs.define(eq=False)
class TapedCall:
    """A call, as it becomes known.

    Attributes:
        thread: Name of the branch that made it.
        submitted_s: When.
        prompt_tokens: Length of its prompt.
        follows: Places of the calls that it comes after.
        start: What its prompt begins with.
        group: The first tokens of its prompt.
        output: Its output as its consumer takes it, until it is in the tree.
        ended_s: When it had ended; None while it has not.
        output_tokens: Length of its output; 0 where it did not end well.
        service_s: Time of the steps it took part in.
    """

    thread: str
    submitted_s: float
    prompt_tokens: int
    follows: set[int]
    start: Start | None
    group: tuple[int, ...]
    output: Sequence[int] = ()
    ended_s: float | None = None
    output_tokens: int = 0
    service_s: float = 0.0


@attrs.define(eq=False)
class Tape:
    """One program.

    Attributes:
        name: Its class.
        opened_s: When its block began.
        is_closed: Whether its block has ended.
        calls: As they were submitted.
    """

    name: str
    opened_s: float
    is_closed: bool = False
    calls: list[TapedCall] = attrs.field(factory=list)
    _main: Branch = attrs.field(init=False)
    _threads: dict[int, str] = attrs.field(factory=dict, init=False)
    """Names of branches by their first calls."""
    _places: dict[int, int] = attrs.field(factory=dict, init=False)
    """Places of calls by their ids in the runtime."""
    _before: list[int] = attrs.field(factory=list, init=False)
    """Places of all calls before each call, as bits."""
    _unread: list[int] = attrs.field(factory=list, init=False)
    """Calls that have ended and whose output is not in the tree."""
    _tree: SharedTokens = attrs.field(factory=SharedTokens, init=False)

    def __attrs_post_init__(self) -> None:
        self._main = open_branch(self)

    def close(self) -> None:
        """Take in that the block has ended."""
        self.is_closed = True
        close_branch(self._main)
        self._forget_if_over()

    def submit(self, event: Event, call_id: int) -> TapedCall:
        """Take a call in; in the task that makes it."""
        self._read()
        place, prompt = len(self.calls), tuple(event.tokens)
        branch = current_branch(self, self._main)
        follows: set[int] = set()
        for other in branch.submit(place, self._has_ended):
            # What goes on while a call streams follows what that follows.
            call = self.calls[other]
            follows |= {other} if self._has_ended(other) else call.follows
        follows = self._nearest(follows)
        if "after" in event.details:
            said = str(event.details["after"]).split(",")
            known = (self._places.get(int(name)) for name in said if name)
            follows = {place for place in known if place is not None}
        self._before.append(self._all_before(follows))
        call = TapedCall(
            self._threads.setdefault(branch.first or 0, f"{len(self._threads)}"),
            event.at_s,
            len(prompt),
            follows,
            self._tree.add(place, prompt),
            prompt[:GROUP_TOKENS],
        )
        self._places[call_id] = place
        self.calls.append(call)
        return call

    def retry(self, was: int, call_id: int) -> None:
        """Take in that a call that had failed was sent again under another id."""
        self._places[call_id] = place = self._places.pop(was)
        self.calls[place].ended_s = None

    def end(self, event: Event, call_id: int, *, is_well: bool) -> None:
        """Take in that a call has ended."""
        place = self._places[call_id]
        call = self.calls[place]
        call.ended_s = event.at_s
        if is_well:
            call.output_tokens = int(event.details["output_tokens"])
            call.service_s = float(event.details["service_s"])
            call.output = event.tokens
            self._unread.append(place)
        self._forget_if_over()

    @property
    def is_over(self) -> bool:
        """Whether it is closed, and its last call has ended."""
        return self.is_closed and all(call.ended_s is not None for call in self.calls)

    def _has_ended(self, place: int) -> bool:
        return self.calls[place].ended_s is not None

    def _forget_if_over(self) -> None:
        """Let go of all token ids once no prompt can come any more."""
        if self.is_over:
            self._tree = SharedTokens()
            for place in self._unread:
                self.calls[place].output = ()

    def _read(self) -> None:
        """Put into the tree what consumers have got of their answers meanwhile."""
        waiting = []
        for place in self._unread:
            call = self.calls[place]
            if len(call.output) < call.output_tokens - 1:  # an end of text has no id
                waiting.append(place)
                continue
            self._tree.extend(place, call.output)
            call.output = ()
        self._unread = waiting

    def _nearest(self, follows: set[int]) -> set[int]:
        """Leave out calls that come before others of them."""
        further = 0
        for place in follows:
            further |= self._before[place]
        return {place for place in follows if not further >> place & 1}

    def _all_before(self, follows: set[int]) -> int:
        bits = 0
        for place in follows:
            bits |= self._before[place] | 1 << place
        return bits


def trace_calls(
    tape: Tape, groups: Mapping[tuple[int, ...], tuple[str, int]]
) -> list[TraceCall]:
    """Return the calls that ended well, as a trace has them.

    Args:
        tape: Of a program that is over.
        groups: Name and tokens of the groups of prompts, by their first tokens.
    """
    kept: dict[int, int] = {}
    parents: dict[int, set[int]] = {}
    calls: list[TraceCall] = []
    ancestors: list[int] = []
    ended_s: list[float] = []
    for place, taped in enumerate(tape.calls):
        followed = set()
        for other in taped.follows:
            # What follows a call that failed follows what that followed.
            followed |= {kept[other]} if other in kept else parents[other]
        parents[place] = followed
        if not taped.output_tokens:
            continue
        bits = 0
        for parent in followed:
            bits |= ancestors[parent] | 1 << parent
        start = taped.start
        if start is not None:
            known = kept.get(start.call)
            start = None if known is None else Start(known, start.tokens)
        call = _call(tape, taped, sorted(followed), groups.get(taped.group))
        ends_s = [ended_s[parent] for parent in followed]
        since_s = max(ends_s, default=tape.opened_s)
        call = attrs.evolve(call, tool_seconds_before=taped.submitted_s - since_s)
        calls.append(_sharing(call, start, calls, bits))
        kept[place] = len(calls) - 1
        ancestors.append(bits)
        ended_s.append(taped.ended_s or 0.0)
    return calls


def _call(
    tape: Tape, taped: TapedCall, parents: list[int], group: tuple[str, int] | None
) -> TraceCall:
    return TraceCall(
        parents=parents,
        thread=taped.thread,
        prompt_tokens=taped.prompt_tokens,
        output_tokens=taped.output_tokens,
        prefix_group=None if group is None else group[0],
        group_prefix_tokens=None if group is None else group[1],
        latency_s=taped.service_s,
        issued_at_s=taped.submitted_s - tape.opened_s,
        gap=("tool" if len(parents) == 1 else "join") if parents else None,
    )


def _sharing(
    call: TraceCall, start: Start | None, calls: list[TraceCall], before: int
) -> TraceCall:
    """Return a call with what its prompt begins with, as far as that can be replayed.

    Of the output of a call that it does not follow nothing can: it might not be there.
    """
    while start is not None and start.tokens:
        candidate = attrs.evolve(
            call,
            prefix_call=start.call,
            new_prompt_tokens=call.prompt_tokens - start.tokens,
        )
        outputs = outputs_in_prompt([*calls, candidate], len(calls))
        needed = next(outputs, None)
        if needed is None or before >> needed & 1:
            return candidate
        start = Start(start.call, calls[needed].prompt_tokens)
    return call
