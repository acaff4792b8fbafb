"""Adaptive thread-level attained service: programs with short critical paths first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies.beta import DEFAULT_BETA, valid_beta
from autellix.policies.calibration import default_ladder, fitted_to_programs
from autellix.policies.ladder import Ladder, optional_ladder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.process_table import ProgramView


@attrs.frozen(kw_only=True)
class ATLAS:
    """A call inherits the longest chain of charges that leads to it (A5, A6).

    Where the caller did not say what a call follows, that is the program's critical
    path so far; branches then share a level and end together.

    Attributes:
        ladder: Fixed levels; None: fitted to what is seen (rule Q4).
        charge: What ages are counted in.
        inner_order: Who goes first inside a level.
        beta: W/T at which a program is promoted; None: never.

    Source:
        arXiv 2502.13965, equation 2 where parents are given, the scalar of algorithm 1
        where they are not.
    """

    ladder: Ladder | None = attrs.field(default=None, validator=optional_ladder)
    charge: Charge = Charge.SERVICE
    inner_order: InnerOrder = InnerOrder.LEVEL_ARRIVAL
    beta: float | None = attrs.field(default=DEFAULT_BETA, validator=valid_beta)

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Return the longest of the paths it follows, 0 for a root; else the scalar."""
        return program.critical_path_ns if after is None else max(after, default=0)

    def ranking(self, step_ns: int) -> Ranking:
        """Return the fixed ladder, or one that suits most work until more is known."""
        return self.ladder or default_ladder(step_ns, self.charge)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Fit to calls and programs, unless the ladder is fixed."""
        return None if self.ladder else fitted_to_programs(old, seen)
