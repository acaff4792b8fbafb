"""The vLLM engine in a process of its own keeps the parts of the contract that matter.

Each start takes ten seconds and more, so one engine serves all of these tests.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from autellix.backends.protocol import Sampling
from autellix.backends.stream import FinishReason
from autellix.backends.vllm.own_process import OwnProcessDriver
from autellix.core.facts import Preempted
from autellix.core.records import Outcome
from autellix.errors import CallFailed, EngineLost
from autellix.policies import MLFQ, Ladder
from autellix.testing.engine_bench import serving, until
from tests.backends.vllm.runs import tiny_engine

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.testing.engine_bench import EngineBench

pytestmark = pytest.mark.slow

LEVELS = MLFQ(ladder=Ladder(bounds_s=[1e-9], quanta_s=[1e-9, math.inf]))
"""Whoever has run a step is worse than whoever has not."""


async def test_an_engine_in_its_own_process(
    llama_folder: Path, subtests: pytest.Subtests
) -> None:
    """Answers, reports, stops, aborts and preempts as in process; then it is killed."""
    engine = tiny_engine(llama_folder, driver="async")
    async with serving(engine, LEVELS) as bench:
        with subtests.test("answers and reports add up"):
            await answers_add_up(bench)
        with subtests.test("a stop string ends a call well"):
            await stop_string(bench)
        with subtests.test("a call that is left is aborted and reported"):
            await left(bench)
        with subtests.test("a bad request hurts nobody else"):
            asked = Sampling(logprobs=500)
            bad = bench.call([5, 6], max_tokens=4, sampling=asked)
            with pytest.raises(CallFailed):
                await bench.answer(bad)
            assert bench.report(bad).outcome is Outcome.FAILED
            assert (await bench.answer(bench.call(max_tokens=2))).token_ids
        with subtests.test("a better call takes a slot"):
            await preemption(bench)
        with subtests.test("an engine that dies fails its calls"):
            await death(bench)


async def answers_add_up(bench: EngineBench) -> None:
    """Check tokens and times of several calls at once."""
    calls = [bench.call([9, 8, 7 + n], max_tokens=3 + n) for n in range(6)]
    answers = await bench.answers(calls)
    await until(lambda: len(bench.reports) == len(calls))
    for call, answer in zip(calls, answers, strict=True):
        report = bench.report(call)
        assert len(answer.token_ids) == call.spec.max_tokens == report.output_tokens
        took_ns = report.ended_ns - report.submitted_ns
        assert report.service_ns + sum(report.wait_ns.values()) == took_ns
        assert report.service_ns > 0


async def stop_string(bench: EngineBench) -> None:
    """Check a call that our side ends."""
    whole = await bench.answer(bench.call(max_tokens=24))
    stop = whole.text[len(whole.text) // 2 :][:3]
    call = bench.call(max_tokens=24, sampling=Sampling(stop=[stop], ignore_end=True))
    answer = await bench.answer(call)
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.reason is FinishReason.STOP
    assert bench.report(call).outcome is Outcome.FINISHED
    assert bench.report(call).output_tokens >= len(answer.token_ids)


async def left(bench: EngineBench) -> None:
    """Check a call that its consumer leaves after a token."""
    call = bench.call(max_tokens=400, is_streamed=True)
    before = len(bench.reports)
    async with bench.submit(call) as stream:
        await anext(stream)
    await bench.at_rest(before + 1)
    report = bench.report(call)
    assert report.outcome is Outcome.CANCELLED
    assert 1 <= report.output_tokens < 400
    assert report.service_ns > 0


async def preemption(bench: EngineBench) -> None:
    """Check that a short call does not wait for three long ones."""
    long = [bench.call([30 + n] * 9, max_tokens=200) for n in range(3)]
    short = bench.call([3, 4, 5], max_tokens=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.answers, long)
        await until(lambda: bench.engine.statistics().running == 3)
        await bench.answer(short)
        assert short.spec.call_id == bench.reports[-1].call_id
    assert any(isinstance(f, Preempted) and f.by != f.call_id for f in bench.facts)


async def death(bench: EngineBench) -> None:
    """Kill vLLM's process with calls in flight."""
    failed: list[CallFailed] = []

    async def fails(call: EngineCall) -> None:
        with pytest.raises(CallFailed) as caught:
            await bench.answer(call)
        failed.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            call = bench.call([number + 2], max_tokens=900, is_streamed=True)
            tasks.start_soon(fails, call)
        await until(lambda: bench.engine.statistics().running == 3)
        driver = bench.engine._here.driver  # type: ignore[attr-defined]
        assert isinstance(driver, OwnProcessDriver)
        manager = driver.llm.engine_core.resources.engine_manager
        for process in manager.processes:
            process.kill()
    assert all(error.__cause__ is not None for error in failed)
    assert [r.outcome for r in bench.reports[-3:]] == [Outcome.FAILED] * 3
    await until(lambda: bench.lost is not None)
    with pytest.raises(EngineLost):
        bench.submit(bench.call())
