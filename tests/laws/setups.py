"""Small engines on which everything is scarce, and the policies that run on them."""

from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

from autellix.core.cost_model import CostModel
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.ranking import InnerOrder, Policy, Ranking
from autellix.core.records import Charge
from autellix.core.step_scheduler import StepScheduler
from autellix.policies import (
    ATLAS,
    FCFS,
    MLFQ,
    PLAS,
    SRPT,
    Gittins,
    Ladder,
    ProgramFCFS,
    RemainingTable,
)
from autellix.policies.gittins import ClassSizes, IndexTable, SizeModel, Sizes


@attrs.frozen(kw_only=True)
class Setup:
    """An engine and the policy on it."""

    policy: Policy
    ranking: Ranking
    limits: StepLimits
    costs: CostModel
    device_blocks: int
    host_blocks: int
    block_tokens: int
    shares_blocks: bool
    caches_prefixes: bool
    retains_prefixes: bool

    def blocks(self) -> KVBlocks:
        return KVBlocks(
            device_blocks=self.device_blocks,
            host_blocks=self.host_blocks,
            block_tokens=self.block_tokens,
            shares_blocks=self.shares_blocks,
            caches_prefixes=self.caches_prefixes,
            retains_prefixes=self.retains_prefixes,
        )

    def scheduler(self) -> StepScheduler:
        return StepScheduler(
            limits=self.limits,
            blocks=self.blocks(),
            policy=self.policy,
            ranking=self.ranking,
            costs=self.costs,
        )


STEP_NS = 16_000
LADDERS = (
    Ladder(bounds_s=(2e-6, 5e-6), quanta_s=(2e-6, 3e-6, 4e-6)),
    Ladder(bounds_s=(1e-6, 9e-6), quanta_s=(3e-6, 1e-6, 8e-6)),
)
TABLES = (
    SRPT(levels=5, ratio=2.0).ranking(STEP_NS),
    RemainingTable(bounds_s=(5e-7, 1e-6, 3e-6, 6e-6), first_quantum_s=4e-6),
)
# Programs of one size, and of two: levels get better with age up to an end, then worse.
LEARNED = tuple(
    IndexTable(
        first_s=2e-7,
        model=SizeModel(shared=ClassSizes(ended=[Sizes(s, 20.0) for s in sizes_s])),
    )
    for sizes_s in ([6e-6], [1e-6, 1.5e-5])
)
POLICIES: dict[str, tuple[Policy, Sequence[Ranking]]] = {
    "FCFS": (FCFS(), [FCFS().ranking(STEP_NS)] * 2),
    "ProgramFCFS": (ProgramFCFS(), [ProgramFCFS().ranking(STEP_NS)] * 2),
    "MLFQ": (MLFQ(beta=0.25), LADDERS),
    "PLAS": (PLAS(beta=0.125, inner_order=InnerOrder.PROGRAM_ARRIVAL), LADDERS),
    "ATLAS": (ATLAS(beta=2.0, charge=Charge.WORK), LADDERS),
    "SRPT": (SRPT(levels=5, ratio=2.0, beta=1.0), TABLES),
    "Gittins": (Gittins(beta=1.0), LEARNED),
}
COSTS = CostModel(
    step_ns=1_000,
    prefill_ns=40,
    decode_ns=100,
    context_ns=3,
    pair_ps=700,
    transfer_ns=300,
    block_transfer_ns=60,
    nominal_batch=4,
)


@st.composite
def setups(draw: st.DrawFn, policy: Policy, ranking: Ranking) -> Setup:
    """Draw an engine: a few slots, few blocks, in either layout."""
    slots = draw(st.sampled_from([1, 2, 2, 4]))
    return Setup(
        policy=policy,
        ranking=ranking,
        limits=StepLimits(
            slots=slots,
            token_budget=slots + draw(st.integers(0, 6)),
            lookahead=draw(st.sampled_from([1, 1, 2, 3])),
            hysteresis_levels=draw(st.sampled_from([1, 1, 2])),
            reserve_after_ns=draw(st.sampled_from([0, 3_000, 30_000])),
            round_steps=draw(st.sampled_from([1, 3])),
        ),
        costs=attrs.evolve(
            COSTS, block_transfer_ns=draw(st.sampled_from([60, 60, 6_000]))
        ),
        device_blocks=draw(st.sampled_from([5, 10, 16, 24])),
        host_blocks=draw(st.sampled_from([0, 2, 5, 12])),
        block_tokens=draw(st.integers(1, 3)),
        shares_blocks=draw(st.booleans()),
        caches_prefixes=draw(st.sampled_from([True, True, False])),
        retains_prefixes=draw(st.sampled_from([True, True, False])),
    )
