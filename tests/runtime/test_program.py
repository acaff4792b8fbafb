"""What agent code holds: calls, their results, and the end of a program."""

from contextlib import suppress
from typing import Any

import anyio
import pytest

from autellix import AutellixRuntime, CallRejected, ProgramClosed, UnknownModel
from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.simulated import SimulatedEngine
from autellix.core.cost_model import CostModel
from autellix.core.records import WaitReason
from autellix.policies import ATLAS, PLAS, SRPT
from autellix.testing.engine_bench import until
from tests.fakes import FakeEngine

MESSAGES = [{"role": "user", "content": "hello"}]


# -- calls and results -----------------------------------------------------------


async def test_generate_takes_text_or_token_ids() -> None:
    """Text goes through the tokenizer, ids go as they are."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        by_text = await program.generate("hi", max_tokens=3)
        await program.generate([7, 8, 9], max_tokens=3)
    assert by_text.text == "abc"
    assert by_text.token_ids == (97, 98, 99)
    assert by_text.finish_reason == "length"
    assert [tuple(call.spec.prompt) for call in engine.calls] == [
        (104, 105),
        (7, 8, 9),
    ]


async def test_chat_renders_messages_by_the_models_template() -> None:
    """The prompt is what the engine's own tokenizer makes of the messages."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        await program.chat(MESSAGES, max_tokens=1)
    rendered = engine.tokenizer.render(MESSAGES)
    assert list(engine.calls[0].spec.prompt) == engine.tokenizer.encode(rendered)


async def test_a_stream_gives_chunks_as_they_come_and_then_the_result() -> None:
    """Chunks arrive step by step; the result is theirs, put together."""
    arrived_s: list[float] = []
    async with (
        AutellixRuntime(engines=[FakeEngine(step_s=1.0)]) as runtime,
        runtime.program("test") as program,
    ):
        async with program.stream(MESSAGES, max_tokens=3) as chunks:
            with pytest.raises(RuntimeError, match="has not ended"):
                _ = chunks.result
            texts = []
            async for chunk in chunks:
                texts.append(chunk.text)
                arrived_s.append(anyio.current_time())
            assert await anext(chunks, None) is None
        result = chunks.result
    assert "".join(texts) == result.text == "abc"
    assert arrived_s[2] - arrived_s[0] == pytest.approx(2.0)


async def test_options_reach_the_engine() -> None:
    """Every option of a call is what the engine gets; left out, the stated default."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        await program.generate("hi")
        await program.generate(
            "hi",
            max_tokens=2,
            temperature=0.5,
            top_p=0.9,
            top_k=4,
            seed=1,
            stop="END",
            logprobs=2,
            ignore_end=True,
        )
        async with program.stream("hi", max_tokens=1, stop=["a", "b"]):
            pass
    default, full, streamed = engine.calls
    assert default.spec.max_tokens == 256
    assert default.sampling == Sampling()
    assert full.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        seed=1,
        stop=("END",),
        logprobs=2,
        ignore_end=True,
    )
    assert streamed.sampling.stop == ("a", "b")
    assert [call.is_streamed for call in engine.calls] == [False, False, True]


async def test_token_ids_of_other_libraries_become_plain_integers() -> None:
    """What counts as an integer, like numpy's, is one; engines see nothing else."""

    class Id:
        def __index__(self) -> int:
            return 104

    engine = FakeEngine()
    ids: Any = [Id(), 105]
    async with AutellixRuntime(engines=[engine]) as runtime:
        await runtime.generate(ids, max_tokens=1)
    (call,) = engine.calls
    assert call.spec.prompt == (104, 105)
    assert set(map(type, call.spec.prompt)) == {int}


@pytest.mark.parametrize(
    ("prompt", "options", "error", "says"),
    [
        ("", {}, ValueError, "''"),
        ([], {}, ValueError, "[]"),
        (b"bytes", {}, TypeError, "b'bytes'"),
        (7, {}, TypeError, "7"),
        ([1.5], {}, TypeError, "got 1.5 at 0"),
        ([5, "a"], {}, TypeError, "got 'a' at 1"),
        ([5, True], {}, TypeError, "got True at 1"),
        ([5, 2**70], {}, ValueError, f"from 0 to {2**32 - 1}: got {2**70} at 1"),
        ("a\ud800", {}, ValueError, r"UTF-8 can hold: got '\ud800' at 1"),
        ([1, -2], {}, ValueError, "-2"),
        ("hi", {"max_tokens": 0}, ValueError, "'max_tokens' must be >= 1: 0"),
        ("hi", {"max_tokens": -5}, ValueError, "-5"),
        ("hi", {"max_tokens": 2.5}, TypeError, "'max_tokens' must be an integer: 2.5"),
        ("hi", {"temperature": -0.1}, ValueError, "-0.1"),
        ("hi", {"top_p": 0.0}, ValueError, "top_p"),
        ("hi", {"top_k": 0}, ValueError, "top_k"),
        ("hi", {"stop": ""}, ValueError, "stop"),
        ("hi", {"logprobs": -1}, ValueError, "logprobs"),
        ("hi", {"model": 3}, TypeError, "model"),
        ("hi", {"after": ["text"]}, TypeError, "'text'"),
        ("hi", {"after": 7}, TypeError, "'after' must be a sequence of results: 7"),
        ("hi", {"max_tokens": True}, TypeError, "must be an integer: True"),
        ("hi", {"temperature": "0"}, TypeError, "'temperature' must be a number: '0'"),
        ("hi", {"top_p": float("nan")}, ValueError, "'top_p' must be > 0.0: nan"),
        ("hi", {"top_p": 1.5}, ValueError, "'top_p' must be <= 1.0: 1.5"),
        ("hi", {"seed": "1"}, TypeError, "'seed' must be an integer: '1'"),
        ("hi", {"stop": 3}, TypeError, "'stop' must be a sequence of strings: 3"),
        ("hi", {"ignore_end": 1}, TypeError, "'ignore_end' must be a boolean: 1"),
        ("hi", {"temprature": 1.0}, TypeError, "did you mean 'temperature'?"),
        ("hi", {"zzz": 1.0}, TypeError, "no option 'zzz': there are max_tokens, temp"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
async def test_wrong_arguments_of_a_call_are_refused_with_their_value(
    prompt: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """They never reach an engine, and the program goes on."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        with pytest.raises(error) as raised:
            await program.generate(prompt, **options)
        with pytest.raises(error):
            program.stream(prompt, **options)
        await program.generate("still here", max_tokens=1)
    assert says in str(raised.value)
    assert len(raised.value.args) == 1  # one line, no internals
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], ValueError),
        ("hello", TypeError),
        (["hello"], TypeError),
        ([{"role": "user"}], TypeError),
        ([{"role": "user", "content": None}], TypeError),
    ],
    ids=str,
)
async def test_wrong_messages_are_refused(
    messages: Any, error: type[Exception]
) -> None:
    """A chat is a sequence of messages, each with a role and a content."""
    async with (
        AutellixRuntime(engines=[FakeEngine()]) as runtime,
        runtime.program("test") as program,
    ):
        with pytest.raises(error):
            await program.chat(messages)


async def test_where_there_are_several_models_a_call_names_one() -> None:
    """Named, it goes to an engine of it; unnamed or unknown, the error lists them."""
    small, large = FakeEngine(name="a", model="small"), FakeEngine(model="large")
    async with (
        AutellixRuntime(engines=[small, large]) as runtime,
        runtime.program("test") as program,
    ):
        await program.generate("hi", max_tokens=1, model="large")
        with pytest.raises(UnknownModel) as unnamed:
            await program.generate("hi")
        with pytest.raises(UnknownModel) as unknown:
            await program.generate("hi", model="huge")
    assert (len(small.calls), len(large.calls)) == (0, 1)
    assert unnamed.value.known == unknown.value.known == ("small", "large")
    assert unknown.value.model == "huge"


async def test_a_call_that_can_never_fit_is_refused_at_submission() -> None:
    """S9: refused with its size and the limit of the largest engine; it is no call."""
    engines = [
        FakeEngine(name="small", max_call_tokens=10),
        FakeEngine(name="large", max_call_tokens=20),
    ]
    async with AutellixRuntime(engines=engines) as runtime:
        async with runtime.program("test") as program:
            await program.generate([1] * 12, max_tokens=8)
            with pytest.raises(CallRejected) as raised:
                await program.generate([1] * 12, max_tokens=9)
            assert runtime._table.view(program.id).calls == 1
        statistics = runtime.statistics()
    assert (raised.value.needed_tokens, raised.value.limit_tokens) == (21, 20)
    assert not engines[0].calls
    assert len(engines[1].calls) == statistics.calls.finished == 1


async def test_a_report_adds_up() -> None:
    """Service and wait by reason are the time from submission to end (A7, A9)."""
    async with AutellixRuntime(engines=[SimulatedEngine(slots=1)]) as runtime:
        results = []

        async def agent(prompt: str) -> None:
            async with runtime.program("test") as program:
                results.append(await program.generate(prompt, max_tokens=20))

        async with anyio.create_task_group() as tasks:
            for prompt in ("one", "two", "three"):
                tasks.start_soon(agent, prompt)
        totals = runtime.statistics()
    for report in (result.report for result in results):
        passed_s = report.ended_s - report.submitted_s
        assert report.service_s + sum(report.wait_s.values()) == pytest.approx(passed_s)
        assert report.engine == "simulated"
        assert report.output_tokens == 20
    waited_s = sum(result.report.wait_s.get(WaitReason.SLOTS, 0) for result in results)
    assert waited_s > 0
    assert totals.wait_s[WaitReason.SLOTS] == pytest.approx(waited_s)
    assert totals.service_s == pytest.approx(
        sum(result.report.service_s for result in results)
    )
    assert totals.output_tokens == 60


# -- what a call inherits --------------------------------------------------------


async def test_a_call_inherits_from_the_calls_it_is_said_to_follow() -> None:
    """A6: with ``after`` a call inherits their longest path, without it the scalar."""
    engine = FakeEngine(step_s=1.0)
    async with (
        AutellixRuntime(engines=[engine], policy=ATLAS()) as runtime,
        runtime.program("tree") as program,
    ):
        root = await program.generate("root", max_tokens=1)
        long = await program.generate("long", max_tokens=5, after=[root])
        short = await program.generate("short", max_tokens=2, after=[root])
        await program.generate("leaf", max_tokens=1, after=[short])
        await program.generate("join", max_tokens=1, after=[short, long])
        await program.generate("scalar", max_tokens=1)
        await program.generate("another root", max_tokens=1, after=[])
    inherited_s = [call.spec.inherited_ns / 1e9 for call in engine.calls]
    assert inherited_s == [0, 1, 1, 3, 6, 7, 0]


async def test_the_name_and_the_size_of_a_program_reach_the_policy() -> None:
    """Class and size are what a ranking may know of a program."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine], policy=SRPT()) as runtime,
        runtime.program("react", size_s=2.5) as program,
    ):
        await program.generate("hi", max_tokens=1)
    job = engine.calls[0].spec.job
    assert (job.program_class, job.size_ns) == ("react", 2_500_000_000)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": 3}, TypeError),
        ({"name": "x", "size_s": -1.0}, ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_of_a_program_are_refused(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    """A program has a name, and a size cannot be negative."""
    runtime = AutellixRuntime(engines=[FakeEngine()])
    with pytest.raises(error):
        runtime.program(**arguments)


# -- the end of a program --------------------------------------------------------


async def test_a_row_lives_from_the_start_to_the_end_of_the_block() -> None:
    """A8: there is one while the block runs, and none after it, error or not."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        program = runtime.program("test")
        assert not len(runtime._table)
        with suppress(ZeroDivisionError):
            async with program:
                assert program.id in runtime._table
                assert not program.is_closed
                _ = 1 / 0
        assert program.is_closed
        assert not len(runtime._table)


async def test_leaving_a_program_cancels_its_calls_wherever_they_are_awaited() -> None:
    """A8: the consumer in another task gets ``ProgramClosed`` at once."""
    engine = SimulatedEngine()
    released_s: list[float] = []
    async with AutellixRuntime(engines=[engine]) as runtime:

        async def other(program: Any) -> None:
            with pytest.raises(ProgramClosed, match="'short'"):
                await program.generate("hi", max_tokens=10_000)
            released_s.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            async with runtime.program("short") as program:
                tasks.start_soon(other, program)
                tasks.start_soon(other, program)
                await anyio.sleep(1.0)
            left_s = anyio.current_time()
        assert released_s == [left_s, left_s]
        await anyio.sleep(1.0)
        assert not len(runtime._table)
        statistics = runtime.statistics()
    assert statistics.calls.cancelled == 2
    assert statistics.engines["simulated"].counters.device.referenced == 0


async def test_engines_are_told_that_a_program_has_ended() -> None:
    """Each of them, when its block ends, and again by a call that ends later (K7)."""
    engines = [FakeEngine(name="one", reports_late=True), FakeEngine(name="two")]
    async with AutellixRuntime(engines=engines) as runtime:
        async with runtime.program("test") as program:
            await program.generate("hi", max_tokens=1)
            assert not engines[0].forgotten
            async with program.stream("hi", max_tokens=9) as chunks:
                await anext(chunks)
        told = [engine.forgotten.copy() for engine in engines]
        assert told[0][:1] == told[1]
        await anyio.sleep(1)
    assert set(engines[0].forgotten) == set(told[1])


async def test_a_call_that_ends_after_its_program_leaves_nothing_retained() -> None:
    """It was in a step when the block ended; the engine is told once more (K7)."""
    costs = CostModel(step_ns=50_000_000, prefill_ns=1_000_000, decode_ns=0)
    engine = SimulatedEngine(costs=costs)
    async with AutellixRuntime(engines=[engine]) as runtime:
        async with (
            anyio.create_task_group() as tasks,
            runtime.program("test") as program,
        ):
            tasks.start_soon(program.generate, "a prompt of some blocks" * 4)
            await until(lambda: engine.statistics().running > 0)
            tasks.cancel_scope.cancel()
        await until(lambda: engine.statistics().running == 0)
        use = engine.statistics()
        assert use.device.cached
        assert use.device.retained == use.host.retained == 0


async def test_a_program_that_has_ended_makes_no_calls() -> None:
    """Every use after the block raises ``ProgramClosed`` with the program's name."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        async with runtime.program("done") as program:
            waiting = program.stream("hi")
        with pytest.raises(ProgramClosed) as raised:
            await program.generate("hi")
        assert raised.value.program == "done"
        with pytest.raises(ProgramClosed):
            await waiting.__aenter__()


async def test_a_program_is_entered_once_and_before_it_is_used() -> None:
    """What was not entered, or was entered before, says so."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        program = runtime.program("test")
        with pytest.raises(RuntimeError, match="enter program 'test' first"):
            await program.generate("hi")
        async with program:
            with pytest.raises(RuntimeError, match="one run"):
                await program.__aenter__()
            chunks = program.stream("hi", max_tokens=1)
            with pytest.raises(RuntimeError, match="enter the stream first"):
                await anext(chunks)
            async with chunks:
                with pytest.raises(RuntimeError, match="one call"):
                    await chunks.__aenter__()


async def test_leaving_a_stream_early_cancels_the_call_and_books_what_it_used() -> None:
    """A4: the consumer goes at once; the step it was in is charged to its program."""
    engine = FakeEngine(step_s=1.0)
    async with (
        AutellixRuntime(engines=[engine], policy=PLAS()) as runtime,
        runtime.program("test") as program,
    ):
        async with program.stream("hi", max_tokens=100) as chunks:
            await anext(chunks)
            left_s = anyio.current_time()
        assert anyio.current_time() == left_s
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = chunks.result
        await anyio.sleep(1.5)
        view = runtime._table.view(program.id)
        assert (view.live_calls, view.calls, view.service_ns) == (0, 1, 2 * 10**9)


async def test_a_result_waits_for_its_report() -> None:
    """An engine may hand over the last token before it has closed its books."""
    engine = FakeEngine(step_s=1.0, reports_late=True)
    async with AutellixRuntime(engines=[engine]) as runtime:
        result = await runtime.generate("hi", max_tokens=2)
    assert result.text == "ab"
    assert result.report.ended_s == pytest.approx(3.0)


async def test_a_timeout_stays_a_timeout() -> None:
    """Cancellation is never converted; the call behind it is gone."""
    engine = SimulatedEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        with pytest.raises(TimeoutError):
            with anyio.fail_after(1.0):
                await program.generate("hi", max_tokens=10_000)
        await anyio.sleep(1.0)
        statistics = runtime.statistics()
        assert statistics.calls.cancelled == 1
        assert statistics.calls.running == 0


async def test_an_engine_that_refuses_after_all_leaves_no_call_behind() -> None:
    """A4: a refused call is no call, whoever refused it."""
    refusal = CallRejected(needed_tokens=3, limit_tokens=2, where="engine 'fake'")
    engine = FakeEngine(refusal=refusal)
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        with pytest.raises(CallRejected) as raised:
            await program.generate("hi")
        assert raised.value is refusal
        assert runtime._table.view(program.id).live_calls == 0
        engine.refusal = None
        await program.generate("hi", max_tokens=1)


async def test_a_balancer_that_chooses_what_there_is_not_is_told_so() -> None:
    """The error names the balancer's choice, and the call is none."""

    class Wrong:
        def choose(self, *_: Any, **__: Any) -> Any:
            return type("Choice", (), {"engine": "mars", "binds": False})()

    async with (
        AutellixRuntime(engines=[FakeEngine()], balancer=Wrong()) as runtime,
        runtime.program("test") as program,
    ):
        with pytest.raises(ValueError, match="'mars' out of 'fake'"):
            await program.generate("hi")
        assert runtime._table.view(program.id).live_calls == 0


def reply_of_none(call: EngineCall) -> list[int]:
    """Answer with a single token, however many were asked for."""
    return [97]


async def test_the_finish_reason_says_why_a_call_ended() -> None:
    """``stop`` where the model ended, ``length`` where ``max_tokens`` did."""
    engine = FakeEngine(reply=reply_of_none)
    async with AutellixRuntime(engines=[engine]) as runtime:
        short = await runtime.generate("hi", max_tokens=5)
        full = await runtime.generate("hi", max_tokens=1)
    assert (short.finish_reason, full.finish_reason) == ("stop", "length")
