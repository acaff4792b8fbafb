"""A world just large enough to compare policies: programs, a table, one engine.

Programs are chains; a call is submitted when the one before has ended. Step times
depend on what is computed, so equal plans give equal instants.
"""

from collections.abc import Sequence

import attrs

from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended, Fact
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.plan import Sampled
from autellix.core.process_table import ProcessTable
from autellix.core.ranking import Policy
from autellix.core.records import CallReport
from autellix.core.step_scheduler import StepScheduler

MS = 1_000_000
COSTS = CostModel(
    step_ns=10 * MS,
    prefill_ns=100_000,
    decode_ns=50_000,
    context_ns=100,
    transfer_ns=20_000,
    block_transfer_ns=80_000,
)


@attrs.frozen(kw_only=True)
class Chain:
    """A program: when it arrives, and (prompt, output) tokens of each call."""

    arrives_ns: int
    calls: Sequence[tuple[int, int]]


def scheduler(
    policy: Policy,
    *,
    slots: int = 3,
    device_blocks: int = 40,
    host_blocks: int = 40,
    reserve_after_ns: int = 2_000 * MS,
) -> StepScheduler:
    """Return the scheduler of a small engine."""
    return StepScheduler(
        limits=StepLimits(
            slots=slots, token_budget=64, reserve_after_ns=reserve_after_ns
        ),
        blocks=KVBlocks(
            device_blocks=device_blocks,
            host_blocks=host_blocks,
            block_tokens=4,
            shares_blocks=True,
        ),
        policy=policy,
        ranking=policy.ranking(COSTS.single_step_ns()),
        costs=COSTS,
    )


class Replayed:
    """The chains, run to their ends under one policy.

    Attributes:
        plans: Each step's instant, and its calls with their tokens.
        facts: All that happened, in order.
        reports: Of each call, by place of program and of call in it.
    """

    def __init__(
        self, policy: Policy, chains: Sequence[Chain], engine: StepScheduler
    ) -> None:
        self.plans: list[tuple[int, tuple[tuple[int, int], ...]]] = []
        self.facts: list[Fact] = []
        self.reports: dict[tuple[int, int], CallReport] = {}
        self._table = ProcessTable(policy)
        self._engine = engine
        self._chains = chains
        self._live: dict[int, tuple[int, int]] = {}
        self._programs: dict[int, int] = {}
        self._run(sorted(range(len(chains)), key=lambda n: chains[n].arrives_ns))

    def _run(self, coming: list[int]) -> None:
        now_ns = 0
        while coming or self._engine.has_work:
            if not self._engine.has_work:
                now_ns = max(now_ns, self._chains[coming[0]].arrives_ns)
            while coming and self._chains[coming[0]].arrives_ns <= now_ns:
                self._open(coming.pop(0), now_ns)
            now_ns = self._step(now_ns)

    def _open(self, chain: int, now_ns: int) -> None:
        self._programs[chain] = self._table.open("chain", now_ns=now_ns)
        self._submit(chain, 0, now_ns)

    def _submit(self, chain: int, place: int, now_ns: int) -> None:
        prompt_tokens, output_tokens = self._chains[chain].calls[place]
        spec = self._table.submit(
            self._programs[chain],
            prompt=[1_000 + chain] * prompt_tokens,
            max_tokens=output_tokens,
            now_ns=now_ns,
        )
        self._live[spec.call_id] = (chain, place)
        self._engine.submit(spec, now_ns)

    def _step(self, now_ns: int) -> int:
        plan = self._engine.plan(now_ns)
        moved_ns = COSTS.transfer_time_ns(len(plan.to_device))
        forward_ns = COSTS.forward_ns(
            prefill_tokens=sum(n for _, n in plan.calls if n > 1),
            decoders=sum(n == 1 for _, n in plan.calls),
            context_tokens=sum(c.computed for c, n in plan.calls if n == 1),
            pairs=0,
        )
        ended_ns = now_ns + moved_ns + forward_ns
        step = tuple((c.call_id, n) for c, n in plan.calls)
        self.plans.append((now_ns, step))
        samples = {c.call_id: Sampled(c.produced) for c, _ in plan.calls}
        self._engine.commit(
            plan, samples, forward_at_ns=now_ns + moved_ns, ended_ns=ended_ns
        )
        for fact in self._engine.take_facts():
            self.facts.append(fact)
            if isinstance(fact, Ended):
                self._end(fact.report)
        return ended_ns

    def _end(self, report: CallReport) -> None:
        chain, place = self._live.pop(report.call_id)
        self.reports[chain, place] = report
        self._table.end(report)
        if place + 1 < len(self._chains[chain].calls):
            self._submit(chain, place + 1, report.ended_ns)
        else:
            self._engine.forget(self._programs[chain], report.ended_ns)
            self._table.close(self._programs[chain])


def replay(policy: Policy, chains: Sequence[Chain]) -> Replayed:
    """Run chains on a small engine under ``policy``."""
    return Replayed(policy, chains, scheduler(policy))
