"""Rankings that follow what is seen (rules Q4, Q5).

The runtime fits, because only it sees all engines; engines get finished rankings.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.ranking import ProgramCharge
from autellix.core.records import Charge
from autellix.errors import EngineLost, PolicyFault
from autellix.policies.checked import CheckedPolicy
from autellix.runtime.learning import learned_by

if TYPE_CHECKING:
    from autellix.core.process_table import ProcessTable
    from autellix.core.ranking import ChargeSample, Policy, Ranking
    from autellix.runtime.fleet import Fleet

_logger = logging.getLogger(__name__)

ENDS_BETWEEN: Final = 64
"""Ended calls between two looks at what was seen; the first looks come sooner."""
ENDS_TO_JUDGE: Final = 256
"""Ended calls under one ranking before its levels are judged."""
CROWDED: Final = 0.95
"""Share of calls in one level from which a policy orders nothing."""


class Calibration:
    """Fits the policy's ranking to what is seen and sends it to the engines.

    Attributes:
        version: Counts the rankings sent; 0 is each engine's own first one.
    """

    def __init__(self, policy: Policy, table: ProcessTable, fleet: Fleet) -> None:
        self.version = 0
        self._policy = policy
        self._table = table
        self._fleet = fleet
        self._levels: Counter[int] = Counter()  # of calls ended under this ranking
        self._ends = 0
        self._has_warned = False
        # One ranking for all engines: a call's age is counted over all of them.
        steps = [handle.engine.costs.single_step_ns() for handle in fleet]
        self._checked = CheckedPolicy(policy)
        self.ranking: Ranking = self._checked.ranking(max(steps)).unchecked

    def ended(self, level: int) -> Ranking | None:
        """Count a call that ended on ``level``; return the ranking if it is new."""
        self._levels[level] += 1
        self._ends += 1
        is_early = self._ends.bit_count() == 1  # 1, 2, 4, …: where nothing is known yet
        if self._ends % ENDS_BETWEEN and not is_early:
            return None
        self._warn_if_crowded()
        sample = self._sample()
        try:
            fitted = self._checked.recalibrated(self.ranking, sample)
        except PolicyFault:  # a fit that fails must not cost an engine
            _logger.exception("%r could not be fitted; its ranking stays", self._policy)
            return None
        if fitted is None:
            return None
        ranking = fitted.unchecked
        self.version += 1
        self.ranking = ranking
        self._levels.clear()
        for handle in self._fleet:
            if handle.is_up:
                try:
                    handle.engine.update_ranking(self.version, ranking)
                except EngineLost:
                    # It is about to say so itself, to whoever serves it.
                    _logger.debug("engine %r is down: no ranking sent", handle.name)
        return ranking

    def _sample(self) -> ChargeSample:
        """Return what was charged lately; work of calls under way makes programs older.

        Only policies that learn work look at programs one by one. Without this a
        program of one long call would not be there until it ends, and while a load of
        such programs builds up sizes would look too small.
        """
        if self._policy.charge is not Charge.WORK:
            return self._table.charge_sample()
        live: Counter[int] = Counter()
        for handle in self._fleet:
            live.update(handle.statistics().live_work_ns)
        # Only now: an engine that is asked may first tell of calls that have ended.
        sample = self._table.charge_sample()
        older = [
            attrs.evolve(each, charge_ns=each.charge_ns + live.pop(each.arrival))
            if each.arrival in live
            else each
            for each in sample.programs
        ]
        new = [
            ProgramCharge(
                program_class=self._table.view(program).program_class,
                arrival=program,
                charge_ns=work_ns,
                has_ended=False,
            )
            for program, work_ns in live.items()
            if program in self._table
        ]
        return attrs.evolve(sample, programs=[*older, *new])

    def _warn_if_crowded(self) -> None:
        # What was learned is flat where first come, first served is right.
        is_meant = self.ranking.levels == 1 or learned_by(self.ranking) is not None
        if self._has_warned or is_meant:
            return
        total = self._levels.total()
        if total < ENDS_TO_JUDGE:
            return
        level, calls = self._levels.most_common(1)[0]
        if calls > CROWDED * total:
            self._has_warned = True
            _logger.warning(
                "%.0f %% of %d calls ended on level %d of %d: %r orders next to "
                "nothing here, it is first come, first served",
                *(100 * calls / total, total, level, self.ranking.levels, self._policy),
            )
