"""Law: every call ends, however long a step is and however scarce the memory (S5)."""

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from autellix.core.call import CallState
from autellix.core.cost_model import CostModel
from autellix.core.facts import Preempted
from autellix.core.limits import StepLimits
from autellix.core.records import PreemptionKind
from autellix.policies import MLFQ, PLAS, Ladder
from tests.laws.setups import Setup
from tests.laws.world import World

POLICY = MLFQ(ladder=Ladder(bounds_s=(0.1,), quanta_s=(0.1, 1.0)), beta=0.5)
TURNS = [(6, 38), (19, 33), (36, 19)]
"""Three programs that starve in turns: each, promoted, takes the others' blocks."""


def world(token_budget: int) -> World:
    """Return an engine where a quantum is shorter than recomputing what was dropped."""
    costs = CostModel(step_ns=10_000_000, prefill_ns=1_000_000, decode_ns=1)
    return World(
        Setup(
            policy=POLICY,
            ranking=POLICY.ranking(costs.single_step_ns()),
            limits=StepLimits(slots=3, token_budget=token_budget),
            costs=costs,
            device_blocks=16,
            host_blocks=0,
            block_tokens=4,
            shares_blocks=False,
            caches_prefixes=False,
            retains_prefixes=False,
        )
    )


@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 24)), min_size=2, max_size=5
    ),
    token_budget=st.integers(3, 8),
)
@example(lengths=TURNS, token_budget=4)
def test_every_call_ends(lengths: list[tuple[int, int]], token_budget: int) -> None:
    """Starving programs do not drop each other's KV in turns for ever."""
    one = world(token_budget)
    for prompt_tokens, max_tokens in lengths:
        program = one.open("drawn")
        one.submit(program, prompt=[0] * prompt_tokens, max_tokens=max_tokens)
    one.finish(forward_ns=10_000_000)


def test_the_law_is_not_empty() -> None:
    """Programs on such an engine do drop each other's KV."""
    one = world(4)
    for prompt_tokens, max_tokens in TURNS:
        program = one.open("drawn")
        one.submit(program, prompt=[0] * prompt_tokens, max_tokens=max_tokens)
    one.finish(forward_ns=10_000_000)
    preempted = [fact for fact in one.facts if isinstance(fact, Preempted)]
    assert PreemptionKind.DROP in {fact.kind for fact in preempted}


def test_a_paused_call_goes_on_where_nobody_can_enter() -> None:
    """The first in the order lacks blocks and is all that is tried: a resident goes."""
    ladder = Ladder(bounds_s=(1e-6, 2e-6), quanta_s=(1e-6, 1e-6, 1.0))
    policy = PLAS(ladder=ladder, beta=None)
    one = World(
        attrs.evolve(
            world(8).setup,
            policy=policy,
            ranking=policy.ranking(1_000),
            limits=StepLimits(
                slots=1, token_budget=8, lookahead=1, hysteresis_levels=2
            ),
            costs=CostModel(step_ns=1_000, prefill_ns=40, decode_ns=100),
            device_blocks=8,
            block_tokens=1,
        )
    )
    paused = one.submit(one.open("paused"), prompt=[0] * 3, max_tokens=5)
    for _ in range(2):  # down to the last level
        one.plan()
        one.commit(forward_ns=3_000)
    better = one.open("better")
    one.submit(better, prompt=[0] * 2, max_tokens=1)
    one.plan()
    one.commit(forward_ns=1_500)
    assert one.books.calls[paused].state is CallState.PAUSED
    one.submit(better, prompt=[0] * 7, max_tokens=1)
    plan = one.plan()
    assert [call.call_id for call, _ in plan.calls] == [paused]
    assert one.seen["forced progress"] == 1
