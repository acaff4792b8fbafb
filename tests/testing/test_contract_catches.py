"""The contract suite fails where an engine breaks a promise."""

from collections.abc import Callable
from typing import Self

import anyio
import attrs
import pytest
from anyio.abc import TaskStatus

from autellix.backends.protocol import Capabilities, Chunk, Engine, EngineCall, Sampling
from autellix.backends.simulated import SimulatedEngine
from autellix.backends.stream import CallStream
from autellix.core.facts import Fact
from autellix.core.ranking import Policy
from autellix.core.records import CallReport
from autellix.errors import EngineLost
from autellix.testing import run_virtual
from autellix.testing.contract import EngineContract

Ended = Callable[[CallReport], None]


class ReportsTwice(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        def twice(report: CallReport) -> None:
            ended(report)
            ended(report)

        return super().submit(call, twice)


class ForgetsToReport(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        del ended
        return super().submit(call, lambda report: None)


class LosesTime(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        def late(report: CallReport) -> None:
            ended(attrs.evolve(report, ended_ns=report.ended_ns + 1))

        return super().submit(call, late)


class LosesChunks(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        stream = super().submit(call, ended)
        push = stream.push

        def push_but_the_first(chunk: Chunk) -> None:
            stream.push = push  # type: ignore[method-assign]

        stream.push = push_but_the_first  # type: ignore[method-assign]
        return stream


class IgnoresLeaving(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        stream = super().submit(call, ended)
        stream._abort = lambda: None
        return stream


class IgnoresStop(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        sampling = attrs.evolve(call.sampling, stop=())
        return super().submit(attrs.evolve(call, sampling=sampling), ended)


class IgnoresSeed(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        sampling = Sampling(ignore_end=True, temperature=1.0, seed=call.spec.call_id)
        return super().submit(attrs.evolve(call, sampling=sampling), ended)


class EndsInSubmit(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        stream = super().submit(call, ended)
        stream._abort()
        return stream


class EntersTwice(SimulatedEngine):
    async def __aenter__(self) -> Self:
        self._state.is_entered = False
        return await super().__aenter__()


class WaitsBeforeItRaises(SimulatedEngine):
    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            await super().serve(policy, listener, task_status=task_status)
        except EngineLost:
            await anyio.sleep(1.0)
            raise


class TakesAnything(SimulatedEngine):
    def submit(self, call: EngineCall, ended: Ended) -> CallStream:
        spec = attrs.evolve(call.spec, max_tokens=min(call.spec.max_tokens, 100))
        return super().submit(attrs.evolve(call, spec=spec), ended)


class HasAVocabulary(SimulatedEngine):
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities(), vocabulary_tokens=300)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._loop.vocabulary_tokens = 300
        return self


class ForgetsItsVocabulary(HasAVocabulary):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._loop.vocabulary_tokens = None
        return self


class PromisesTooMuch(SimulatedEngine):
    def capabilities(self) -> Capabilities:
        can = super().capabilities()
        return attrs.evolve(
            can,
            logprobs=True,
            caches_prefixes=not can.caches_prefixes,
            max_batch_calls=can.max_batch_calls - 1,
        )


@pytest.mark.parametrize(
    ("engine", "test"),
    [
        (ReportsTwice, "test_reports_add_up"),
        (ForgetsToReport, "test_facts_are_in_order_and_end_with_the_report"),
        (LosesTime, "test_reports_add_up"),
        (LosesChunks, "test_chunks_come_in_order_and_end_once"),
        (IgnoresLeaving, "test_cancellation_before_the_first_token"),
        (IgnoresLeaving, "test_cancellation_in_mid_stream"),
        (IgnoresLeaving, "test_cancellation_at_any_moment"),
        (IgnoresStop, "test_a_stop_string_ends_text_and_call"),
        (IgnoresSeed, "test_seeds_make_sampling_reproducible"),
        (PromisesTooMuch, "test_it_reports_logprobs_if_it_says_so"),
        (PromisesTooMuch, "test_it_finds_prefixes_if_it_says_so"),
        (PromisesTooMuch, "test_it_never_runs_more_than_its_slots"),
        (EndsInSubmit, "test_cancellation_before_the_first_token"),
        (EntersTwice, "test_it_is_entered_once_at_a_time"),
        (WaitsBeforeItRaises, "test_a_failing_engine_fails_its_calls"),
        (TakesAnything, "test_a_call_that_never_fits_is_refused"),
        (
            ForgetsItsVocabulary,
            "test_an_unknown_token_is_refused_to_its_call_alone",
        ),
    ],
)
def test_a_fault_is_caught(engine: type[SimulatedEngine], test: str) -> None:
    """Each fault makes the test of its promise fail; a sound engine passes it."""

    class Contract(EngineContract):
        maker: type[SimulatedEngine] = HasAVocabulary

        def make_engine(self) -> Engine:
            return self.maker(slots=4, kv_tokens=1024)

        def kill(self, engine: Engine) -> None:
            assert isinstance(engine, SimulatedEngine)
            engine.crash(OSError("the machine is on fire"))

    contract = Contract()
    arguments = (True,) if "chunks" in test else ()
    run_virtual(getattr(contract, test), *arguments)
    contract.maker = engine
    with pytest.raises((AssertionError, BaseExceptionGroup, pytest.fail.Exception)):
        run_virtual(getattr(contract, test), *arguments)
