"""A run that was recorded can be run again: same graph, lengths, times, sharing."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings

from autellix import AutellixRuntime, Program
from autellix.backends.simulated import SimulatedEngine
from autellix.testing import run_virtual
from autellix.workloads.arrivals import At
from autellix.workloads.generators import react, search
from autellix.workloads.prefix_sharing import SharedTokens, Start, alike
from autellix.workloads.prompts import Prompts, Words
from autellix.workloads.recorder import Recorder
from autellix.workloads.replay import Replay
from autellix.workloads.trace import Trace, TraceProgram
from autellix.workloads.trace_file import read_trace, write_trace
from tests.fakes import FakeEngine
from tests.workloads.programs import programs

Agent = Callable[[Program], Awaitable[None]]


def _runtime() -> AutellixRuntime:
    engine = SimulatedEngine(kv_tokens=100_000, host_tokens=0, slots=16)
    return AutellixRuntime(engines=[engine])


def _record(*agents: Agent, apart_s: float = 0.0) -> Trace:
    """Run agents, each a program, and return what was recorded."""
    recorder = Recorder()

    async def run(runtime: AutellixRuntime, agent: Agent) -> None:
        async with runtime.program("agent") as program:
            await agent(program)

    async def main() -> None:
        async with _runtime() as runtime, anyio.create_task_group() as group:
            with runtime.listen(recorder):
                for agent in agents:
                    group.start_soon(run, runtime, agent)
                    await anyio.sleep(apart_s)
                await anyio.sleep(1_000.0)

    run_virtual(main)
    return recorder.trace()


def _parents(agent: Agent) -> list[tuple[int, ...]]:
    (program,) = _record(agent).programs
    return [call.parents for call in program.calls]


def _ids(name: str, tokens: int) -> list[int]:
    return Words().of_call(name, 0, tokens)


# -- lengths, times, sharing -----------------------------------------------------------


async def _chain(program: Program) -> None:
    await anyio.sleep(2.0)
    first = await program.generate(_ids("a", 100), max_tokens=20)
    await anyio.sleep(5.0)
    said = [*_ids("a", 100), *first.token_ids]
    await program.generate([*said, *_ids("b", 30)], max_tokens=7)


def test_lengths_and_gaps_are_recorded() -> None:
    """What an agent does between its calls is the time before the next."""
    (program,) = _record(_chain).programs
    first, second = program.calls
    assert (first.prompt_tokens, first.output_tokens) == (100, 20)
    assert (second.prompt_tokens, second.output_tokens) == (150, 7)
    assert first.tool_seconds_before == pytest.approx(2.0)
    assert second.tool_seconds_before == pytest.approx(5.0)
    assert (first.gap, second.gap) == (None, "tool")
    assert second.parents == (0,)
    assert first.latency_s is not None
    assert first.latency_s > 0.0


def test_a_prompt_that_continues_a_call_shares_its_output() -> None:
    """To the token, whatever the blocks of the engine."""
    (program,) = _record(_chain).programs
    second = program.calls[1]
    assert (second.prefix_call, second.shared_tokens) == (0, 120)


def test_an_answer_counts_from_when_its_consumer_has_it() -> None:
    """Also where another branch makes a call before that."""

    async def agent(program: Program) -> None:
        async with program.stream(_ids("a", 40), max_tokens=9) as chunks:
            first = await anext(chunks)
            await anyio.sleep(60.0)
            await program.generate("meanwhile", max_tokens=2)
            said = [*first.token_ids]
            async for chunk in chunks:
                said += chunk.token_ids
        await program.generate([*_ids("a", 40), *said, 7], max_tokens=2)

    (program,) = _record(agent).programs
    assert program.calls[2].shared_tokens == 49


def test_programs_count_their_arrival_from_the_first() -> None:
    """Whenever the recording began."""
    trace = _record(_chain, _chain, apart_s=3.0)
    assert [program.arrival_s for program in trace.programs] == [0.0, 3.0]
    assert trace.program_class == "agent"


def test_prompts_of_programs_that_begin_alike_are_a_group() -> None:
    """It has as many tokens as all of them share, if they are worth it."""

    async def other(program: Program) -> None:
        await program.generate([*_ids("a", 40), *_ids("c", 9)], max_tokens=2)
        await program.generate([*_ids("a", 12), *_ids("d", 99)], max_tokens=2)

    first, second = _record(_chain, other).programs
    groups = [first.group_of(call) for call in first.calls]
    assert groups == [("start-0", 40), ("start-0", 40)]
    assert second.group_of(second.calls[0]) == ("start-0", 40)
    assert second.group_of(second.calls[1]) is None


def test_calls_that_did_not_end_well_are_left_out_and_counted() -> None:
    """What comes after one follows what that one followed."""

    async def impatient(program: Program) -> None:
        await program.generate("first", max_tokens=5)
        with anyio.move_on_after(0.1):
            await program.generate("cancelled", max_tokens=5_000)
        await program.generate("last", max_tokens=5)

    (program,) = _record(impatient).programs
    assert [call.parents for call in program.calls] == [(), (0,)]
    assert program.meta["calls_left_out"] == 1


def test_programs_that_are_not_over_are_left_out() -> None:
    """A recording can be looked at while the runtime goes on."""
    recorder = Recorder()

    async def main() -> None:
        async with _runtime() as runtime, runtime.program("early") as early:
            with runtime.listen(recorder):
                await early.generate("unseen", max_tokens=2)
                async with runtime.program("seen") as program:
                    await program.generate("seen", max_tokens=2)
                    assert not recorder.trace().programs
                await early.generate("unseen", max_tokens=2)

    run_virtual(main)
    (program,) = recorder.trace().programs
    assert program.program_class == "seen"


def test_a_call_that_is_streamed_is_followed_once_it_has_ended() -> None:
    """What is sent in the middle of it follows what it followed itself."""

    async def agent(program: Program) -> None:
        await program.generate("first", max_tokens=2)
        async with program.stream("long", max_tokens=50) as chunks:
            await anext(chunks)
            await program.generate("meanwhile", max_tokens=2)
            async for _ in chunks:
                pass
        await program.generate("last", max_tokens=2)

    assert _parents(agent) == [(), (0,), (0,), (1, 2)]


def test_a_call_that_was_sent_again_is_one_call() -> None:
    """What its lost engine did is no call; what is recorded is the answer."""
    first, second = FakeEngine(name="first", step_s=1.0), FakeEngine(name="second")
    recorder = Recorder()

    async def main() -> None:
        async with AutellixRuntime(engines=[first, second]) as runtime:
            with runtime.listen(recorder):
                async with runtime.program("agent") as program:
                    first.crash(OSError("gone"))
                    await program.generate("hi", max_tokens=2)
                    await program.generate("again", max_tokens=3)

    run_virtual(main)
    (program,) = recorder.trace().programs
    assert [call.output_tokens for call in program.calls] == [2, 3]
    assert [call.parents for call in program.calls] == [(), (0,)]
    assert program.meta["calls_left_out"] == 0


# -- who follows whom ------------------------------------------------------------------


def test_a_join_follows_all_branches_and_they_the_plan() -> None:
    """A task that goes on after others follows what they ended with."""

    async def branch(program: Program, steps: int) -> None:
        for _ in range(steps):
            await program.generate("step", max_tokens=3)

    async def agent(program: Program) -> None:
        await program.generate("plan", max_tokens=3)
        async with anyio.create_task_group() as group:
            for steps in (1, 2):
                group.start_soon(branch, program, steps)
        await program.generate("join", max_tokens=3)

    assert _parents(agent) == [(), (0,), (0,), (2,), (1, 3)]


def test_branches_do_not_follow_each_other() -> None:
    """However their calls interleave, each goes on from its own."""

    async def branch(program: Program, tokens: int) -> None:
        for _ in range(2):
            await program.generate("step", max_tokens=tokens)

    async def agent(program: Program) -> None:
        async with anyio.create_task_group() as group:
            for tokens in (2, 9):
                group.start_soon(branch, program, tokens)

    (program,) = _record(agent).programs
    assert [call.parents for call in program.calls] == [(), (), (0,), (1,)]
    assert [call.thread for call in program.calls] == ["0", "1", "0", "1"]


def test_a_task_that_did_not_wait_for_another_does_not_follow_it() -> None:
    """What it started before its last call goes on beside it."""

    async def beside(program: Program) -> None:
        for _ in range(2):
            await program.generate("beside", max_tokens=2)

    async def agent(program: Program) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(beside, program)
            await anyio.sleep(0.001)
            await program.generate("long", max_tokens=40)
            await program.generate("on", max_tokens=2)

    assert _parents(agent) == [(), (), (0,), (1,)]


def test_calls_in_tasks_of_their_own_one_after_the_other_are_a_chain() -> None:
    """As a time-out may make them; only the nearest is a parent."""

    async def agent(program: Program) -> None:
        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(program.generate, "step", max_tokens=2))

    assert _parents(agent) == [(), (0,), (1,)]


def test_what_a_call_says_it_follows_counts() -> None:
    """``after`` goes before what the tasks say; empty is a call that follows none."""

    async def agent(program: Program) -> None:
        one = await program.generate("one", max_tokens=2)
        await program.generate("two", max_tokens=2, after=[])
        await program.generate("three", max_tokens=2, after=[one])

    assert _parents(agent) == [(), (), (0,)]


def test_a_program_in_a_program_is_recorded_apart() -> None:
    """Each has its own calls, and the outer one goes on where it was."""
    recorder = Recorder()

    async def main() -> None:
        async with _runtime() as runtime:
            with runtime.listen(recorder):
                async with runtime.program("outer") as outer:
                    await outer.generate("a", max_tokens=2)
                    async with runtime.program("inner") as inner:
                        await inner.generate("b", max_tokens=2)
                        await outer.generate("c", max_tokens=2)
                        await inner.generate("d", max_tokens=2)
                    await outer.generate("e", max_tokens=2)

    run_virtual(main)
    outer, inner = recorder.trace().programs
    assert [call.parents for call in outer.calls] == [(), (0,), (1,)]
    assert [call.parents for call in inner.calls] == [(), (0,)]


# -- the whole ------------------------------------------------------------------------


def _replayed(traced: list[TraceProgram]) -> Trace:
    recorder = Recorder()

    async def main() -> None:
        async with _runtime() as runtime:
            with runtime.listen(recorder):
                arrivals = At(given_s=[float(n) for n in range(len(traced))])
                replay = Replay(tells_parents=True)
                await replay.run_all(runtime, traced, arrivals)

    run_virtual(main)
    return recorder.trace()


def _by_lengths(program: TraceProgram) -> list[tuple[object, ...]]:
    """Return the calls in an order of their own, parents by their lengths."""

    def about(call_id: int) -> tuple[int, int]:
        call = program.calls[call_id]
        return call.prompt_tokens, call.output_tokens

    return sorted(
        (about(n), sorted(about(parent) for parent in call.parents))
        for n, call in enumerate(program.calls)
    )


@given(program=programs())
@settings(max_examples=30, deadline=None)
def test_a_replay_that_is_recorded_is_the_trace(program: TraceProgram) -> None:
    """Same lengths and same graph, and no time but what the trace says."""
    (recorded,) = _replayed([program]).programs
    assert _by_lengths(recorded) == _by_lengths(program)
    for call in recorded.calls:
        assert call.tool_seconds_before is not None
    waits_s = sorted(call.tool_seconds_before or 0.0 for call in recorded.calls)
    given_s = sorted(call.tool_seconds_before or 0.0 for call in program.calls)
    assert waits_s == pytest.approx(given_s, abs=1e-6)


@pytest.mark.slow
def test_a_recording_shares_what_the_trace_shares(tmp_path: Path) -> None:
    """At least as much, since token ids tell what a trace may not; and it is valid."""
    traced = [*react(4).programs, *search(2).programs]
    trace = _replayed(traced)
    write_trace(tmp_path / "t.gz", trace)
    assert read_trace(tmp_path / "t.gz") == trace
    for before, after in zip(traced, trace.programs, strict=True):
        assert len(after.calls) == len(before.calls)
        new = sum(call.new_prompt_tokens for call in after.calls)
        told = sum(call.new_prompt_tokens for call in before.calls)
        assert new <= told
        assert new > 0.7 * told


@given(program=programs())
@settings(max_examples=40)
def test_what_is_found_to_be_shared_is_shared(program: TraceProgram) -> None:
    """The longest start that any earlier call has, and a call that has it."""
    prompts = Prompts(program, Words(vocabulary=range(5, 5_000)))
    tree, seen = SharedTokens(), list[tuple[int, ...]]()
    for call_id, call in enumerate(program.calls):
        prompt = prompts.prompt(call_id)
        start = tree.add(call_id, prompt) or Start(-1, 0)
        assert start.tokens == max((alike(prompt, s) for s in seen), default=0)
        if start.tokens:
            assert alike(prompt, seen[start.call]) == start.tokens
        first = 10_000 + 100 * call_id
        output = list(range(first, first + call.output_tokens))
        prompts.learn(call_id, output)
        seen.append((*prompt, *output))
        tree.extend(call_id, output)
