"""What the core asks of a policy: three small choices, as structural protocols.

A policy says what a new call inherits from its program, how its age is ranked into
levels, and who goes first inside a level (DESIGN section 3). All are frozen specs of
plain fields, so that they can cross into an engine's process (rule Q6).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from autellix.core.process_table import ProgramView
    from autellix.core.records import Charge, Job


@attrs.frozen
class Placement:
    """A level, and the age at which the call is to be placed anew.

    Attributes:
        level: 0 is served first.
        expires_at_ns: Age (inherited + own charge) from which ``expire`` is asked;
            None: never.
    """

    level: int
    expires_at_ns: int | None


class Ranking(Protocol):
    """Maps job and age to a level (rule Q1). Pure: same arguments, same placement."""

    @property
    def levels(self) -> int:
        """Number of levels K; placements are in ``range(K)``."""

    @property
    def first_quantum_ns(self) -> int:
        """Floor of T in the starvation rule (Q3), nanoseconds."""

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place a call at submission; ``age_ns`` is what it inherited."""

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place a call whose age reached its expiry on ``level``."""

    def review(self, job: Job, age_ns: int, level: int) -> Placement | None:
        """Place a waiting call that an earlier version put on ``level``; None: there.

        For rankings whose levels mean the same in every version: what was learned since
        holds for those who wait already, too.
        """

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place a call of a starving program: level 0, best until it ends.

        A promotion that ends earlier can cost more than it gives: what the call lost of
        its KV meanwhile is computed again first.
        """


class InnerOrder(StrEnum):
    """Who goes first inside a level (rule Q2)."""

    LEVEL_ARRIVAL = "level arrival"
    """First come to the level, first served: the paper's order."""
    PROGRAM_ARRIVAL = "program arrival"
    """Calls of earlier programs first: fewer programs in flight, warmer caches."""


class Policy(Protocol):
    """Decides the order of calls on an engine.

    The first choice (``inherited_ns``) lives with the process table, the others with
    the engine, so that an engine in another process needs a few numbers a call.
    """

    @property
    def charge(self) -> Charge:
        """What ages are counted in."""

    @property
    def inner_order(self) -> InnerOrder:
        """Who goes first inside a level."""

    @property
    def beta(self) -> float | None:
        """W/T at which a program is promoted (Q3); None: never."""

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return the charge a new call starts with (rules A5, A6).

        Args:
            program: The caller's row of the process table, as it stands.
            after: Path lengths (inherited + run) of the calls it was said to follow,
                nanoseconds; None where the caller did not say.
        """

    def ranking(self, step_ns: int) -> Ranking:
        """Return the first ranking for an engine whose step takes ``step_ns``."""

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Return a ranking fitted to what was seen, None to keep ``old`` (Q4)."""


@attrs.frozen(kw_only=True)
class ProgramCharge:
    """What one program was charged: the whole of it, or so far.

    Attributes:
        program_class: The name given to ``runtime.program(name)``.
        arrival: Place in the order of arrival.
        charge_ns: What a further call of it would inherit; more than 0.
        has_ended: Whether that is all it will be.
    """

    program_class: str
    arrival: int
    charge_ns: int
    has_ended: bool


@attrs.frozen(kw_only=True)
class ChargeSample:
    """Charges seen lately, for calibration (rule Q4).

    Attributes:
        calls_ns: Own charge of calls that ended.
        programs_ns: What a further call of each program that ended would have inherited
            (for ATLAS its critical path).
        running_programs_ns: The same so far of programs still open (right-censored).
        programs: The same of both kinds one by one, for policies that learn by class;
            of those that ended only so many of the last.
        programs_ended: How many have ended since the beginning.
    """

    calls_ns: Sequence[int]
    programs_ns: Sequence[int]
    running_programs_ns: Sequence[int] = ()
    programs: Sequence[ProgramCharge] = ()
    programs_ended: int = 0
