"""Policies behind checks: a fault in one costs the programs it is about, no others.

A policy is somebody's code in the middle of the scheduler, where an exception, or an
answer that cannot be, would leave books half written. Whoever runs one asks it through
these. Where nothing has been changed yet the fault is raised. In the middle of a change
a placement that does no harm stands in, and the fault is kept for whoever can end the
calls of that program.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import attrs

from autellix.core.ranking import Placement
from autellix.errors import PolicyFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autellix.core.process_table import ProgramView
    from autellix.core.ranking import ChargeSample, InnerOrder, Policy, Ranking
    from autellix.core.records import Charge, Job


@attrs.frozen(eq=False)
class CheckedPolicy:
    """A policy whose answers are what they should be, or a ``PolicyFault``."""

    policy: Policy

    @property
    def charge(self) -> Charge:
        """What ages are counted in."""
        return self.policy.charge

    @property
    def inner_order(self) -> InnerOrder:
        """Who goes first inside a level."""
        return self.policy.inner_order

    @property
    def beta(self) -> float | None:
        """W/T at which a program is promoted (Q3); None: never."""
        return self.policy.beta

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return the charge a new call starts with.

        Raises:
            PolicyFault: It is no integer, or less than 0.
        """
        inherited_ns = _asked(
            self.policy, "inherited_ns", self.policy.inherited_ns, program, after
        )
        if not isinstance(inherited_ns, int) or inherited_ns < 0:
            wanted = "an integer of at least 0"
            raise PolicyFault(self.policy, "inherited_ns", inherited_ns, wanted)
        return inherited_ns

    def ranking(self, step_ns: int) -> CheckedRanking:
        """Return the first ranking for an engine whose step takes ``step_ns``."""
        ranking = _asked(self.policy, "ranking", self.policy.ranking, step_ns)
        return CheckedRanking.of(self.policy, "ranking", ranking)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> CheckedRanking | None:
        """Return a ranking fitted to what was seen, None to keep ``old``.

        Raises:
            PolicyFault: It is none, or has another number of levels.
        """
        new = _asked(self.policy, "recalibrated", self.policy.recalibrated, old, seen)
        if new is None:
            return None
        ranking = CheckedRanking.of(self.policy, "recalibrated", new)
        if ranking.levels != old.levels:
            wanted = f"a ranking of {old.levels} levels"
            raise PolicyFault(self.policy, "recalibrated", new, wanted)
        return ranking


@attrs.define(eq=False, kw_only=True)
class CheckedRanking:
    """A ranking whose placements are in range.

    Attributes:
        policy: Whose ranking it is.
        unchecked: The ranking itself.
        levels: Number of levels K.
        first_quantum_ns: Floor of T in the starvation rule (Q3), nanoseconds.
    """

    policy: Policy
    unchecked: Ranking
    levels: int
    first_quantum_ns: int
    _faults: dict[int, PolicyFault] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, policy: Policy, asked: str, ranking: object) -> CheckedRanking:
        """Return a ranking behind checks.

        Args:
            policy: Whose it is.
            asked: The method that gave it.
            ranking: What came.

        Raises:
            PolicyFault: It has no levels, no first quantum, or lacks a method; or it
                failed when it was asked for one of these.
        """
        read = partial(_read, policy, asked, ranking)
        levels, quantum_ns = read("levels"), read("first_quantum_ns")
        for number in (levels, quantum_ns):
            if not isinstance(number, int) or number < 1:
                wanted = "a ranking with levels and first_quantum_ns of at least 1"
                raise PolicyFault(policy, asked, ranking, wanted)
        for name in ("enter", "expire", "review", "promote"):
            if not callable(read(name)):
                raise PolicyFault(policy, asked, ranking, f"a ranking with {name}()")
        return cls(
            policy=policy,
            unchecked=cast("Ranking", ranking),
            levels=cast("int", levels),
            first_quantum_ns=cast("int", quantum_ns),
        )

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place a call at submission; a fault is raised."""
        return self._placed("enter", self.unchecked.enter, job, age_ns)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place a call anew; at a fault it stays where it is, until it is ended."""
        try:
            return self._placed("expire", self.unchecked.expire, job, age_ns, level)
        except PolicyFault as fault:
            self._faults.setdefault(job.program_arrival, fault)
            return Placement(level, None)

    def review(self, job: Job, age_ns: int, level: int) -> Placement | None:
        """Place a waiting call anew, or not; at a fault it stays until it is ended."""
        try:
            review = self.unchecked.review
            placement = _asked(self.policy, "review", review, job, age_ns, level)
            return None if placement is None else self._checked("review", placement)
        except PolicyFault as fault:
            self._faults.setdefault(job.program_arrival, fault)
            return None

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place a call on level 0; at a fault it is put there until it is ended."""
        try:
            return self._placed(
                "promote", self.unchecked.promote, job, age_ns, last_level=0
            )
        except PolicyFault as fault:
            self._faults.setdefault(job.program_arrival, fault)
            return Placement(0, None)

    def take_over(self, old: CheckedRanking | None) -> None:
        """Keep the faults of the ranking before this one."""
        if old is not None:
            self._faults = old.take_faults() | self._faults

    def take_faults(self) -> dict[int, PolicyFault]:
        """Return the faults since this was last asked, by arrival of the program."""
        if not self._faults:
            return {}
        faults, self._faults = self._faults, {}
        return faults

    def _placed(
        self,
        asked: str,
        ask: Callable[..., object],
        *about: object,
        last_level: int | None = None,
    ) -> Placement:
        placement = _asked(self.policy, asked, ask, *about)
        return self._checked(asked, placement, last_level)

    def _checked(
        self, asked: str, placement: object, last_level: int | None = None
    ) -> Placement:
        last = self.levels - 1 if last_level is None else last_level
        if isinstance(placement, Placement):
            level: object = placement.level
            expires_at_ns: object = placement.expires_at_ns
            is_in_range = isinstance(level, int) and 0 <= level <= last
            if is_in_range and isinstance(expires_at_ns, int | None):
                return placement
        wanted = f"a Placement on a level in 0..{last}"
        raise PolicyFault(self.policy, asked, placement, wanted)


def _read(policy: Policy, asked: str, ranking: object, name: str) -> object:
    """Return what a ranking has of that name; None: nothing.

    Raises:
        PolicyFault: It fails to tell.
    """
    try:
        return getattr(ranking, name, None)
    except Exception as error:  # a policy's own: any
        wanted = f"a ranking whose {name} can be read, and not {error!r}"
        raise PolicyFault(policy, asked, ranking, wanted) from error


def _asked(
    policy: Policy, asked: str, ask: Callable[..., object], *about: object
) -> object:
    try:
        return ask(*about)
    except Exception as error:  # a policy's own: any
        raise PolicyFault(policy, asked, error) from error
