"""Law: every call ends, however long a step is and however scarce the memory (S5)."""

from hypothesis import example, given
from hypothesis import strategies as st

from autellix.core.cost_model import CostModel
from autellix.core.facts import Preempted
from autellix.core.limits import StepLimits
from autellix.core.records import PreemptionKind
from autellix.policies import MLFQ, Ladder
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
