"""Steps taken together are steps taken singly, to the nanosecond (rule S10)."""

import math
from collections.abc import Sequence
from typing import Any

import anyio
import attrs
from hypothesis import event, given, settings
from hypothesis import strategies as st

from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.simulated import SimulatedEngine
from autellix.core.cost_model import CostModel
from autellix.core.ranking import InnerOrder, Policy
from autellix.core.records import CallSpec, Charge, Job
from autellix.policies import FCFS, MLFQ, PLAS, Ladder, ProgramFCFS
from autellix.testing import run_virtual
from autellix.testing.engine_bench import EngineBench, serving

STEP_NS = 1_000


@attrs.frozen(kw_only=True)
class Arrival:
    """A call, when it comes, and when its consumer leaves."""

    at_ns: int
    program: int
    prompt: Sequence[int]
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
    """Draw cost models; with even ones, much falls on the same instant."""
    return st.builds(
        CostModel,
        step_ns=st.sampled_from([0, STEP_NS]),
        prefill_ns=st.sampled_from([0, 13, 100]),
        decode_ns=st.sampled_from([0, 7, 100]),
        context_ns=st.sampled_from([0, 3]),
        transfer_ns=st.sampled_from([0, 50]),
        block_transfer_ns=st.sampled_from([0, 200]),
        nominal_batch=st.just(2),
    )


def engines() -> st.SearchStrategy[dict[str, Any]]:
    """Draw engines that are short of something."""
    return st.fixed_dictionaries(
        {
            "costs": costs(),
            "slots": st.integers(1, 4),
            "token_budget": st.sampled_from([4, 9, 64]),
            "kv_tokens": st.sampled_from([96, 120, 400]),
            "host_tokens": st.sampled_from([0, 40, 400]),
            "block_tokens": st.just(4),
            "caches_prefixes": st.booleans(),
        }
    )


def instants(*, most: int = 300) -> st.SearchStrategy[int]:
    """Draw instants: any nanosecond, or where steps may end."""
    anywhere = st.integers(0, most * STEP_NS)
    return anywhere | st.integers(0, most).map(lambda n: n * STEP_NS)


def arrivals() -> st.SearchStrategy[Arrival]:
    """Draw calls, most of which nobody watches."""
    rare = st.sampled_from([False] * 9 + [True])
    return st.builds(
        Arrival,
        at_ns=instants(),
        program=st.integers(0, 3),
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=30),
        max_tokens=st.integers(1, 60),
        leaves_after_ns=st.none() | instants(most=60),
        is_streamed=rare,
        stop=rare.map(lambda has_stop: ["e t"] if has_stop else []),
        inherited_ns=st.sampled_from([0, 0, 3 * STEP_NS]),
    )


workloads = st.builds(
    Workload,
    engine=engines(),
    policy=policies(),
    arrivals=st.lists(arrivals(), min_size=1, max_size=10),
    looks_at_ns=st.lists(instants(), max_size=3),
    recalibrated_at_ns=st.none() | instants(),
)


def call_of(index: int, arrival: Arrival) -> EngineCall:
    """Return the call as the engine takes it."""
    job = Job(program_class="any", program_arrival=arrival.program)
    return EngineCall(
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


async def play(workload: Workload, *, takes_windows: bool) -> dict[str, Any]:
    """Let everything happen; return all that can be seen of it."""
    engine = SimulatedEngine(takes_windows=takes_windows, **workload.engine)
    seen: dict[str, Any] = {"looks": [], "answers": []}

    async def arrive(bench: EngineBench, index: int, arrival: Arrival) -> None:
        await sleep_until(arrival.at_ns)
        with anyio.CancelScope() as scope:
            if arrival.leaves_after_ns is not None:
                leaves_ns = arrival.at_ns + arrival.leaves_after_ns
                scope.deadline = leaves_ns / 1e9
            answer = await bench.answer(call_of(index, arrival))
            ended_s = anyio.current_time()
            seen["answers"].append((index, answer.text, answer.reason, ended_s))

    async def look(at_ns: int) -> None:
        await sleep_until(at_ns)
        seen["looks"].append(engine.statistics())

    async def recalibrate(at_ns: int) -> None:
        await sleep_until(at_ns)
        engine.update_ranking(1, workload.policy.ranking(STEP_NS))

    async with serving(engine, workload.policy) as bench:
        async with anyio.create_task_group() as tasks:
            for index, arrival in enumerate(workload.arrivals):
                tasks.start_soon(arrive, bench, index, arrival)
            for at_ns in workload.looks_at_ns:
                tasks.start_soon(look, at_ns)
            if workload.recalibrated_at_ns is not None:
                tasks.start_soon(recalibrate, workload.recalibrated_at_ns)
        await bench.at_rest(len(workload.arrivals))
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


@settings(max_examples=300)
@given(workloads)
def test_steps_together_are_steps_singly(workload: Workload) -> None:
    """Every report, fact, answer and statistic is the same, at the same instant."""
    together = run_virtual(lambda: play(workload, takes_windows=True))
    singly = run_virtual(lambda: play(workload, takes_windows=False))
    for kind, outcome in singly.items():
        assert together[kind] == outcome, kind
    for fact in singly["facts"]:
        event(type(fact).__name__)
