"""The loop of an engine with an executor: what goes in, out, and wrong."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import attrs
import pytest

from autellix.backends.protocol import Chunk, EngineCall, Sampling, TokenLogprob
from autellix.backends.simulated.tokenizer import ByteTokenizer
from autellix.backends.step_loop import Executed, StepLoop, TokenSample
from autellix.backends.stream import CallStream, FinishReason
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended, Fact
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.plan import Plan
from autellix.core.records import CallReport, CallSpec, Job, Outcome
from autellix.core.step_scheduler import StepScheduler
from autellix.errors import CallFailed, EngineLost, InvariantError
from autellix.policies import FCFS

END = 257

pytestmark = pytest.mark.both_loops


@attrs.define(eq=False)
class Executor:
    """Says given bytes, one a step; waits before each step for its gate, if it has one.

    Attributes:
        says: What each call answers, by id, then for ever a full stop.
        fails_at: Step that fails.
    """

    says: Mapping[int, Sequence[int]] = attrs.field(factory=dict)
    fails_at: int | None = None
    gate: anyio.Event | None = None
    steps: int = 0
    is_in_step: bool = False

    async def execute(self, plan: Plan, calls: Mapping[int, EngineCall]) -> Executed:
        assert {call.call_id for call, _ in plan.calls} <= calls.keys()
        self.steps += 1
        self.is_in_step = True
        if self.gate is not None:
            await self.gate.wait()
        await anyio.lowlevel.checkpoint()
        self.is_in_step = False
        if self.steps == self.fails_at:
            raise OSError("no such device")
        samples = {}
        for call, tokens in plan.calls:
            if call.computed + tokens == len(call.tokens):
                said = [*self.says.get(call.call_id, ()), *b"." * 99]
                token = said[call.produced]
                entry = TokenLogprob(token=token, logprob=-0.5, top={})
                wants = calls[call.call_id].sampling.logprobs is not None
                samples[call.call_id] = TokenSample(
                    token=token, logprob=entry if wants else None
                )
        now_ns = round(anyio.current_time() * 1e9)
        ended_ns = max(plan.at_ns, now_ns)
        return Executed(forward_at_ns=plan.at_ns, ended_ns=ended_ns, samples=samples)


def make_loop(executor: Executor) -> StepLoop:
    """Return a loop with room for two calls."""
    return StepLoop(
        name="bench",
        max_call_tokens=64,
        limits=StepLimits(slots=2, token_budget=16),
        blocks=KVBlocks(
            device_blocks=16, host_blocks=0, block_tokens=4, shares_blocks=True
        ),
        costs=CostModel(step_ns=1_000, prefill_ns=10, decode_ns=10),
        tokenizer=ByteTokenizer(),
        executor=executor,
    )


def call(call_id: int, *, is_streamed: bool = True, **options: object) -> EngineCall:
    """Return a call of three prompt tokens that may produce five."""
    return EngineCall(
        spec=CallSpec(
            call_id=call_id,
            program_id=call_id,
            job=Job(program_class="any", program_arrival=call_id),
            inherited_ns=0,
            prompt=[1, 2, 3],
            max_tokens=5,
        ),
        sampling=Sampling(**options),  # type: ignore[arg-type]
        is_streamed=is_streamed,
    )


async def read(stream: CallStream) -> list[Chunk]:
    """Return all chunks of a stream."""
    async with stream:
        return [chunk async for chunk in stream]


@asynccontextmanager
async def serving(
    loop: StepLoop, listener: Callable[[Fact], None] | None = None
) -> AsyncIterator[list[CallReport]]:
    """Let ``loop`` serve; yield the reports of calls whose ``ended`` appends to it."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(loop.serve, FCFS(), listener)
        yield []
        tasks.cancel_scope.cancel()


async def test_the_end_token_ends_a_call_and_is_not_in_it() -> None:
    """It is counted as produced, but is neither text nor token of the answer."""
    loop = make_loop(Executor(says={1: [*b"Hi", END]}))
    async with serving(loop) as reports:
        stream = loop.submit(call(1), reports.append)
        chunks = await read(stream)
    assert [(chunk.token_ids, chunk.text) for chunk in chunks] == [
        ([ord("H")], "H"),
        ([ord("i")], "i"),
    ]
    assert stream.finish_reason is FinishReason.STOP
    assert reports[0].output_tokens == 3
    assert reports[0].outcome is Outcome.FINISHED


async def test_the_end_token_can_be_ignored() -> None:
    """Then the call goes on to ``max_tokens``, and the token is one of its own."""
    loop = make_loop(Executor(says={1: [*b"Hi", END]}))
    async with serving(loop) as reports:
        stream = loop.submit(call(1, ignore_end=True), reports.append)
        chunks = await read(stream)
    assert [token for chunk in chunks for token in chunk.token_ids] == [
        *b"Hi",
        END,
        *b"..",
    ]
    assert stream.finish_reason is FinishReason.LENGTH


async def test_text_held_back_comes_with_the_end() -> None:
    """What might have begun a stop string, or a character, is not lost."""
    says = {1: [*b"a", *"é".encode()[:1], END], 2: [*b"aEN", END]}
    loop = make_loop(Executor(says=says))
    async with serving(loop) as reports:
        first = await read(loop.submit(call(1, stop=["END"]), reports.append))
        second = await read(loop.submit(call(2, stop=["END"]), reports.append))
    assert "".join(chunk.text for chunk in first) == "a\ufffd"
    assert "".join(chunk.text for chunk in second) == "aEN"
    assert not second[-1].token_ids


async def test_a_whole_answer_is_one_chunk() -> None:
    """Who does not look at tokens as they come gets them together."""
    loop = make_loop(Executor(says={1: b"Hello"}))
    async with serving(loop) as reports:
        asked = call(1, is_streamed=False, logprobs=0)
        (chunk,) = await read(loop.submit(asked, reports.append))
    assert chunk.text == "Hello"
    assert [entry.token for entry in chunk.logprobs] == [*b"Hello"]


async def test_a_failed_step_is_the_end_of_all_calls() -> None:
    """All are reported and told, with the cause; what came before stays readable."""
    loop = make_loop(Executor(fails_at=3))
    reports: list[CallReport] = []
    streams = []

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with pytest.raises(EngineLost, match="no such device") as lost:
            await loop.serve(FCFS(), task_status=task_status)
        assert isinstance(lost.value.__cause__, OSError)

    async with anyio.create_task_group() as tasks:
        await tasks.start(serve)
        streams = [loop.submit(call(n), reports.append) for n in (1, 2, 3)]
    for number, stream in enumerate(streams):
        if number < 2:  # the third waited for a slot
            assert (await anext(stream)).token_ids
            assert (await anext(stream)).token_ids
        with pytest.raises(CallFailed) as failed:
            await anext(stream)
        assert isinstance(failed.value.__cause__, OSError)
        assert failed.value.engine == "bench"
    assert [report.outcome for report in reports] == [Outcome.FAILED] * 3
    with pytest.raises(EngineLost, match="is down") as refused:
        loop.submit(call(4), reports.append)
    assert isinstance(refused.value.__cause__, OSError)
    assert loop.statistics().device.referenced == 0


async def test_a_step_under_way_is_completed_before_the_end() -> None:
    """Cancelled, the loop commits the step it is in, then reports every call."""
    executor = Executor(gate=anyio.Event())
    loop = make_loop(executor)
    reports: list[CallReport] = []
    async with anyio.create_task_group() as tasks:
        await tasks.start(loop.serve, FCFS())
        stream = loop.submit(call(1), reports.append)
        while not executor.is_in_step:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            assert executor.is_in_step
            assert reports == []
            assert executor.gate is not None
            executor.gate.set()
    assert not executor.is_in_step
    assert [report.outcome for report in reports] == [Outcome.CANCELLED]
    assert reports[0].output_tokens == 1
    with pytest.raises(CallFailed):
        [chunk async for chunk in stream if not chunk.token_ids]


async def test_a_call_left_in_a_step_ends_with_that_step() -> None:
    """Its consumer is free at once; the report comes when the step has committed."""
    executor = Executor(gate=anyio.Event())
    loop = make_loop(executor)
    async with serving(loop) as reports:
        async with loop.submit(call(1), reports.append):
            while not executor.is_in_step:
                await anyio.lowlevel.checkpoint()
        assert reports == []
        assert executor.gate is not None
        executor.gate.set()
        while not reports:
            await anyio.lowlevel.checkpoint()
        assert reports[0].outcome is Outcome.CANCELLED
        assert loop.statistics().device.referenced == 0


async def test_who_gets_a_report_may_submit_the_next_call() -> None:
    """``ended`` and the listener may call back into the engine; facts stay in order."""
    facts: list[Fact] = []
    loop = make_loop(Executor())
    async with serving(loop, facts.append) as reports:
        streams = []

        def ended(report: CallReport) -> None:
            reports.append(report)
            if report.call_id < 3:
                streams.append(loop.submit(call(report.call_id + 1), ended))

        streams.append(loop.submit(call(1), ended))
        for turn in range(3):
            assert len(await read(streams[turn])) == 5
    ends = [fact.call_id for fact in facts if isinstance(fact, Ended)]
    assert ends == [1, 2, 3] == [report.call_id for report in reports]
    instants = [fact.at_ns for fact in facts]
    assert instants == sorted(instants)


async def test_aborting_from_a_report_keeps_the_order_of_facts() -> None:
    """A call that is left while facts are handed on ends after them."""
    facts: list[Fact] = []
    loop = make_loop(Executor())
    async with serving(loop, facts.append) as reports:
        streams: dict[int, CallStream] = {}

        def ended(report: CallReport) -> None:
            reports.append(report)
            streams[3]._abort()

        streams = {n: loop.submit(call(n), ended) for n in (1, 2, 3)}
        await read(streams[1])
    ends = [fact.call_id for fact in facts if isinstance(fact, Ended)]
    assert ends == [1, 2, 3], "1 and 2 end in one step, 3 waits for a slot"
    assert [report.outcome for report in reports] == [
        Outcome.FINISHED,
        Outcome.FINISHED,
        Outcome.CANCELLED,
    ]


async def test_instants_never_go_back() -> None:
    """An executor that says a step ended later than the clock is not undercut."""

    class Ahead(Executor):
        async def execute(
            self, plan: Plan, calls: Mapping[int, EngineCall]
        ) -> Executed:
            done = await super().execute(plan, calls)
            return attrs.evolve(done, ended_ns=plan.at_ns + 10**12)

    facts: list[Fact] = []
    loop = make_loop(Ahead())
    async with serving(loop, facts.append) as reports:
        for call_id in (1, 2):
            await read(loop.submit(call(call_id), reports.append))
    instants = [fact.at_ns for fact in facts]
    assert instants == sorted(instants)
    assert reports[0].service_ns == 5 * 10**12
    assert reports[1].submitted_ns >= reports[0].ended_ns


async def test_consumers_are_told_even_if_the_books_are_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a bug of ours keeps calls from being ended, nobody waits for ever."""

    def broken(scheduler: StepScheduler, outcome: Outcome, now_ns: int) -> None:
        raise InvariantError("books")

    monkeypatch.setattr(StepScheduler, "end_all", broken)
    loop = make_loop(Executor(fails_at=1))

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with pytest.raises(InvariantError):
            await loop.serve(FCFS(), task_status=task_status)

    async with anyio.create_task_group() as tasks:
        await tasks.start(serve)
        with pytest.raises(CallFailed):
            await read(loop.submit(call(1), print))


async def test_before_serving_nothing_is_taken() -> None:
    """Calls and questions need a loop that serves."""
    loop = make_loop(Executor())
    with pytest.raises(EngineLost, match="'bench' does not serve yet"):
        loop.submit(call(1), print)
    with pytest.raises(EngineLost, match="does not serve yet"):
        loop.statistics()
    loop.close()


async def test_a_loop_serves_once() -> None:
    """A second time is refused by name, and does not touch what is served."""
    loop = make_loop(Executor())
    async with serving(loop) as reports:
        with pytest.raises(RuntimeError, match="engine 'bench' serves already"):
            await loop.serve(FCFS())
        await read(loop.submit(call(1), reports.append))
    assert [report.outcome for report in reports] == [Outcome.FINISHED]


async def test_an_idle_loop_takes_no_step() -> None:
    """Without calls it waits; it wakes with the next one."""
    executor = Executor()
    loop = make_loop(executor)
    async with serving(loop) as reports:
        await read(loop.submit(call(1), reports.append))
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        steps = executor.steps
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert executor.steps == steps
        await read(loop.submit(call(2), reports.append))
        assert executor.steps > steps
