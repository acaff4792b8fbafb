"""The simulated engine takes the time its cost model says, and says what it may."""

from importlib.metadata import entry_points

import anyio
import anyio.lowlevel
import attrs
import pytest

from autellix import AutellixRuntime
from autellix.backends.protocol import Engine, Sampling
from autellix.backends.simulated import (
    PRESETS,
    SimulatedEngine,
    SimulatedOptions,
    backend,
)
from autellix.core.cost_model import CostModel, attended_pairs
from autellix.core.facts import Preempted
from autellix.core.records import CallReport, PreemptionKind, WaitReason
from autellix.errors import EngineLost
from autellix.policies import FCFS, MLFQ, Ladder
from autellix.testing import run_virtual
from autellix.testing.engine_bench import serving, until

COSTS = CostModel(
    step_ns=1_000_000,
    prefill_ns=10_000,
    decode_ns=1_000,
    context_ns=10,
    pair_ps=2_000,
    transfer_ns=500,
    block_transfer_ns=300_000,
)
FAST_LINK = attrs.evolve(COSTS, block_transfer_ns=1_000)


def test_a_call_takes_what_its_steps_take() -> None:
    """Prefill in chunks, then a decode step a token, each by the cost model."""

    async def main() -> CallReport:
        async with serving(SimulatedEngine(costs=COSTS, token_budget=64)) as bench:
            call = bench.call([7] * 100, max_tokens=3)
            await bench.answer(call)
            return bench.report(call)

    report = run_virtual(main)
    prefill_ns = 2 * 1_000_000 + 100 * 10_000 + attended_pairs(0, 100) * 2
    decode_ns = 2 * 1_001_000 + (100 + 101) * 10
    assert report.service_ns == prefill_ns + decode_ns
    assert report.first_token_ns == prefill_ns
    assert report.ended_ns == prefill_ns + decode_ns
    assert report.wait_ns == {}


def test_blocks_are_loaded_before_the_forward_pass() -> None:
    """A prefix in the host pool makes the call wait for the load, charged as swap."""

    async def main() -> CallReport:
        engine = SimulatedEngine(
            costs=COSTS, kv_tokens=64, host_tokens=640, slots=1, token_budget=64
        )
        async with serving(engine) as bench:
            await bench.answer(bench.call([1] * 40, max_tokens=2))
            await bench.answer(bench.call([2] * 60, max_tokens=4))  # pushes it out
            await bench.at_rest(2)
            call = bench.call([1] * 40, max_tokens=1)
            await bench.answer(call)
            return bench.report(call)

    report = run_virtual(main)
    assert report.cached_host_tokens == 32
    assert report.wait_ns == {WaitReason.SWAP: 500 + 2 * 300_000}
    pairs = attended_pairs(32, 8)
    assert report.service_ns == 1_000_000 + 8 * 10_000 + pairs * 2


def test_blocks_are_written_while_the_engine_computes() -> None:
    """Copies to the host pool cost only what they take longer than the step."""
    write_ns = 500 + 6 * 300_000

    async def main() -> tuple[CallReport, int]:
        engine = SimulatedEngine(costs=COSTS, slots=1)
        async with serving(engine) as bench:
            calls = [bench.call([n] * 97, max_tokens=1) for n in (1, 2)]
            await bench.answers(calls)
            second = bench.report(calls[1])
            await bench.at_rest(2)
            await until(lambda: bench.engine.statistics().host.cached == 12)
            return second, bench.engine.statistics().steps

    report, steps = run_virtual(main)
    prefill_ns = 1_000_000 + 97 * 10_000 + attended_pairs(0, 97) * 2
    assert report.service_ns == max(prefill_ns, write_ns)
    assert steps == 3, "the last blocks are written by a step without calls"


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (SimulatedEngine(costs=COSTS, slots=1), PreemptionKind.PAUSE),
        (
            SimulatedEngine(costs=FAST_LINK, slots=2, kv_tokens=96, host_tokens=96),
            PreemptionKind.SWAP,
        ),
        (
            SimulatedEngine(
                costs=COSTS,
                slots=2,
                kv_tokens=96,
                host_tokens=0,
                caches_prefixes=False,
            ),
            PreemptionKind.DROP,
        ),
    ],
)
def test_preemption_changes_no_token(
    engine: SimulatedEngine, kind: PreemptionKind
) -> None:
    """Paused, swapped or dropped, a call goes on where it was (rule S8)."""

    async def main() -> None:
        sinks = Ladder(bounds_s=[1e-9], quanta_s=[1e-9, 1e9])
        async with serving(engine, MLFQ(ladder=sinks)) as bench:
            sampling = Sampling(temperature=1, seed=5)
            alone = await bench.answer(
                bench.call([1] * 30, max_tokens=60, sampling=sampling)
            )
            long = bench.call([1] * 30, max_tokens=60, sampling=sampling)
            async with anyio.create_task_group() as tasks:

                async def check() -> None:
                    assert (await bench.answer(long)).text == alone.text

                tasks.start_soon(check)
                await anyio.sleep(0.02)
                await bench.answer(bench.call([2] * 60, max_tokens=20))
            kinds = {f.kind for f in bench.facts if isinstance(f, Preempted)}
            assert kind in kinds

    run_virtual(main)


def test_answers_depend_on_seeds_and_prompt() -> None:
    """Greedy: the prompt and the engine's seed; sampled: the call's seed as well."""

    async def answer(engine_seed: int, prompt: str, sampling: Sampling) -> str:
        async with serving(SimulatedEngine(seed=engine_seed)) as bench:
            call = bench.call(prompt, sampling=sampling, max_tokens=40)
            return (await bench.answer(call)).text

    greedy = Sampling()
    first = run_virtual(answer, 0, "Hi", greedy)
    assert first.isprintable()
    assert run_virtual(answer, 0, "Hi", Sampling(seed=3)) == first
    others = [
        run_virtual(answer, 1, "Hi", greedy),
        run_virtual(answer, 0, "Ho", greedy),
        run_virtual(answer, 0, "Hi", Sampling(temperature=0.5, seed=1)),
        run_virtual(answer, 0, "Hi", Sampling(temperature=0.5, seed=2)),
    ]
    assert len({first, *others}) == 5


def test_long_answers_are_as_long_as_asked() -> None:
    """Also where the made-up text has to begin anew."""

    async def main() -> int:
        async with serving(SimulatedEngine()) as bench:
            answer = await bench.answer(bench.call(max_tokens=10_000))
            return len(answer.token_ids)

    assert run_virtual(main) == 10_000


@pytest.mark.both_loops
async def test_without_cost_others_still_get_their_turn() -> None:
    """On a real clock a free engine yields after every step, and takes no time."""
    engine = SimulatedEngine(costs="free", takes_windows=False)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with serving(engine) as bench, anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        call = bench.call(max_tokens=200)
        await bench.answer(call)
        tasks.cancel_scope.cancel()
    assert turns >= 190
    assert bench.report(call).service_ns == 0


@pytest.mark.both_loops
async def test_on_a_real_clock_it_takes_real_time() -> None:
    """Reports hold the cost model's time, the clock at least that."""
    costs = CostModel(step_ns=100_000, prefill_ns=0, decode_ns=0)
    async with serving(SimulatedEngine(costs=costs)) as bench:
        start_s = anyio.current_time()
        call = bench.call(max_tokens=20)
        await bench.answer(call)
        took_s = anyio.current_time() - start_s
    assert bench.report(call).service_ns == 20 * 100_000
    assert took_s >= 20 * 100e-6


def test_a_crash_ends_the_step_under_way() -> None:
    """It comes at the end of that step, which is then not charged."""

    async def main() -> tuple[CallReport, EngineLost | None]:
        engine = SimulatedEngine(costs=COSTS)
        async with serving(engine) as bench:
            call = bench.call([1], max_tokens=100)
            bench.submit(call)
            await anyio.sleep(0.0035)
            engine.crash(OSError("fire"))
            await anyio.sleep(1)
            return bench.report(call), bench.lost

    report, lost = run_virtual(main)
    assert 3_500_000 < report.ended_ns < 5_000_000
    assert report.output_tokens == 3
    assert lost is not None
    assert isinstance(lost.__cause__, OSError)


def test_an_engine_can_be_entered_again() -> None:
    """It starts empty; between the blocks it takes nothing."""

    async def main() -> None:
        engine = SimulatedEngine()
        with pytest.raises(EngineLost, match="not entered"):
            engine.statistics()
        for _ in range(2):
            async with serving(engine) as bench:
                await bench.answer(bench.call(max_tokens=2))
                assert engine.statistics().output_tokens == 2
            with pytest.raises(EngineLost, match="is down"):
                engine.submit(bench.call(), print)

    run_virtual(main)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "slots"),
        ({"token_budget": 8}, "token_budget 8 is below slots 64"),
        ({"kv_tokens": 15}, "kv_tokens 15 is less than a block of 16"),
        ({"host_tokens": -1}, "host_tokens"),
        ({"block_tokens": 0}, "block_tokens"),
        ({"max_context_tokens": 0}, "max_context_tokens"),
        ({"round_steps": 0}, "round_steps"),
        ({"intake_limit_calls": 0}, "intake_limit_calls"),
        ({"costs": "8b"}, "no preset '8b': there are llama-8b-a100"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    """The message shows the setting and its value."""
    with pytest.raises(ValueError, match=message):
        SimulatedEngine(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": "8"}, "'slots' must be an integer: '8'"),
        ({"kv_tokens": 1e5}, "'kv_tokens' must be an integer: 100000.0"),
        ({"token_budget": None}, "'token_budget' must be an integer: None"),
        ({"takes_windows": "no"}, "'takes_windows' must be a boolean: 'no'"),
        ({"name": 3}, "'name' must be a string: 3"),
        ({"costs": 3}, "'costs' must be a CostModel or a preset's name: 3"),
    ],
)
def test_settings_of_another_type_are_refused_in_one_line(
    options: dict[str, object], message: str
) -> None:
    """The message says what is wanted and shows what came, and nothing else."""
    with pytest.raises(TypeError) as raised:
        SimulatedEngine(**options)  # type: ignore[arg-type]
    assert raised.value.args == (message,)


def test_the_entry_point_makes_an_engine_of_settings() -> None:
    """What a configuration file says by name becomes the same engine."""
    (found,) = entry_points(group="autellix.backends", name="simulated")
    options_class, make = found.load()
    assert (options_class, make) == backend
    options = SimulatedOptions(name="one", costs="llama-8b-h100", slots=3)
    engine: Engine = make(options)
    assert engine.name == "one"
    assert engine.costs == PRESETS["llama-8b-h100"]
    can = engine.capabilities()
    assert can.max_batch_calls == 3
    assert can.max_call_tokens == min(options.kv_tokens, options.max_context_tokens)


@pytest.mark.parametrize("name", [n for n in PRESETS if n != "free"])
def test_presets_are_plausible(name: str) -> None:
    """A step is worth many prefilled tokens; decoding reads context, prefill pairs."""
    costs = PRESETS[name]
    assert 10 < costs.step_ns / costs.prefill_ns < 300
    assert costs.prefill_ns > costs.context_ns > 0
    assert costs.pair_ps > 0
    assert costs.is_swap_cheaper(32, 512), "moving a prompt beats computing it"


async def test_the_policy_comes_with_serve() -> None:
    """The same engine serves under one after the other."""
    engine = SimulatedEngine(costs="free")
    for policy in (FCFS(), MLFQ()):
        async with serving(engine, policy) as bench:
            answer = await bench.answer(bench.call(max_tokens=3))
            assert len(answer.token_ids) == 3


def test_an_output_schema_is_refused_to_its_call_alone() -> None:
    """An engine that cannot hold output to a schema says so; other calls go on."""

    async def main() -> tuple[int, int]:
        async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:
            async with runtime.program("held") as program:
                with pytest.raises(ValueError, match="'simulated' cannot hold output"):
                    await program.generate(
                        [1, 2], max_tokens=4, json_schema='{"type": "object"}'
                    )
                after = await program.generate([1, 2], max_tokens=4)
            statistics = runtime.statistics()
            (engine,) = statistics.engines.values()
            return len(after.token_ids), engine.counters.device.referenced

    assert run_virtual(main) == (4, 0)
