"""What happened to a call on an engine, as small frozen facts.

The step scheduler hands them out in the order in which they happened; the runtime turns
them into events for whoever listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.records import CallReport, PreemptionKind


@attrs.frozen(kw_only=True)
class Fact:
    """Something that happened to one call at one instant (nanoseconds)."""

    at_ns: int
    call_id: int
    program_id: int


@attrs.frozen(kw_only=True)
class Scheduled(Fact):
    """Entered the batch for the first time, with so many prompt tokens from cache."""

    cached_tokens: int
    level: int


@attrs.frozen(kw_only=True)
class Resumed(Fact):
    """Entered the batch again after a preemption of the given kind."""

    kind: PreemptionKind


@attrs.frozen(kw_only=True)
class FirstToken(Fact):
    """Produced its first token."""


@attrs.frozen(kw_only=True)
class Preempted(Fact):
    """Lost its slot or its blocks to call ``by`` (itself, when it could not grow)."""

    kind: PreemptionKind
    by: int


@attrs.frozen(kw_only=True)
class Demoted(Fact):
    """Placed anew on a worse level: by age, or by another ranking (rule Q4)."""

    level: int
    was: int


@attrs.frozen(kw_only=True)
class Raised(Fact):
    """Placed anew on a better level: only table rankings do that (Q1, Q4)."""

    level: int
    was: int


@attrs.frozen(kw_only=True)
class Promoted(Fact):
    """Its program starved: put to level 0 (rule Q3)."""

    was: int


@attrs.frozen(kw_only=True)
class Reserved(Fact):
    """Was passed over for long: room is being kept for it (rule S4)."""


@attrs.frozen(kw_only=True)
class Ended(Fact):
    """Ended, exactly once."""

    report: CallReport


def about(call: Call, at_ns: int) -> dict[str, int]:
    """Return what every fact tells: when it happened, and to which call."""
    return {
        "at_ns": at_ns,
        "call_id": call.call_id,
        "program_id": call.spec.program_id,
    }
