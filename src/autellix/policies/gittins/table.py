"""The ranking of Gittins: levels by age for each class, from a size model.

A frozen spec like any other ranking: an engine gets the model and a few numbers, and
rows follow from them. So an engine in another process gets a small message, and one
that still has an older table ranks by what was known before: less well, not wrongly.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.ranking import Placement
from autellix.policies.calibration import NOMINAL_BATCH
from autellix.policies.gittins.index import Objective, steepest_slopes
from autellix.policies.gittins.sizes import ClassSizes, SizeModel
from autellix.policies.gittins.survival import edges_s, end_chances, life_table
from autellix.policies.seconds import to_ns
from autellix.policies.table import AgeRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autellix.core.records import Job

FACTOR: Final = 1.5
"""Of the rank from which a level holds to that of the level before."""
LEVELS: Final = 40
"""With ``FACTOR`` they reach from the work of one step to that of 7 million."""
LEAST_HOLD_STEPS: Final = 32
"""Least work for which a promoted call keeps level 0, in steps' work."""
_SLACK: Final = (
    0.25  # of a level: how far a rank may leave its level and still be in it
)


@attrs.frozen(kw_only=True)
class LearnedRow:
    """What is known of a class, and the levels that follow from it.

    Attributes:
        ends: How many ends it rests on, old ones counting less.
        ages_s: Where cells of ages begin, seconds of work, rising from 0.
        survival: Share of programs that go on past each of these ages.
        rank_s: The Gittins index at each: as the size for certain that a new program
            of the same index would have, seconds. Small goes first.
        row: The levels.
    """

    ends: float
    ages_s: tuple[float, ...]
    survival: tuple[float, ...]
    rank_s: tuple[float, ...]
    row: AgeRow

    @classmethod
    def of(cls, sizes: ClassSizes, objective: Objective, first_s: float) -> LearnedRow:
        """Return what follows from the sizes of a class; takes some milliseconds."""
        edges = edges_s(first_s)
        chances = end_chances(life_table(sizes, edges))
        survival = [1.0]
        for chance in chances:
            survival.append(survival[-1] * (1.0 - chance))
        # Smaller ones than were ever seen are a matter of the model, not of the load.
        least_s = min((each.size_s for each in sizes.ended), default=first_s)
        # Counted from the far end, or the tail would drown in rounding.
        work, gain = [0.0], [0.0]
        for cell in range(len(chances) - 1, -1, -1):
            low, high, chance = edges[cell], edges[cell + 1], chances[cell]
            reach, size_s = survival[cell], max(least_s, (low + high) / 2.0)
            work.append(work[-1] - reach * (high - low) * (1.0 - chance / 2.0))
            gain.append(gain[-1] - reach * chance * objective.gain(size_s))
        slopes = steepest_slopes(work[::-1], gain[::-1])
        ranks = [objective.rank_s(slope) for slope in slopes]
        return cls(
            ends=sizes.ends,
            ages_s=tuple(edges[:-1]),
            survival=tuple(survival[:-1]),
            rank_s=tuple(ranks),
            row=levels_by_age(edges[:-1], ranks, first_s),
        )


def levels_by_age(
    ages_s: Sequence[float], ranks_s: Sequence[float], first_s: float
) -> AgeRow:
    """Return the levels of ranks; small bumps between two levels are no change.

    Args:
        ages_s: From which each rank holds, rising from 0.
        ranks_s: As many.
        first_s: Rank at which level 0 begins to end: level i holds ranks from
            ``first_s * FACTOR ** i`` on; level 0 also all below.
    """
    starts, levels = [0.0], [_level(ranks_s[0], first_s)]
    for age_s, rank_s in zip(ages_s[1:], ranks_s[1:], strict=True):
        was = levels[-1]
        place = _place(rank_s, first_s)
        if was - _SLACK <= place < was + 1 + _SLACK:
            continue
        level = _level(rank_s, first_s)
        if level != was:
            starts.append(age_s)
            levels.append(level)
    return AgeRow(starts_s=starts, levels=levels)


def _place(rank_s: float, first_s: float) -> float:
    return math.log(rank_s / first_s) / math.log(FACTOR) if rank_s > 0 else 0.0


def _level(rank_s: float, first_s: float) -> int:
    place = min(_place(rank_s, first_s), LEVELS - 1.0)
    return max(0, math.floor(place))


@attrs.frozen(kw_only=True)
class IndexTable:
    """Levels by the Gittins index of a program's age, from what is known of its class.

    Attributes:
        model: What is known.
        objective: What is to be small.
        first_s: Work of one step, seconds: where cells of ages and levels begin.
        programs_ended: Programs that had ended when the model was made.
        programs_arrived: Programs that had come by then.
        rows: What is known of each class that has a model of its own.
        shared: What holds for every other class.
    """

    model: SizeModel = attrs.field(factory=SizeModel, repr=False)
    objective: Objective = Objective.LATENCY
    first_s: float = attrs.field(validator=attrs.validators.gt(0.0))
    programs_ended: int = 0
    programs_arrived: int = 0
    rows: Mapping[str, LearnedRow] = attrs.field(init=False, eq=False, repr=False)
    shared: LearnedRow = attrs.field(init=False, eq=False, repr=False)

    # At once, so that it is not a decision that waits for them.
    @rows.default
    def _rows(self) -> Mapping[str, LearnedRow]:
        return {
            name: LearnedRow.of(sizes, self.objective, self.first_s)
            for name, sizes in self.model.classes.items()
        }

    @shared.default
    def _shared_row(self) -> LearnedRow:
        return LearnedRow.of(self.model.shared, self.objective, self.first_s)

    @property
    def levels(self) -> int:
        """Number of levels K, the same for every model."""
        return LEVELS

    @cached_property
    def hold_ns(self) -> int:
        """The work for which a promotion holds: that of the median program."""
        median_s = self.model.median_s()
        return max(1, to_ns(max(LEAST_HOLD_STEPS * self.first_s, median_s)))

    @property
    def first_quantum_ns(self) -> int:
        """Time it takes about to do that work: before that nobody starves (Q3)."""
        return self.hold_ns * NOMINAL_BATCH

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Look the age up in the row of the program's class; logarithmic."""
        return self.rows.get(job.program_class, self.shared).row.place(age_ns)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Look the age up, whatever the level was: after a promotion too."""
        return self.enter(job, age_ns)

    def review(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place a waiting call as if it came now.

        Of calls that came at once, before anything was known, most still wait when much
        is.
        """
        return self.enter(job, age_ns)

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place on level 0 for the stated charge."""
        return Placement(0, age_ns + self.hold_ns)
