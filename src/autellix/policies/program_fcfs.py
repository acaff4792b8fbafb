"""First come, first served, by program: FCFS that knows which calls belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies.single_level import SingleLevel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.process_table import ProgramView


@attrs.frozen(kw_only=True)
class ProgramFCFS:
    """Calls of earlier programs first: few programs in flight, warm caches.

    The right bet where programs are of about equal size (everything else lets them all
    end together, late), the wrong one where one long program holds up many short ones.
    """

    charge: ClassVar[Charge] = Charge.SERVICE
    inner_order: ClassVar[InnerOrder] = InnerOrder.PROGRAM_ARRIVAL
    beta: ClassVar[float | None] = None

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return nothing: the order is by arrival of the program alone."""
        return 0

    def ranking(self, step_ns: int) -> Ranking:
        """Return one level for all."""
        return SingleLevel()

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Keep ``old``: there is nothing to fit."""
        return None
