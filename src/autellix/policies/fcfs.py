"""First come, first served, by call: what engines do by themselves."""

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
class FCFS:
    """Calls in the order of their arrival: inherits nothing, one level without end."""

    charge: ClassVar[Charge] = Charge.SERVICE
    inner_order: ClassVar[InnerOrder] = InnerOrder.LEVEL_ARRIVAL
    beta: ClassVar[float | None] = None

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return nothing: each call starts afresh."""
        return 0

    def ranking(self, step_ns: int) -> Ranking:
        """Return one level for all."""
        return SingleLevel()

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Keep ``old``: there is nothing to fit."""
        return None
