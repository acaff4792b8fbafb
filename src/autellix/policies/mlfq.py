"""Multi-level feedback queue by call: least attained service without programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies.beta import DEFAULT_BETA, valid_beta
from autellix.policies.calibration import default_ladder, fitted_to_calls
from autellix.policies.ladder import Ladder, optional_ladder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.process_table import ProgramView


@attrs.frozen(kw_only=True)
class MLFQ:
    """Every call starts on level 0, whatever its program has had: the baseline of PLAS.

    Attributes:
        ladder: Fixed levels; None: fitted to the calls seen (rule Q4).
        charge: What ages are counted in.
        inner_order: Who goes first inside a level.
        beta: W/T at which a program is promoted; None: never.
    """

    ladder: Ladder | None = attrs.field(default=None, validator=optional_ladder)
    charge: Charge = Charge.SERVICE
    inner_order: InnerOrder = InnerOrder.LEVEL_ARRIVAL
    beta: float | None = attrs.field(default=DEFAULT_BETA, validator=valid_beta)

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return nothing: each call starts afresh."""
        return 0

    def ranking(self, step_ns: int) -> Ranking:
        """Return the fixed ladder, or one that suits most work until more is known."""
        return self.ladder or default_ladder(step_ns, self.charge)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Fit to calls alone: no age here is that of a program."""
        return None if self.ladder else fitted_to_calls(old, seen)
