"""Where calls stand when another ranking comes (rule Q4)."""

import attrs
import pytest

from autellix.core.call import CallState
from autellix.core.limits import StepLimits
from autellix.core.ranking import Placement
from autellix.core.records import Job
from autellix.policies import PLAS, AgeRow, Ladder, Table
from tests.laws.setups import COSTS, Setup
from tests.laws.world import World

POLICY = PLAS(ladder=Ladder(bounds_s=(1e-6,), quanta_s=(1e-6, 1.0)), beta=None)
YOUNG_FIRST = Table(default=AgeRow(starts_s=[0, 1e-6], levels=[0, 1]))
OLD_FIRST = Table(default=AgeRow(starts_s=[0, 1e-6], levels=[1, 0]))


def world(*, slots: int = 1, round_steps: int = 1) -> World:
    """Return an engine with room for all, and one slot."""
    return World(
        Setup(
            policy=POLICY,
            ranking=YOUNG_FIRST,
            limits=StepLimits(slots=slots, token_budget=16, round_steps=round_steps),
            costs=COSTS,
            device_blocks=64,
            host_blocks=0,
            block_tokens=1,
            shares_blocks=True,
            caches_prefixes=False,
            retains_prefixes=False,
        )
    )


def step(one: World, *, forward_ns: int = 1) -> set[int]:
    """Take a step; return whom it held."""
    plan = one.plan()
    one.commit(forward_ns=forward_ns)
    one.check()
    return {call.call_id for call, _ in plan.calls}


def submit(one: World, max_tokens: int = 9) -> int:
    return one.submit(one.open("any"), prompt=[0], max_tokens=max_tokens)


def test_of_many_that_came_at_once_those_who_wait_stand_anew() -> None:
    """The one that runs does not, until its age expires."""
    one = world()
    runs, *waiting = [submit(one) for _ in range(4)]
    step(one)
    one.update_ranking(OLD_FIRST)
    assert one.books.calls[runs].level == 0
    assert {one.books.calls[i].level for i in waiting} == {1}
    assert [one.books.line[place].call_id for place in one.books.line.all] == waiting


def test_a_promoted_call_stays_where_it_is() -> None:
    """Until it ends, or has had what its promotion is worth (Q3)."""
    one = world()
    old = one.open("old")
    one.submit(old, prompt=[0], max_tokens=1)
    step(one, forward_ns=2_000)
    submit(one)
    step(one)
    call = one.books.calls[one.submit(old, prompt=[0], max_tokens=1)]
    assert call.level == 1
    call.clock.restart()
    one.books.places.promote(call, one.now_ns)
    one.update_ranking(
        attrs.evolve(OLD_FIRST, default=AgeRow(starts_s=[0], levels=[1]))
    )
    assert call.level == 0
    assert call.is_promoted
    assert one.books.places.promoted == 1


def test_a_ranking_that_raises_changes_nothing() -> None:
    """Also where it raises about the last of those who wait."""

    @attrs.frozen(kw_only=True)
    class Broken(Table):
        def review(self, job: Job, age_ns: int, level: int) -> Placement:
            if job.program_arrival == 3:
                raise ZeroDivisionError
            return super().review(job, age_ns, level)

    one = world()
    for _ in range(4):
        submit(one)
    step(one)
    before = [(c.call_id, c.order) for c in one.books.calls.values()]
    with pytest.raises(ZeroDivisionError):
        one.scheduler.update_ranking(1, Broken(default=OLD_FIRST.default), 1)
    assert before == [(c.call_id, c.order) for c in one.books.calls.values()]
    assert one.books.places.ranking is YOUNG_FIRST
    assert one.scheduler.ranking_version == 0
    one.check()


def test_who_may_have_a_slot_between_rounds_may_from_another_place_too() -> None:
    """Rule S6: a call that a round named, and a new ranking moved."""
    one = world(slots=2, round_steps=3)
    keeps = submit(one, max_tokens=30)
    call = one.books.calls[submit(one, max_tokens=30)]
    while call.level == 0:
        step(one, forward_ns=2_000)
    short = submit(one, max_tokens=2)
    while call.state is not CallState.PAUSED:
        step(one)
    one.update_ranking(OLD_FIRST)
    assert call.level == 0
    while short in one.books.calls:
        step(one)
    assert step(one) == {call.call_id, keeps}
    assert one.scheduler._steps_left_in_round == 0
