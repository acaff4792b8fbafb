"""Turns what happens into events; does nothing at all when nobody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from autellix.core import facts
from autellix.runtime.clock import NS_PER_S, now_ns
from autellix.runtime.events import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.facts import Fact
    from autellix.core.process_table import ProcessTable
    from autellix.core.records import CallReport
    from autellix.errors import EngineLost
    from autellix.runtime.events import Detail, Events
    from autellix.runtime.session import OpenCall, Session


_KINDS: Final[dict[type[facts.Fact], EventKind]] = {
    facts.Scheduled: EventKind.SCHEDULED,
    facts.FirstToken: EventKind.FIRST_TOKEN,
    facts.Preempted: EventKind.PREEMPTED,
    facts.Resumed: EventKind.RESUMED,
    facts.Demoted: EventKind.DEMOTED,
    facts.Raised: EventKind.RAISED,
    facts.Promoted: EventKind.PROMOTED,
    facts.Reserved: EventKind.RESERVED,
}


class Telling:
    """Tells listeners about programs, calls and engines."""

    __slots__ = ("_events", "_table")

    def __init__(self, events: Events, table: ProcessTable) -> None:
        self._events = events
        self._table = table

    def program(self, kind: EventKind, session: Session, at_ns: int) -> None:
        """Tell of a program that opened or closed."""
        if self._events.listeners:
            self._events.emit(
                Event(
                    at_s=at_ns / NS_PER_S,
                    kind=kind,
                    program=session.program_id,
                    program_class=session.name,
                )
            )

    def submitted(self, call: OpenCall) -> None:
        """Tell of a call that was made."""
        if self._events.listeners:
            details: dict[str, Detail] = {"prompt_tokens": len(call.prompt)}
            if call.request.after is not None:
                follows = (str(result.call_id) for result in call.request.after)
                details["after"] = ",".join(follows)
            self.call(
                EventKind.SUBMITTED,
                call,
                call.submitted_ns,
                tokens=call.prompt,
                **details,
            )

    def call(
        self,
        kind: EventKind,
        call: OpenCall,
        at_ns: int,
        *,
        tokens: Sequence[int] = (),
        **details: Detail,
    ) -> None:
        """Tell of a call, on its way to an engine or back."""
        if self._events.listeners:
            self._events.emit(
                Event(
                    at_s=at_ns / NS_PER_S,
                    kind=kind,
                    program=call.session.program_id,
                    program_class=call.session.name,
                    call=call.call_id,
                    engine=call.engine.name if call.engine else None,
                    details=details,
                    tokens=tokens,
                )
            )

    def ended(self, call: OpenCall, report: CallReport) -> None:
        """Tell of a call's end."""
        if self._events.listeners:
            waited_ns = sum(report.wait_ns.values()) + call.intake_ns
            self.call(
                EventKind.ENDED,
                call,
                report.ended_ns,
                tokens=call.output,
                outcome=report.outcome.value,
                level=report.level,
                service_s=report.service_ns / NS_PER_S,
                wait_s=waited_ns / NS_PER_S,
                output_tokens=report.output_tokens,
            )

    def engine_lost(self, name: str, error: EngineLost) -> None:
        """Tell of the loss of an engine."""
        if self._events.listeners:
            self._events.emit(
                Event(
                    at_s=now_ns() / NS_PER_S,
                    kind=EventKind.ENGINE_LOST,
                    engine=name,
                    details={"error": str(error)},
                )
            )

    def fact(self, engine: str, fact: Fact) -> None:
        """Tell what an engine says of a call; its end is told by ``ended`` alone."""
        if not self._events.listeners:
            return
        told = _told(fact)
        if told is None:
            return
        kind, details = told
        self._events.emit(
            Event(
                at_s=fact.at_ns / NS_PER_S,
                kind=kind,
                program=fact.program_id,
                program_class=self._table.view(fact.program_id).program_class,
                call=fact.call_id,
                engine=engine,
                details=details,
            )
        )


def _told(fact: Fact) -> tuple[EventKind, dict[str, Detail]] | None:
    """Return what to tell of a fact; None of an end, which the runtime itself tells."""
    details: dict[str, Detail]
    match fact:
        case facts.Scheduled():
            details = {"cached_tokens": fact.cached_tokens, "level": fact.level}
        case facts.Preempted():
            details = {"preemption": fact.kind.value, "by": fact.by}
        case facts.Resumed():
            details = {"preemption": fact.kind.value}
        case facts.Demoted() | facts.Raised():
            details = {"level": fact.level, "was": fact.was}
        case facts.Promoted():
            details = {"level": 0, "was": fact.was}
        case _:
            details = {}
    kind = _KINDS.get(type(fact))
    return None if kind is None else (kind, details)
