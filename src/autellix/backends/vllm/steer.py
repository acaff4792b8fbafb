"""How to steer: what an engine tells the scheduler before it serves (rule Q6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.backends.vllm.preemption import DEFAULT_COSTS
from autellix.policies import FCFS

if TYPE_CHECKING:
    from autellix.core.cost_model import CostModel
    from autellix.core.ranking import Policy, Ranking


@attrs.frozen(kw_only=True)
class Steer:
    """How to steer: what an engine is told before it serves.

    Attributes:
        policy: Decides the order of calls.
        ranking: Its ranking for this engine.
        costs: What steps cost here.
        clock_offset_ns: The runtime's clock less this machine's monotonic clock.
        hysteresis_levels: How much worse a call must be to be preempted.
        preempts: Whether calls are preempted at all.
    """

    policy: Policy
    ranking: Ranking
    costs: CostModel
    clock_offset_ns: int = 0
    hysteresis_levels: int = 1
    preempts: bool = True

    @classmethod
    def unmeasured(cls) -> Steer:
        """Return first come, first served, for an engine before it is measured."""
        policy, step_ns = FCFS(), DEFAULT_COSTS.single_step_ns()
        return cls(policy=policy, ranking=policy.ranking(step_ns), costs=DEFAULT_COSTS)
