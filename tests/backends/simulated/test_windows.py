"""Steps taken together are steps taken singly, to the nanosecond (rule S10)."""

import math
from collections.abc import Sequence
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.simulated import FREE, SimulatedEngine
from autellix.backends.simulated.babble import Babble
from autellix.backends.simulated.loop import Flight
from autellix.core.call import Call
from autellix.core.cost_model import CostModel
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Lease
from autellix.core.ranking import InnerOrder, Policy
from autellix.core.records import CallSpec, Charge, Job
from autellix.core.step_scheduler import StepScheduler
from autellix.core.window import Window
from autellix.policies import FCFS, MLFQ, PLAS, Ladder, ProgramFCFS
from autellix.testing import run_virtual
from autellix.testing.engine_bench import EngineBench, serving

GRID_NS = 8_000_000
"""All steps take multiples of it, and each event from outside has a residue of its own.

What falls on one and the same instant has the order that the event loop gives it.
"""
STEP_NS = 16 * GRID_NS
"""An eighth of a second, so that calls passed over for long are reserved."""
END_NS = 240 * STEP_NS + 40
"""When all consumers leave, one after the other."""


@attrs.frozen(kw_only=True)
class Arrival:
    """A call, when it comes, and when its consumer leaves."""

    at_ns: int
    program: int
    prompt: Sequence[int]
    echo_tokens: int
    """So much of the answer to ``prompt`` follows in the prompt."""
    max_tokens: int
    leaves_after_ns: int | None
    is_streamed: bool
    stop: Sequence[str]
    inherited_ns: int


@attrs.frozen(kw_only=True)
class Workload:
    """All that happens to an engine from outside."""

    engine: dict[str, Any]
    policy: Policy
    arrivals: Sequence[Arrival]
    looks_at_ns: Sequence[int]
    """When somebody asks for statistics."""
    recalibrated_at_ns: int | None


def ladders() -> st.SearchStrategy[Ladder]:
    """Draw ladders on which calls sink within a few steps."""
    return st.builds(
        lambda first, ratio, last: Ladder(
            bounds_s=[first * STEP_NS / 1e9, first * ratio * STEP_NS / 1e9],
            quanta_s=[first * STEP_NS / 1e9, 7 * STEP_NS / 1e9, last],
        ),
        first=st.integers(1, 6),
        ratio=st.integers(2, 4),
        last=st.sampled_from([math.inf, 9 * STEP_NS / 1e9]),
    )


def policies() -> st.SearchStrategy[Policy]:
    """Draw policies of every kind: charge, inner order, promotion."""
    tuned = {
        "ladder": ladders(),
        "charge": st.sampled_from(Charge),
        "inner_order": st.sampled_from(InnerOrder),
        "beta": st.sampled_from([None, 0.5, 3.0]),
    }
    return st.one_of(
        st.just(FCFS()),
        st.just(ProgramFCFS()),
        st.builds(MLFQ, **tuned),
        st.builds(PLAS, **tuned),
    )


def costs() -> st.SearchStrategy[CostModel]:
    """Draw cost models whose times are on the grid; some steps take no time."""
    return st.builds(
        CostModel,
        step_ns=st.sampled_from([0, STEP_NS]),
        prefill_ns=st.sampled_from([0, GRID_NS, 3 * GRID_NS]),
        decode_ns=st.sampled_from([0, GRID_NS]),
        context_ns=st.sampled_from([0, GRID_NS]),
        transfer_ns=st.sampled_from([0, GRID_NS]),
        block_transfer_ns=st.sampled_from([0, 4 * GRID_NS]),
        nominal_batch=st.just(2),
    )


def engines() -> st.SearchStrategy[dict[str, Any]]:
    """Draw engines that are short of something."""
    return st.fixed_dictionaries(
        {
            "costs": costs(),
            "slots": st.integers(1, 4),
            "token_budget": st.sampled_from([4, 9, 64]),
            "kv_tokens": st.sampled_from([116, 140, 400]),
            "host_tokens": st.sampled_from([0, 40, 400]),
            "block_tokens": st.just(4),
            "caches_prefixes": st.booleans(),
            "retains_prefixes": st.booleans(),
        }
    )


def grid(most_steps: int) -> st.SearchStrategy[int]:
    """Draw a time on the grid."""
    most = most_steps * STEP_NS // GRID_NS
    return st.integers(0, most).map(lambda place: place * GRID_NS)


def arrivals() -> st.SearchStrategy[Arrival]:
    """Draw calls, most of which nobody watches."""
    rare = st.sampled_from([False] * 9 + [True])
    return st.builds(
        Arrival,
        at_ns=grid(40),
        program=st.integers(0, 3),
        prompt=st.sampled_from([[0], [0, 1], [0] * 7, [1] * 8, [0] * 29]),
        echo_tokens=st.sampled_from([0, 0, 10, 27]),
        max_tokens=st.integers(1, 60),
        leaves_after_ns=st.none() | grid(60),
        is_streamed=rare,
        stop=rare.map(lambda has_stop: ["e t"] if has_stop else []),
        inherited_ns=st.sampled_from([0, 0, 3 * STEP_NS]),
    )


def workloads() -> st.SearchStrategy[Workload]:
    """Draw all that happens."""
    return st.builds(
        Workload,
        engine=engines(),
        policy=policies(),
        arrivals=st.lists(arrivals(), min_size=2, max_size=12),
        looks_at_ns=st.lists(grid(100), max_size=3),
        recalibrated_at_ns=st.none() | grid(100),
    )


def call_of(index: int, arrival: Arrival) -> EngineCall:
    """Return the call as the engine takes it."""
    job = Job(program_class="any", program_arrival=arrival.program)
    call = EngineCall(
        spec=CallSpec(
            call_id=index,
            program_id=arrival.program,
            job=job,
            inherited_ns=arrival.inherited_ns,
            prompt=arrival.prompt,
            max_tokens=arrival.max_tokens,
        ),
        sampling=Sampling(stop=arrival.stop),
        is_streamed=arrival.is_streamed,
    )
    echo = Babble().tokens(call, 0, arrival.echo_tokens)
    spec = attrs.evolve(call.spec, prompt=[*arrival.prompt, *echo])
    return attrs.evolve(call, spec=spec)


async def play(workload: Workload, *, takes_windows: bool) -> dict[str, Any]:
    """Let everything happen; return all that can be seen of it."""
    engine = SimulatedEngine(takes_windows=takes_windows, **workload.engine)
    seen: dict[str, Any] = {"looks": [], "answers": []}

    async def arrive(bench: EngineBench, index: int, arrival: Arrival) -> None:
        await sleep_until(arrival.at_ns + index)
        leaves_ns = END_NS + index
        if arrival.leaves_after_ns is not None:
            leaves_ns = arrival.at_ns + arrival.leaves_after_ns + 20 + index
        with anyio.CancelScope(deadline=leaves_ns / 1e9):
            answer = await bench.answer(call_of(index, arrival))
            ended_s = anyio.current_time()
            seen["answers"].append((index, answer.text, answer.reason, ended_s))

    async def look(index: int, at_ns: int) -> None:
        await sleep_until(at_ns + 55 + index)
        seen["looks"].append(engine.statistics())

    async def recalibrate(at_ns: int) -> None:
        await sleep_until(at_ns + 60)
        engine.update_ranking(1, workload.policy.ranking(STEP_NS))

    async with serving(engine, workload.policy) as bench:
        async with anyio.create_task_group() as tasks:
            for index, arrival in enumerate(workload.arrivals):
                tasks.start_soon(arrive, bench, index, arrival)
            for index, at_ns in enumerate(workload.looks_at_ns):
                tasks.start_soon(look, index, at_ns)
            if workload.recalibrated_at_ns is not None:
                tasks.start_soon(recalibrate, workload.recalibrated_at_ns)
        statistics = engine.statistics()
    assert bench.lost is None
    return seen | {
        "reports": bench.reports,
        "facts": bench.facts,
        "statistics": statistics,
    }


async def sleep_until(instant_ns: int) -> None:
    """Sleep to the very nanosecond."""
    with anyio.CancelScope(deadline=instant_ns / 1e9):
        await anyio.sleep_forever()


def check_same(workload: Workload) -> set[str]:
    """Check that both ways look the same from outside; return what happened."""
    together = run_virtual(lambda: play(workload, takes_windows=True))
    singly = run_virtual(lambda: play(workload, takes_windows=False))
    for kind, outcome in singly.items():
        assert together[kind] == outcome, kind
    return {type(fact).__name__ for fact in singly["facts"]}


@pytest.mark.slow
@settings(max_examples=60)
@given(workloads())
def test_steps_together_are_steps_singly(workload: Workload) -> None:
    """Every report, fact, answer and statistic is the same, at the same instant."""
    for happened in sorted(check_same(workload)):
        event(happened)


def arrival(at: int, prompt: Sequence[int], max_tokens: int, echo: int = 0) -> Arrival:
    """Return a call that comes after ``at`` steps and is waited for."""
    return Arrival(
        at_ns=at * STEP_NS,
        program=0,
        prompt=prompt,
        echo_tokens=echo,
        max_tokens=max_tokens,
        leaves_after_ns=None,
        is_streamed=False,
        stop=(),
        inherited_ns=0,
    )


def test_equal_blocks_are_shared_in_the_order_of_steps() -> None:
    """A call that fills a block which is there already gives its own back at once.

    Taking all blocks of a window first would push out others from the cache.
    """
    engine = {
        "costs": FREE,
        "slots": 1,
        "token_budget": 4,
        "kv_tokens": 96,
        "host_tokens": 0,
        "block_tokens": 4,
    }
    arrivals = [
        arrival(0, [0], 1),
        arrival(0, [0], 44),
        arrival(0, [0, 0], 15),
        arrival(0, [0, 0], 36),
    ]
    check_same(
        Workload(
            engine=engine,
            policy=FCFS(),
            arrivals=arrivals,
            looks_at_ns=(),
            recalibrated_at_ns=None,
        )
    )


def test_a_block_that_fills_may_let_a_better_call_in() -> None:
    """A window ends where a call that goes before running ones may find room.

    Two calls say the same; when the second fills a block that the first has, its own is
    free. A call of a better level, for which preempting did not pay, may take it.
    """
    ladder = Ladder(bounds_s=[STEP_NS / 1e9], quanta_s=[STEP_NS / 1e9, math.inf])
    engine = {
        "costs": CostModel(step_ns=STEP_NS, prefill_ns=4 * STEP_NS, decode_ns=0),
        "slots": 4,
        "token_budget": 64,
        "kv_tokens": 48,
        "host_tokens": 0,
        "block_tokens": 8,
    }
    check_same(
        Workload(
            engine=engine,
            policy=MLFQ(ladder=ladder, beta=None),
            arrivals=[
                arrival(0, [0] * 7, 33),
                arrival(8, [0] * 7, 34),
                arrival(70, [0] * 7, 8, echo=29),
            ],
            looks_at_ns=(),
            recalibrated_at_ns=None,
        )
    )


def test_an_equal_block_that_fills_may_let_a_reserved_call_in() -> None:
    """A window ends where two calls in step fill equal blocks: one is given back.

    A call for which room is kept goes before them. It misses one block when the first
    call has ended, and has it for an instant: between a block that fills and the next.
    """
    engine = {
        "costs": CostModel(step_ns=STEP_NS, prefill_ns=0, decode_ns=0),
        "slots": 8,
        "token_budget": 64,
        "kv_tokens": 100,
        "host_tokens": 0,
        "block_tokens": 4,
    }
    together = [arrival(0, [0] * 5, 65), arrival(0, [0] * 5, 67)]
    check_same(
        Workload(
            engine=engine,
            policy=FCFS(),
            arrivals=[
                arrival(0, [1] * 20, 34),
                *(attrs.evolve(one, at_ns=GRID_NS) for one in together),
                arrival(4, [2] * 53, 6),
            ],
            looks_at_ns=(),
            recalibrated_at_ns=None,
        )
    )


def test_a_call_that_stops_paying_may_let_another_be_swapped() -> None:
    """Host room for one of two: when the first no longer pays, the second may go.

    So there is no window while a better call waits and not all could be swapped.
    """
    ladder = Ladder(bounds_s=[STEP_NS / 1e9], quanta_s=[STEP_NS / 1e9, math.inf])
    costs = CostModel(
        step_ns=STEP_NS,
        prefill_ns=STEP_NS,
        decode_ns=0,
        transfer_ns=4 * STEP_NS,
        block_transfer_ns=STEP_NS // 4,
    )
    for max_tokens in (22, 24, 27, 30):
        check_same(
            Workload(
                engine={
                    "costs": costs,
                    "slots": 4,
                    "token_budget": 200,
                    "kv_tokens": 140,
                    "host_tokens": 100,
                    "block_tokens": 4,
                },
                policy=MLFQ(ladder=ladder, beta=None),
                arrivals=[
                    arrival(0, [0] * 29, 70, echo=40),
                    arrival(80, [1] * 8, max_tokens, echo=1),
                    arrival(95, [2] * 56, 4),
                ],
                looks_at_ns=(),
                recalibrated_at_ns=None,
            )
        )


def test_a_block_that_is_waited_for_ends_a_window() -> None:
    """A waiting call that begins as a running one has said may need a block less."""
    calls = [  # at, in 1/16 steps; program, prompt, echo, max_tokens, inherits
        (95, 0, [0], 0, 35, 0),
        (934, 3, [1] * 8, 10, 36, 0),
        (623, 3, [1] * 8, 0, 27, 0),
        (338, 0, [0, 1], 27, 34, 3),
        (208, 0, [0, 1], 10, 48, 3),
        (847, 2, [1] * 8, 27, 22, 0),
    ]
    check_same(
        Workload(
            engine={
                "costs": CostModel(
                    step_ns=STEP_NS,
                    prefill_ns=GRID_NS,
                    decode_ns=0,
                    transfer_ns=STEP_NS,
                    block_transfer_ns=4 * GRID_NS,
                    nominal_batch=2,
                ),
                "slots": 3,
                "token_budget": 6,
                "kv_tokens": 100,
                "host_tokens": 0,
                "block_tokens": 8,
            },
            policy=ProgramFCFS(),
            arrivals=[
                attrs.evolve(
                    arrival(0, prompt, most, echo),
                    at_ns=at * GRID_NS,
                    program=program,
                    inherited_ns=inherits * STEP_NS,
                )
                for at, program, prompt, echo, most, inherits in calls
            ],
            looks_at_ns=(),
            recalibrated_at_ns=None,
        )
    )


@pytest.mark.parametrize(("takes_windows", "expected"), [(True, 2), (False, 100)])
def test_equal_steps_take_one_decision(
    takes_windows: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that decodes alone is planned twice, not once a token."""
    plans = 0
    plan = StepScheduler.plan

    def counted(scheduler: StepScheduler, now_ns: int) -> Plan:
        nonlocal plans
        plans += 1
        return plan(scheduler, now_ns)

    async def main() -> None:
        engine = SimulatedEngine(takes_windows=takes_windows, host_tokens=0)
        async with serving(engine, FCFS()) as bench:
            await bench.answer(bench.call(max_tokens=100))

    monkeypatch.setattr(StepScheduler, "plan", counted)
    run_virtual(main)
    assert plans == expected


@given(costs=costs(), contexts=st.lists(st.integers(1, 500), min_size=1, max_size=5))
def test_a_flight_ends_as_its_steps_one_by_one_would(
    costs: CostModel, contexts: list[int]
) -> None:
    """The end of step n is the sum of n steps, each with one more token of context."""
    flight = flight_of(contexts, costs)
    end_ns = 70
    for step in range(1, 20):
        end_ns += costs.forward_ns(
            prefill_tokens=0,
            decoders=len(contexts),
            context_tokens=sum(contexts) + len(contexts) * (step - 1),
            pairs=0,
        )
        assert flight.end_ns(step) == end_ns


@given(
    steps=st.integers(1, 30),
    service_ns=st.none() | st.integers(1, 3_000),
    until_ns=st.none() | st.integers(70, 3_000),
    now_ns=st.integers(70, 3_000),
)
def test_a_window_ends_with_the_first_step_that_reaches_a_bound(
    steps: int, service_ns: int | None, until_ns: int | None, now_ns: int
) -> None:
    """The last step is the first at or after a bound; earlier ones are before all."""
    costs = CostModel(step_ns=90, prefill_ns=0, decode_ns=7, context_ns=3)
    flight = flight_of([5, 8], costs)
    flight.extend(Window(steps=steps, service_ns=service_ns, until_ns=until_ns))
    bounds = [70 + service_ns if service_ns is not None else math.inf]
    bounds.append(until_ns if until_ns is not None else math.inf)
    expected = next(
        (n for n in range(1, steps) if flight.end_ns(n) >= min(bounds)), steps
    )
    assert flight.steps == expected
    ended = [n for n in range(1, expected + 1) if flight.end_ns(n) <= now_ns]
    assert flight.steps_ended(now_ns) == len(ended)


def flight_of(contexts: Sequence[int], costs: CostModel) -> Flight:
    """Return a flight of decoders with so much context each, from instant 70."""
    calls = [
        Call(
            spec=CallSpec(
                call_id=index,
                program_id=0,
                job=Job(program_class="any", program_arrival=0),
                inherited_ns=0,
                prompt=[0] * computed,
                max_tokens=99,
            ),
            tokens=[0] * (computed + 1),
            lease=Lease(),
            submitted_ns=0,
            accounted_ns=0,
            computed=computed,
        )
        for index, computed in enumerate(contexts)
    ]
    return Flight.of(Plan(at_ns=70, calls=[(call, 1) for call in calls]), costs)
