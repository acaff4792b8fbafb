"""What happens to a call that is not answered."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest

from autellix.core.records import Outcome
from autellix.errors import CallFailed, CallRejected, EngineLost, UnknownToken
from autellix.testing.contract.base import (
    LONG_TOKENS,
    PROMPTS,
    Contract,
    check_at_rest,
)
from autellix.testing.engine_bench import serving, until

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall


class EndingContract(Contract):
    """Cancellation, refusal, failure, shutdown."""

    async def test_cancellation_before_the_first_token(self) -> None:
        """A call left at once ends as cancelled, and is reported once."""
        async with serving(self.make_engine()) as bench:
            call = bench.call(max_tokens=LONG_TOKENS)
            async with bench.submit(call):
                pass
            await bench.at_rest(1)
            assert bench.report(call).outcome is Outcome.CANCELLED
            check_at_rest(bench.engine)

    async def test_cancellation_in_mid_stream(self) -> None:
        """A call left after a chunk stops soon, and is charged for what it used."""
        async with serving(self.make_engine()) as bench:
            call = bench.call(max_tokens=100, is_streamed=True)
            async with bench.submit(call) as stream:
                await anext(stream)
            await bench.at_rest(1)
            report = bench.report(call)
            assert report.outcome is Outcome.CANCELLED
            assert 1 <= report.output_tokens < 100
            assert report.service_ns > 0 or bench.engine.costs.single_step_ns() == 0
            check_at_rest(bench.engine)

    async def test_cancellation_after_the_end_changes_nothing(self) -> None:
        """A finished call that is then left stays finished."""
        async with serving(self.make_engine()) as bench:
            call = bench.call(max_tokens=2)
            stream = bench.submit(call)
            await bench.at_rest(1)
            async with stream:
                pass
            assert [report.outcome for report in bench.reports] == [Outcome.FINISHED]

    async def test_cancellation_at_any_moment(self) -> None:
        """Wherever a call is cut, others get their answer and all comes to rest."""
        chance = random.Random(1)
        async with serving(self.make_engine()) as bench:
            expected = (await bench.answer(bench.call(max_tokens=LONG_TOKENS))).chunks
            measured = bench.call(max_tokens=LONG_TOKENS)
            assert (await bench.answer(measured)).chunks == expected
            report = bench.report(measured)
            took_s = (report.ended_ns - report.submitted_ns) / 1e9
            cut_early: list[EngineCall] = []

            async def cut(after_s: float) -> None:
                call = bench.call(max_tokens=LONG_TOKENS, is_streamed=after_s > took_s)
                if after_s < took_s / 4:
                    cut_early.append(call)
                with anyio.move_on_after(after_s):
                    await bench.answer(call)

            async with anyio.create_task_group() as tasks:
                for n in range(32):
                    tasks.start_soon(cut, chance.random() * took_s * (1 + n % 4))
                answer = await bench.answer(bench.call(max_tokens=LONG_TOKENS))
                assert answer.chunks == expected
            await bench.at_rest(35)
            assert bench.reports_by_call() == dict.fromkeys(range(1, 36), 1)
            for call in cut_early:
                assert bench.report(call).outcome is Outcome.CANCELLED
            check_at_rest(bench.engine)

    async def test_a_call_that_never_fits_is_refused(self) -> None:
        """Refusal says limit and size, is no call, and does no harm (S9)."""
        async with serving(self.make_engine()) as bench:
            limit = bench.engine.capabilities().max_call_tokens
            call = bench.call([1] * 4, max_tokens=limit)
            with pytest.raises(CallRejected) as caught:
                bench.submit(call)
            assert caught.value.limit_tokens == limit
            assert caught.value.needed_tokens == limit + 4
            assert (await bench.answer(bench.call(max_tokens=2))).token_ids
            assert len(bench.reports) == 1

    async def test_an_unknown_token_is_refused_to_its_call_alone(self) -> None:
        """It never reaches the model, so that calls beside it and after it go on."""
        async with serving(self.make_engine()) as bench:
            size = bench.engine.capabilities().vocabulary_tokens
            if size is None:
                pytest.skip("this engine takes any token id")
            call = bench.call(max_tokens=LONG_TOKENS, is_streamed=True)
            async with bench.submit(call) as stream:
                await anext(stream)
                with pytest.raises(UnknownToken) as caught:
                    bench.submit(bench.call([1, size, 2], max_tokens=2))
                assert [chunk async for chunk in stream]
            assert (caught.value.token, caught.value.vocabulary_tokens) == (size, size)
            largest = bench.call([1, size - 1], max_tokens=2)
            assert (await bench.answer(largest)).token_ids
            assert len(bench.reports) == 2

    async def test_a_failing_engine_fails_its_calls(self) -> None:
        """All calls end as failed with the cause; then nothing is taken any more."""
        async with serving(self.make_engine()) as bench:
            calls = [bench.call(p, max_tokens=100, is_streamed=True) for p in PROMPTS]
            failures: list[CallFailed] = []

            async def fails(call: EngineCall) -> None:
                with pytest.raises(CallFailed) as caught:
                    await bench.answer(call)
                assert bench.lost is not None, "it fails calls before it is down"
                failures.append(caught.value)

            async with anyio.create_task_group() as tasks:
                async with bench.submit(bench.call(is_streamed=True)) as stream:
                    for call in calls:
                        tasks.start_soon(fails, call)
                    await anext(stream)
                self.kill(bench.engine)
            for failure in failures:
                assert failure.engine == bench.engine.name
                assert failure.__cause__ is not None
            for call in calls:
                assert bench.report(call).outcome is Outcome.FAILED
            assert max(bench.reports_by_call().values()) == 1
            await until(lambda: bench.lost is not None)
            assert bench.lost is not None
            assert bench.lost.__cause__ is failures[0].__cause__
            with pytest.raises(EngineLost):
                bench.submit(bench.call())
            check_at_rest(bench.engine)

    async def test_a_stopped_engine_ends_its_calls(self) -> None:
        """When serving is cancelled, live calls are reported as cancelled."""
        async with serving(self.make_engine()) as bench:
            stream = bench.submit(bench.call(max_tokens=100))
            running = bench.call(max_tokens=100, is_streamed=True)
            async with bench.submit(running) as first:
                await anext(first)
        outcomes = {report.outcome for report in bench.reports}
        assert outcomes == {Outcome.CANCELLED}
        assert len(bench.reports) == 2
        with pytest.raises(CallFailed):
            await anext(stream)
        with pytest.raises(EngineLost):
            bench.submit(running)
