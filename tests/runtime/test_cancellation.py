"""Cancel at every checkpoint in turn: afterwards nothing is left behind."""

import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeAlias

import anyio
import attrs
import pytest

from autellix import AutellixRuntime, CallFailed, current_program
from autellix.backends.simulated import SMOLLM2_135M_CPU, SimulatedEngine
from autellix.policies import ATLAS
from tests.fakes import FakeEngine

MakeEngine: TypeAlias = Callable[[], SimulatedEngine | FakeEngine]


@attrs.define(eq=False)
class Checkpoints:
    """Counts how often what runs under it waits, and cancels at the n-th time.

    Attributes:
        cancel_at: Which wait is cancelled; None: none.
        passed: Waits so far.
    """

    scope: anyio.CancelScope
    cancel_at: int | None = None
    passed: int = 0

    def watch(self, coroutine: Coroutine[Any, Any, None]) -> Awaitable[None]:
        """Run ``coroutine`` and count where it waits."""
        return _Watched(self, coroutine)

    async def run(
        self, agent: Callable[..., Coroutine[Any, Any, None]], *args: Any
    ) -> None:
        """Run ``agent(*args)`` in a task of its own and count where it waits."""
        await self.watch(agent(*args))

    def pass_one(self) -> None:
        """Count a wait."""
        self.passed += 1
        if self.passed == self.cancel_at:
            self.scope.cancel()


@attrs.frozen
class _Watched:
    checkpoints: Checkpoints
    coroutine: Coroutine[Any, Any, None]

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.coroutine.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waits_for = resume()
            except StopIteration:
                return
            self.checkpoints.pass_one()
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed on
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, value)


async def agents(runtime: AutellixRuntime, checkpoints: Checkpoints) -> None:
    """Do all that can be done with calls, in several tasks and programs at once."""

    async def branch(number: int) -> None:
        await runtime.generate([number] * 40, max_tokens=8)

    async def chat() -> None:
        async with runtime.program("chat") as program:
            messages = [{"role": "user", "content": "hello " * 8}]
            for _ in range(2):
                reply = await program.chat(messages, max_tokens=6)
                messages += [{"role": "assistant", "content": reply.text}]
                messages += [{"role": "user", "content": "and then?"}]

    async def stream() -> None:
        async with (
            runtime.program("outer") as outer,
            runtime.program("inner"),
            runtime.stream("tell me", max_tokens=4) as chunks,
        ):
            assert len([chunk async for chunk in chunks]) == 4
            await outer.generate("tell me", max_tokens=2)

    async def search() -> None:
        async with runtime.program("search"), anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(checkpoints.run, branch, number)

    async def mapped() -> None:
        async with runtime.map(branch, range(3), limit=2) as outcomes:
            assert [outcome.error async for outcome in outcomes] == [None] * 3

    async with anyio.create_task_group() as tasks:
        for agent in (chat, stream, search, mapped):
            tasks.start_soon(checkpoints.run, agent)


Cancelled: TypeAlias = Callable[[MakeEngine, int | None], Awaitable[tuple[int, bool]]]
"""Cancels at one of the waits; returns how many there are, and if it was caught."""


async def cancelled_agents(make: MakeEngine, cancel_at: int | None) -> tuple[int, bool]:
    """Cancel the agents at one of their waits; the runtime goes on."""
    scope = anyio.CancelScope()
    checkpoints = Checkpoints(scope, cancel_at)
    async with AutellixRuntime(engines=[make()], policy=ATLAS()) as runtime:
        with scope:
            await checkpoints.watch(agents(runtime, checkpoints))
        # What was under way ends with the step it is in, and then all is as it was.
        await anyio.sleep(10.0)
        check_at_rest(runtime)
    return checkpoints.passed, scope.cancelled_caught


async def cancelled_runtime(
    make: MakeEngine, cancel_at: int | None
) -> tuple[int, bool]:
    """Cancel a whole runtime, its beginning and its end included."""
    engine = make()
    runtime = AutellixRuntime(engines=[engine], policy=ATLAS())
    scope = anyio.CancelScope()
    checkpoints = Checkpoints(scope, cancel_at)

    async def block() -> None:
        async with runtime:
            await agents(runtime, checkpoints)

    with scope:
        await checkpoints.watch(block())
    assert current_program() is None
    check_ended(runtime)
    if isinstance(engine, FakeEngine):
        assert engine.history in ([], ["entered", "left"])
    elif runtime.cut is not None:
        for tier in (engine.statistics().device, engine.statistics().host):
            assert (tier.referenced, tier.moving) == (0, 0)
    return checkpoints.passed, scope.cancelled_caught


def check_at_rest(runtime: AutellixRuntime) -> None:
    """Check that no program, call, row or block is left in a runtime that goes on."""
    statistics = runtime.statistics()
    calls = statistics.calls
    assert statistics.programs_open == 0
    live = (calls.intake, calls.waiting, calls.running, calls.paused, calls.swapped)
    assert live == (0, 0, 0, 0, 0)
    for engine in statistics.engines.values():
        assert engine.calls == 0
        for tier in (engine.counters.device, engine.counters.host):
            assert (tier.referenced, tier.moving) == (0, 0)
            assert tier.free + tier.cached == tier.total
    check_ended(runtime)
    if runtime._late is not None:
        runtime._late._intake.check_invariants()
        assert not len(runtime._late._intake._fairness)


def check_ended(runtime: AutellixRuntime) -> None:
    """Check that the books are empty."""
    runtime._table.check_invariants()
    assert not len(runtime._table)
    assert not runtime._table._live
    assert not list(runtime._dispatch._ledger)


def small_simulated_engine() -> SimulatedEngine:
    """Return an engine in which calls wait, are preempted and are swapped."""
    return SimulatedEngine(
        costs=SMOLLM2_135M_CPU,
        slots=2,
        token_budget=32,
        kv_tokens=160,
        host_tokens=64,
        block_tokens=8,
    )


ENGINES: dict[str, MakeEngine] = {
    "simulated": small_simulated_engine,
    "fake": partial(FakeEngine, step_s=0.1),
    "limited": partial(FakeEngine, step_s=0.1, intake_limit_calls=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("cancelled", [cancelled_agents, cancelled_runtime])
@pytest.mark.parametrize("engine", ENGINES)
async def test_cancelled_at_any_checkpoint_nothing_is_left(
    engine: str, cancelled: Cancelled
) -> None:
    """K4, A8: no block referenced, no row, no call, no task, no thread."""
    make = ENGINES[engine]
    waits, _ = await cancelled(make, None)
    assert waits >= 15
    threads = threading.active_count()
    hits = 0
    for cancel_at in range(1, waits + 1):
        hits += (await cancelled(make, cancel_at))[1]
    assert hits >= waits - 3  # waits at the very end may be past cancelling
    assert threading.active_count() == threads
    gc.collect()  # an unclosed coroutine would be a warning, and so an error


@pytest.mark.parametrize("engine", ENGINES)
async def test_cancelled_while_an_engine_breaks_nothing_is_left(engine: str) -> None:
    """Losing the engine and being cancelled in the same instant end each call once."""
    for breaks_at_s in (0.0, 0.05, 0.1, 0.15, 0.2):
        first, other = ENGINES[engine](), FakeEngine(name="other")
        other.model = first.model
        runtime = AutellixRuntime(engines=[first, other])
        async with runtime:
            try:
                with anyio.move_on_after(breaks_at_s + 0.1) as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(agents, runtime, Checkpoints(scope))
                        await anyio.sleep(breaks_at_s)
                        first.crash(OSError("gone"))
            except* CallFailed:
                pass  # of a call that had delivered; the others were sent again
            await anyio.sleep(10.0)
            check_at_rest(runtime)
