"""Many runs of one agent: all of them end, and none takes another down."""

import itertools
from collections.abc import Iterator

import anyio
import pytest

from autellix import AutellixRuntime, MapOutcome, current_program
from autellix.backends.simulated import SimulatedEngine
from tests.fakes import FakeEngine


async def test_outcomes_come_as_runs_end() -> None:
    """Each says which input it is of; each run was a program of the agent's name."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:

        async def agent(tokens: int) -> str:
            return (await runtime.generate("hi", max_tokens=tokens)).text

        with runtime.listen(lambda event: classes.add(event.program_class)):
            classes: set[str | None] = set()
            async with runtime.map(agent, [3, 1, 2]) as outcomes:
                seen = [(each.index, each.input, each.value) async for each in outcomes]
        assert runtime.statistics().programs_ended == 3
    assert seen == [(1, 1, "a"), (2, 2, "ab"), (0, 3, "abc")]
    assert classes == {"agent"}


async def test_a_failure_takes_no_other_run_down() -> None:
    """It comes as an outcome with its error; asking for the value raises it."""

    async def agent(number: int) -> int:
        await anyio.sleep(number)
        if number == 1:
            raise LookupError(number)
        return number

    async with (
        AutellixRuntime(engines=[FakeEngine()]) as runtime,
        runtime.map(agent, range(3), name="picky") as outcomes,
    ):
        seen: list[MapOutcome[int, int]] = [each async for each in outcomes]
    assert [each.index for each in seen] == [0, 1, 2]
    assert isinstance(seen[1].error, LookupError)
    with pytest.raises(LookupError):
        _ = seen[1].value
    assert (seen[0].error, seen[0].value, seen[2].value) == (None, 0, 2)


@pytest.mark.parametrize("limit", [1, 3, None])
async def test_no_more_than_the_limit_run_at_a_time(limit: int | None) -> None:
    """And no fewer either, as long as there are inputs."""
    running, most = 0, 0

    async def agent(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1.0)
        running -= 1

    async with (
        AutellixRuntime(engines=[FakeEngine()]) as runtime,
        runtime.map(agent, range(9), limit=limit) as outcomes,
    ):
        assert len([each async for each in outcomes]) == 9
    assert most == (limit or 9)
    assert anyio.current_time() == pytest.approx(9 / (limit or 9), abs=0.1)


async def test_endless_inputs_are_taken_as_runs_begin() -> None:
    """Inputs nobody waits for are not drawn: outcomes not taken hold runs up."""
    drawn = 0

    def inputs() -> Iterator[int]:
        nonlocal drawn
        for number in itertools.count(1):
            drawn = number
            yield number

    async def agent(number: int) -> int:
        await anyio.sleep(0.1)
        return number

    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        async with runtime.map(agent, inputs(), limit=2) as outcomes:
            assert (await anext(outcomes)).value in {1, 2}
            await anyio.sleep(60.0)
            assert drawn < 10
        assert runtime.statistics().programs_open == 0


async def test_leaving_early_cancels_the_rest_and_leaves_nothing() -> None:
    """No program, no call and no block of KV stays behind."""
    async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:

        async def agent(tokens: int) -> int:
            return len((await runtime.generate("hi", max_tokens=tokens)).token_ids)

        async with runtime.map(agent, [1, 5_000, 5_000], limit=2) as outcomes:
            async for each in outcomes:
                assert each.value == 1
                break
        assert runtime.statistics().programs_open == 0
        await anyio.sleep(1.0)
        statistics = runtime.statistics()
        assert not len(runtime._table)
    assert statistics.calls.cancelled in {1, 2}
    assert statistics.engines["simulated"].counters.device.referenced == 0


async def test_an_error_of_the_block_or_of_the_inputs_comes_out_as_itself() -> None:
    """Not in a group; and the runs are cancelled."""

    async def agent(_: int) -> None:
        await anyio.sleep(60.0)

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError

    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        with pytest.raises(KeyError):
            async with runtime.map(agent, [1, 2]):
                raise KeyError
        with pytest.raises(LookupError):
            async with runtime.map(agent, broken()) as outcomes:
                await anext(outcomes)
        assert runtime.statistics().programs_open == 0


async def test_maps_nest_in_programs() -> None:
    """A run inside a program is a program of its own."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:

        async def agent(_: int) -> str:
            program = current_program()
            assert program is not None
            return program.name

        async with runtime.program("outer") as outer:
            async with runtime.map(agent, range(2), name="inner") as outcomes:
                assert [each.value async for each in outcomes] == ["inner"] * 2
            assert current_program() is outer


def test_a_limit_below_one_is_refused() -> None:
    """Nothing could ever run."""
    runtime = AutellixRuntime(engines=[FakeEngine()])
    with pytest.raises(ValueError, match="limit must be at least 1: 0"):
        runtime.map(anyio.sleep, [1.0], limit=0)
