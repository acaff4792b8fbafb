"""Shortest remaining work first, by an oracle: what a policy could at best know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import attrs

from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies.beta import valid_beta
from autellix.policies.calibration import step_charge_s
from autellix.policies.table import RemainingTable, known_size_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.process_table import ProgramView


@attrs.frozen(kw_only=True)
class SRPT:
    """Ranks by the total work that a program has left: its size less its age.

    Only for programs opened with their size in work. Counts work, not service: what is
    left must not depend on who will share the batch.

    Attributes:
        levels: Number of levels, spaced by ``ratio`` from the work of one step up: with
            the defaults 32 levels reach 190,000 steps.
        ratio: Of the most that may be left on a level to that on the level before.
        beta: W/T at which a program is promoted; None, the default: never, as the
            baseline is to show what knowing sizes is worth.
    """

    levels: int = attrs.field(default=32, validator=attrs.validators.ge(1))
    ratio: float = attrs.field(
        default=1.5,
        validator=attrs.validators.and_(
            attrs.validators.gt(1.0), attrs.validators.lt(math.inf)
        ),
    )
    beta: float | None = attrs.field(default=None, validator=valid_beta)
    charge: ClassVar[Charge] = Charge.WORK
    inner_order: ClassVar[InnerOrder] = InnerOrder.PROGRAM_ARRIVAL

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return the program's work so far; ``ValueError`` if its size is not known."""
        known_size_ns(program.program_class, program.size_ns)
        return program.work_ns

    def ranking(self, step_ns: int) -> Ranking:
        """Return levels by what is left, the first for less than a step."""
        first_s = step_charge_s(step_ns, self.charge)
        bounds_s = [first_s * self.ratio**level for level in range(self.levels - 1)]
        return RemainingTable(bounds_s=bounds_s, first_quantum_s=32 * first_s)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Keep ``old``: sizes are known."""
        return None
