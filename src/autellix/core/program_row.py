"""A program's row: the mutable record of the process table, and the view others get.

Rows are many (an idle program has one, and little else), so they have slots and no dict
before they need one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from autellix.core.ranking import ProgramCharge
from autellix.core.records import FairnessWindow, WaitReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autellix.core.records import Job, ProgramDelta

_NEW_WINDOW = FairnessWindow()
_NO_WAIT: Mapping[WaitReason, int] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class ProgramView:
    """Frozen snapshot of a program's row.

    Attributes:
        program_id: Given at the opening.
        program_class: The name given to ``runtime.program(name)``.
        arrival: Place in the order of arrival.
        opened_ns: Instant of the opening.
        size_ns: Total charge, where an oracle knows it.
        service_ns: Sum over ended calls (rule A5).
        work_ns: Sum over ended calls.
        critical_path_ns: Longest chain of calls so far, in the policy's charge.
        ran_ns: T over its life: time in which at least one call ran (rule A7).
        waited_ns: W over its life: time in which at least one waited and none ran.
        window: T and W since its last promotion.
        wait_ns: Sum over calls, by reason (rule A9).
        engine: The engine it is bound to.
        live_calls: Calls submitted and not ended.
        calls: Calls ended.
        output_tokens: Produced by ended calls.
        last_arrival_ns: Instant of the last submission.
        last_completion_ns: Instant of the last end of a call.
        is_closed: Whether the program has ended; the row stays for its live calls.
    """

    program_id: int
    program_class: str
    arrival: int
    opened_ns: int
    size_ns: int | None
    service_ns: int
    work_ns: int
    critical_path_ns: int
    ran_ns: int
    waited_ns: int
    window: FairnessWindow
    wait_ns: Mapping[WaitReason, int]
    engine: str | None
    live_calls: int
    calls: int
    output_tokens: int
    last_arrival_ns: int | None
    last_completion_ns: int | None
    is_closed: bool


@attrs.define(eq=False)
class Row:
    """What is known of a program; written to by the process table alone."""

    job: Job
    opened_ns: int
    service_ns: int = 0
    work_ns: int = 0
    critical_path_ns: int = 0
    reached_ns: int = 0  # what a further call would inherit
    ran_ns: int = 0
    waited_ns: int = 0
    window: FairnessWindow = _NEW_WINDOW
    wait_ns: dict[WaitReason, int] | None = None  # most rows never need one
    engine: str | None = None
    live_calls: int = 0
    calls: int = 0
    output_tokens: int = 0
    last_arrival_ns: int | None = None
    last_completion_ns: int | None = None
    is_closed: bool = False

    def view(self) -> ProgramView:
        """Return a frozen snapshot."""
        return ProgramView(
            program_id=self.job.program_arrival,
            program_class=self.job.program_class,
            arrival=self.job.program_arrival,
            opened_ns=self.opened_ns,
            size_ns=self.job.size_ns,
            service_ns=self.service_ns,
            work_ns=self.work_ns,
            critical_path_ns=self.critical_path_ns,
            ran_ns=self.ran_ns,
            waited_ns=self.waited_ns,
            window=self.window,
            wait_ns=_NO_WAIT if self.wait_ns is None else dict(self.wait_ns),
            engine=self.engine,
            live_calls=self.live_calls,
            calls=self.calls,
            output_tokens=self.output_tokens,
            last_arrival_ns=self.last_arrival_ns,
            last_completion_ns=self.last_completion_ns,
            is_closed=self.is_closed,
        )

    def charge(self, *, has_ended: bool) -> ProgramCharge:
        """Return what a further call would inherit, for policies that learn."""
        return ProgramCharge(
            program_class=self.job.program_class,
            arrival=self.job.program_arrival,
            charge_ns=self.reached_ns,
            has_ended=has_ended,
        )

    def add_wait(self, reason: WaitReason, waited_ns: int) -> None:
        """Add to the wait for one reason."""
        if self.wait_ns is None:
            self.wait_ns = {}
        self.wait_ns[reason] = self.wait_ns.get(reason, 0) + waited_ns

    def add_delta(self, delta: ProgramDelta) -> None:
        """Fold what an engine, or the runtime's own queue, saw of the program."""
        self.ran_ns += delta.ran_ns
        self.waited_ns += delta.waited_ns
        if delta.promoted:
            self.window = delta.window
        elif delta.window != _NEW_WINDOW:
            self.window = FairnessWindow(
                ran_ns=self.window.ran_ns + delta.window.ran_ns,
                waited_ns=self.window.waited_ns + delta.window.waited_ns,
            )
