"""Nobody starves: a long program among short ones, a large call among small ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autellix.core.facts import Demoted, Ended, Promoted, Reserved
from autellix.core.plan import Sampled
from autellix.core.records import CallSpec, Job
from autellix.policies import FCFS, PLAS, Ladder
from tests.laws.replayed import (
    COSTS,
    MS,
    Chain,
    Replayed,
    replay,
    scheduler,
)

QUANTUM_S = 0.2
LADDER = Ladder(bounds_s=(QUANTUM_S, 0.8), quanta_s=(QUANTUM_S, 0.6, 1.8))
LONGEST_STEP_NS = COSTS.forward_ns(
    prefill_tokens=64, decoders=3, context_tokens=200, pairs=0
) + COSTS.transfer_time_ns(40)


def stream_of_short(count: int, gap_ns: int) -> list[Chain]:
    """Return programs of one short call each, one after the other."""
    return [Chain(arrives_ns=n * gap_ns, calls=[(4, 8)]) for n in range(count)]


def longest_gap_ns(replayed: Replayed, call_id: int, until_ns: int) -> int:
    """Return the longest time in which a call was in no step."""
    ran = [at for at, step in replayed.plans if call_id in dict(step)]
    return max(b - a for a, b in zip(ran, [*ran[1:], until_ns], strict=True))


@pytest.mark.parametrize("beta", [1.0, 4.0])
@settings(max_examples=10)
@given(gap_ms=st.integers(14, 24))
def test_a_long_program_goes_on_under_an_endless_stream_of_short_ones(
    beta: float, gap_ms: int
) -> None:
    """It never waits longer than the bound stated in core/starvation.py."""
    long = Chain(arrives_ns=0, calls=[(4, 120)])
    load = [long, *stream_of_short(400, gap_ms * MS)]
    replayed = replay(PLAS(ladder=LADDER, beta=beta), load)
    report = replayed.reports[0, 0]
    assert any(isinstance(fact, Promoted) for fact in replayed.facts)
    before_it = sum(at < report.ended_ns for at, _ in replayed.plans)
    assert before_it < len(replayed.plans), "the stream must outlast the long one"
    quantum_ns = round(QUANTUM_S * 1e9)
    until_promoted = beta * max(report.service_ns, quantum_ns)
    live = max(
        sum(
            r.submitted_ns <= at < r.ended_ns and r.call_id != report.call_id
            for r in replayed.reports.values()
        )
        for at, _ in replayed.plans[:before_it]
    )
    after = live * (quantum_ns + LONGEST_STEP_NS)
    gap = longest_gap_ns(replayed, report.call_id, report.ended_ns)
    assert gap <= until_promoted + after + 2 * LONGEST_STEP_NS


def test_without_promotion_the_long_program_would_wait_for_all() -> None:
    """The law can fail: with ``beta=None`` the stream passes it to the last."""
    long = Chain(arrives_ns=0, calls=[(4, 120)])
    load = [long, *stream_of_short(400, 15 * MS)]
    replayed = replay(PLAS(ladder=LADDER, beta=None), load)
    last_ns = max(report.ended_ns for report in replayed.reports.values())
    assert replayed.reports[0, 0].ended_ns == last_ns


CHAINS = st.lists(st.tuples(st.integers(4, 24), st.integers(1, 40)), min_size=1)


@settings(max_examples=10)
@given(calls=st.lists(CHAINS, min_size=12, max_size=20), beta=st.sampled_from([1.0, 3]))
def test_where_all_starve_most_slots_still_go_by_level(
    calls: list[list[tuple[int, int]]], beta: float
) -> None:
    """At most 1/(1 + beta) of the slots are for promoted calls, each until its end."""
    policy = PLAS(ladder=LADDER, beta=beta)
    chains = [Chain(arrives_ns=0, calls=each[:4]) for each in calls]
    replayed = Replayed(policy, chains, scheduler(policy, slots=4, host_blocks=20))
    live = set[int]()
    for fact in replayed.facts:
        if isinstance(fact, Promoted):
            assert fact.call_id not in live, "promoted, and not kept on level 0"
            live.add(fact.call_id)
            assert len(live) <= 4 / (1 + beta)
        elif isinstance(fact, Ended):
            live.discard(fact.call_id)
        elif isinstance(fact, Demoted):
            assert fact.call_id not in live, "demoted after its promotion"


def test_where_memory_is_short_it_is_a_share_of_what_runs() -> None:
    """Most of 36 slots are empty there: a share of them would be all there is."""
    policy = PLAS(ladder=LADDER, beta=8.0)
    chains = [Chain(arrives_ns=0, calls=[(16, 24)] * 4) for _ in range(100)]
    engine = scheduler(policy, slots=36, device_blocks=72, host_blocks=72)
    replayed = Replayed(policy, chains, engine)
    promoted_at = {
        f.call_id: f.at_ns for f in replayed.facts if isinstance(f, Promoted)
    }
    steps = replayed.plans[len(replayed.plans) // 3 : 2 * len(replayed.plans) // 3]
    taken = [promoted_at.get(i, at + 1) <= at for at, step in steps for i, _ in step]
    assert 4 < len(taken) / len(steps) < 16, "memory is short, and not for one call"
    assert 0 < sum(taken) / len(taken) < 2 / 9


def test_a_wide_program_has_no_more_than_the_share() -> None:
    """More of its calls wait than run: others have their turn all the same."""
    engine = scheduler(PLAS(ladder=LADDER, beta=2.0), slots=6)
    for call_id in range(40):
        program_id = min(call_id, 6)
        engine.submit(
            CallSpec(
                call_id=call_id,
                program_id=program_id,
                job=Job(program_class="wide", program_arrival=program_id),
                prompt=[call_id] * 4,
                max_tokens=9,
                inherited_ns=1_000 * MS if program_id == 6 else 0,
            ),
            0,
        )
    plan = engine.plan(0)
    samples = {call.call_id: Sampled(0) for call, _ in plan.calls}
    engine.commit(plan, samples, forward_at_ns=0, ended_ns=500 * MS)
    engine.plan(500 * MS)
    promoted = [f.call_id for f in engine.take_facts() if isinstance(f, Promoted)]
    assert promoted == [6, 7]


def test_of_those_who_starve_the_program_that_came_first_goes_first() -> None:
    """One at a time: each of many long programs goes on, whatever comes meanwhile."""
    long = [Chain(arrives_ns=n * MS, calls=[(4, 60)]) for n in range(6)]
    load = [*long, *stream_of_short(900, 14 * MS)]
    replayed = replay(PLAS(ladder=LADDER, beta=2.0), load)
    promoted = [f.program_id for f in replayed.facts if isinstance(f, Promoted)]
    assert promoted[:6] == sorted(promoted[:6])
    last_ns = max(report.ended_ns for report in replayed.reports.values())
    assert all(replayed.reports[n, 0].ended_ns < last_ns / 2 for n in range(6))


@settings(max_examples=20)
@given(gap_ms=st.integers(20, 40))
def test_a_large_call_is_not_starved_by_small_ones(gap_ms: int) -> None:
    """Passed over for longer than stated, it gets the next room there is (rule S4)."""
    large = Chain(arrives_ns=5 * gap_ms * MS, calls=[(60, 4)])
    small = [
        Chain(
            arrives_ns=n * gap_ms * MS,
            calls=[(8, 12)],
        )
        for n in range(150)
    ]
    policy = FCFS()
    reserve_after_ns = 300 * MS
    engine = scheduler(
        policy, slots=6, device_blocks=18, reserve_after_ns=reserve_after_ns
    )
    replayed = Replayed(policy, [*small, large], engine)
    report = replayed.reports[150, 0]
    longest_small_ns = max(
        r.service_ns for place, r in replayed.reports.items() if place != (150, 0)
    )
    waited_ns = report.ended_ns - report.submitted_ns - report.service_ns
    bound_ns = reserve_after_ns + longest_small_ns + 2 * LONGEST_STEP_NS
    assert any(isinstance(fact, Reserved) for fact in replayed.facts)
    assert waited_ns <= bound_ns
