"""Laws between policies: where two of them are the same rule, they decide the same."""

import copy
import math

from hypothesis import given
from hypothesis import strategies as st

from autellix.core.facts import Demoted, Preempted, Promoted
from autellix.policies import ATLAS, FCFS, MLFQ, PLAS, AgeRow, Gittins, Ladder, Table
from autellix.policies.gittins.sizes import ClassSizes, SizeModel, Sizes
from tests.laws.replayed import MS, Chain, Replayed, replay
from tests.laws.setups import POLICIES

LADDER = Ladder(bounds_s=(0.1, 0.4), quanta_s=(0.1, 0.3, 0.9))
ONE_LEVEL = Ladder(bounds_s=(), quanta_s=(math.inf,))

_ROW = AgeRow(starts_s=(0,), levels=(0,))
_MODEL = SizeModel(classes={"any": ClassSizes(ended=[Sizes(1.0, 2.0)])})
CALLS = st.tuples(st.integers(1, 30), st.integers(1, 25))


def test_equal_policies_and_rankings_are_one_key() -> None:
    """What is frozen can be put into sets, also where it holds a mapping."""
    ours = [
        each for policy, rankings in POLICIES.values() for each in (policy, *rankings)
    ]
    for value in (
        *ours,
        Table(rows={"any": _ROW}, default=_ROW),
        Gittins(model=_MODEL),
    ):
        assert {value: "found"}[copy.deepcopy(value)] == "found"


def chains(most_calls: int) -> st.SearchStrategy[list[Chain]]:
    """Draw up to eight programs that arrive within a second."""
    chain = st.builds(
        Chain,
        arrives_ns=st.integers(0, 100).map(lambda n: n * 10 * MS),
        calls=st.lists(CALLS, min_size=1, max_size=most_calls),
    )
    return st.lists(chain, min_size=1, max_size=8)


def assert_same(one: Replayed, other: Replayed) -> None:
    """Compare plans, facts and reports, to the nanosecond."""
    assert one.plans == other.plans
    assert one.facts == other.facts


@given(load=chains(most_calls=4))
def test_fcfs_is_mlfq_with_one_level_without_end(load: list[Chain]) -> None:
    """Without levels, MLFQ is first come, first served."""
    assert_same(replay(FCFS(), load), replay(MLFQ(ladder=ONE_LEVEL), load))


@given(load=chains(most_calls=1))
def test_plas_is_mlfq_for_programs_of_one_call(load: list[Chain]) -> None:
    """Where nothing is inherited, program and request level are one."""
    assert_same(replay(PLAS(ladder=LADDER), load), replay(MLFQ(ladder=LADDER), load))


@given(load=chains(most_calls=4))
def test_plas_is_atlas_on_chains(load: list[Chain]) -> None:
    """On a chain the critical path is the sum (rule A5)."""
    assert_same(replay(PLAS(ladder=LADDER), load), replay(ATLAS(ladder=LADDER), load))


@given(load=chains(most_calls=4))
def test_equal_events_give_equal_plans(load: list[Chain]) -> None:
    """The core has no memory outside itself, no clock and no chance."""
    policy = PLAS(ladder=LADDER)
    assert_same(replay(policy, load), replay(policy, load))


def test_the_laws_are_not_empty() -> None:
    """On such loads PLAS demotes, promotes, preempts, and differs from the others."""
    load = [
        Chain(arrives_ns=n * 20 * MS, calls=[(8, 20 + n), (4, 12)]) for n in range(8)
    ]
    plas = replay(PLAS(ladder=LADDER, beta=1.0), load)
    kinds = {type(fact) for fact in plas.facts}
    assert {Demoted, Preempted, Promoted} <= kinds
    assert plas.plans != replay(FCFS(), load).plans
    assert plas.plans != replay(MLFQ(ladder=LADDER, beta=1.0), load).plans
