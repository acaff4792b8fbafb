"""What a runtime tells listeners, and that it is the same twice."""

import json
import random

import anyio
import pytest

from autellix import AutellixRuntime, Event
from autellix.backends.simulated import SMOLLM2_135M_CPU, SimulatedEngine
from autellix.policies import PLAS, Ladder
from autellix.runtime import EventKind
from autellix.testing import run_virtual
from tests.fakes import FakeEngine


async def test_a_call_is_told_from_its_submission_to_its_end() -> None:
    """In order, with program, class, call and engine."""
    told: list[Event] = []
    async with AutellixRuntime(engines=[SimulatedEngine(name="e")]) as runtime:
        with runtime.listen(told.append):
            async with runtime.program("chat") as program:
                await program.generate("hi", max_tokens=3)
            await anyio.sleep(1.0)
        await runtime.generate("nobody listens", max_tokens=1)
    assert [event.kind for event in told] == [
        EventKind.PROGRAM_OPENED,
        EventKind.SUBMITTED,
        EventKind.BOUND,
        EventKind.SCHEDULED,
        EventKind.FIRST_TOKEN,
        EventKind.ENDED,
        EventKind.PROGRAM_CLOSED,
    ]
    assert {(event.program, event.program_class) for event in told} == {(0, "chat")}
    assert [event.call for event in told] == [None, 0, 0, 0, 0, 0, None]
    assert [event.engine for event in told[2:6]] == ["e"] * 4
    assert [event.at_s for event in told] == sorted(event.at_s for event in told)
    end = told[5].details
    assert (end["outcome"], end["output_tokens"]) == ("finished", 3)


async def test_a_stream_of_events_is_read_at_leisure_and_ends_with_the_runtime() -> (
    None
):
    """The reader loses nothing, and its loop ends."""
    kinds: list[str] = []
    ready = anyio.Event()

    async def exporter(runtime: AutellixRuntime) -> None:
        async with runtime.events() as stream:
            ready.set()
            async for event in stream:
                kinds.append(event.kind.value)
                await anyio.sleep(0.5)
            assert stream.dropped == 0

    async with anyio.create_task_group() as tasks:
        runtime = AutellixRuntime(engines=[FakeEngine()])
        async with runtime:
            tasks.start_soon(exporter, runtime)
            await ready.wait()
            await runtime.run(anyio.sleep, 0.0, name="short")
            await runtime.run(anyio.sleep, 0.0, name="short")
    assert kinds == ["program_opened", "program_closed"] * 2
    assert not runtime._events.listeners


async def test_a_reader_who_does_not_come_loses_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory of a stream is bounded, and what was lost is counted."""
    monkeypatch.setattr("autellix.runtime.events.MOST_UNREAD", 3)
    async with (
        AutellixRuntime(engines=[FakeEngine()]) as runtime,
        runtime.events() as stream,
    ):
        for number in range(3):
            await runtime.run(anyio.sleep, 0.0, name=str(number))
        assert (await anext(stream)).program_class == "1"
        assert stream.dropped == 3


async def test_a_listener_that_fails_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged and not called again; the others hear on."""
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise LookupError(event.kind)

    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        with runtime.listen(broken), runtime.listen(heard.append):
            await runtime.generate("hi", max_tokens=2)
    assert caplog.text.count("was removed") == 1
    assert "LookupError" in caplog.text
    assert heard[-1].kind is EventKind.PROGRAM_CLOSED


async def busy(seed: int) -> list[str]:
    """Run agents that think, chat and fan out on two small engines; return the log."""
    engines = [
        SimulatedEngine(
            name=name,
            costs=SMOLLM2_135M_CPU,
            slots=3,
            token_budget=32,
            kv_tokens=256,
            host_tokens=128,
            block_tokens=8,
        )
        for name in ("a", "b")
    ]
    policy = PLAS(ladder=Ladder.geometric(0.2, 2.0, 4), beta=3.0)
    log: list[str] = []
    async with AutellixRuntime(engines=engines, policy=policy) as runtime:

        async def agent(number: int) -> None:
            chance = random.Random(seed * 1_000 + number)
            await anyio.sleep(chance.random())
            for _ in range(chance.randrange(1, 5)):
                tokens = [chance.randrange(256) for _ in range(chance.randrange(8, 60))]
                await runtime.generate(tokens, max_tokens=chance.randrange(1, 40))

        with runtime.listen(lambda event: log.append(event.to_json())):
            async with runtime.map(agent, range(24)) as outcomes:
                assert [each.error async for each in outcomes] == [None] * 24
    return log


@pytest.mark.slow
def test_the_same_run_gives_the_same_log_byte_for_byte() -> None:
    """Under virtual time, same seed, same log; another seed, another."""
    first, second = run_virtual(busy, 1), run_virtual(busy, 1)
    assert "\n".join(first) == "\n".join(second)
    assert first != run_virtual(busy, 2)
    kinds = {json.loads(line)["kind"] for line in first}
    assert kinds >= {"preempted", "resumed", "demoted", "promoted", "first_token"}
    assert all(line.isascii() and "\n" not in line for line in first)


async def test_a_submission_tells_its_prompt_and_what_it_follows() -> None:
    """Token ids go to listeners alone: neither into the JSON nor into a stream."""
    told: list[Event] = []
    async with (
        AutellixRuntime(engines=[FakeEngine()]) as runtime,
        runtime.events() as stream,
    ):
        with runtime.listen(told.append):
            async with runtime.program("chat") as program:
                first = await program.generate([5, 6, 7], max_tokens=2)
                await program.generate([8], max_tokens=1, after=[first])
        opened, streamed = [await anext(stream) for _ in range(2)]
    one, two = (event for event in told if event.kind is EventKind.SUBMITTED)
    assert one.details == {"prompt_tokens": 3}
    assert two.details == {"prompt_tokens": 1, "after": f"{first.call_id}"}
    assert tuple(one.tokens) == (5, 6, 7)
    end = next(event for event in told if event.kind is EventKind.ENDED)
    assert tuple(end.tokens) == tuple(first.token_ids)
    assert '"tokens"' not in one.to_json()
    assert opened.kind is EventKind.PROGRAM_OPENED
    assert (streamed.kind, streamed.tokens) == (EventKind.SUBMITTED, ())
