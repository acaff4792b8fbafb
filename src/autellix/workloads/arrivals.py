"""When programs arrive: at random, in recorded bursts, at given instants, or at once.

An arrival process is a frozen setting; the seed comes with the question, so that one
setting serves all repeats of a comparison, and the same seed gives every policy the
same arrivals. A closed loop is no process: it is ``AllAtOnce`` under the limit of
``Replay.run_all``, where a program begins when another has ended.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol, Self

import attrs

if TYPE_CHECKING:
    from autellix.workloads.trace import TraceProgram


class Arrivals(Protocol):
    """Says when programs arrive."""

    def instants_s(self, count: int, *, seed: int) -> Sequence[float]:
        """Return when each of ``count`` programs arrives, seconds from 0, rising."""


def _rate(_: object, __: attrs.Attribute[Any], value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"arrivals need a rate above 0 a second: {value!r}")


def _rising(_: object, __: attrs.Attribute[Any], value: Sequence[float]) -> None:
    for before, after in pairwise((0.0, *value)):
        if not before <= after < float("inf"):
            raise ValueError(f"arrivals rise from 0 on: {after!r} after {before!r}")


@attrs.frozen(kw_only=True)
class Poisson:
    """Independent arrivals at a rate, as in the paper (its section 6.1).

    Attributes:
        per_s: Programs a second.
    """

    per_s: float = attrs.field(validator=_rate)

    def instants_s(self, count: int, *, seed: int) -> Sequence[float]:
        """Return when each arrives; gaps are exponential."""
        chance = random.Random(f"{seed}/arrivals")
        return list(accumulate(chance.expovariate(self.per_s) for _ in range(count)))


@attrs.frozen(kw_only=True)
class Bursts:
    """The bursts of a recording, at another rate and for other programs.

    The recorded gaps are gone through in their order, from a place drawn by the seed,
    round and round; they keep their proportions. The recording's mean gap closes it.

    Attributes:
        recorded_s: Recorded instants, seconds, rising, not all the same.
        per_s: Programs a second that the whole recording is brought to.
    """

    recorded_s: tuple[float, ...] = attrs.field(
        converter=tuple[float, ...], validator=_rising
    )
    per_s: float = attrs.field(validator=_rate)

    def __attrs_post_init__(self) -> None:
        """Check that there are gaps.

        Raises:
            ValueError: All arrivals are at one instant, or there are fewer than two.
        """
        if len(self.recorded_s) < 2 or self.recorded_s[0] == self.recorded_s[-1]:
            raise ValueError(
                "bursts need recorded arrivals at two instants or more: "
                f"got {len(self.recorded_s)} arrivals"
            )

    @classmethod
    def of(cls, programs: Sequence[TraceProgram], *, per_s: float) -> Self:
        """Take the bursts of programs that were recorded with their arrivals."""
        return cls(recorded_s=_recorded_s(programs), per_s=per_s)

    def instants_s(self, count: int, *, seed: int) -> Sequence[float]:
        """Return when each arrives."""
        gaps_s = [after - before for before, after in pairwise(self.recorded_s)]
        mean_s = sum(gaps_s) / len(gaps_s)
        gaps_s.append(mean_s)
        start = random.Random(f"{seed}/bursts").randrange(len(gaps_s))
        scale = 1.0 / (self.per_s * mean_s)
        turned = (gaps_s[(start + n) % len(gaps_s)] * scale for n in range(count))
        return list(accumulate(turned))


@attrs.frozen(kw_only=True)
class At:
    """Given instants, the same for every seed: a recording as it was.

    Attributes:
        given_s: When each program arrives, seconds, rising.
    """

    given_s: tuple[float, ...] = attrs.field(
        converter=tuple[float, ...], validator=_rising
    )

    @classmethod
    def of(cls, programs: Sequence[TraceProgram]) -> Self:
        """Let programs arrive as they were recorded; ``ValueError`` if they were not.

        They must be in the order of their arrivals.
        """
        return cls(given_s=_recorded_s(programs))

    def instants_s(self, count: int, *, seed: int) -> Sequence[float]:
        """Return the first so many.

        Raises:
            ValueError: There are fewer.
        """
        if count > len(self.given_s):
            raise ValueError(f"{count} programs, but {len(self.given_s)} arrivals")
        return self.given_s[:count]


@attrs.frozen(kw_only=True)
class AllAtOnce:
    """Everything is there at the start: an offline batch, or a closed loop."""

    def instants_s(self, count: int, *, seed: int) -> Sequence[float]:
        """Return so many zeros."""
        return [0.0] * count


def _recorded_s(programs: Sequence[TraceProgram]) -> tuple[float, ...]:
    """Return recorded arrivals, from the first one on.

    Raises:
        ValueError: One has none.
    """
    instants_s = []
    for program in programs:
        if program.arrival_s is None:
            raise ValueError(
                f"program {program.program_id!r} has no recorded arrival: "
                "use Poisson arrivals"
            )
        instants_s.append(program.arrival_s)
    return tuple(instant_s - instants_s[0] for instant_s in instants_s)
