"""What an engine says of itself is true."""

from __future__ import annotations

import math
import re
from functools import partial

import anyio
import pytest

from autellix.backends.protocol import Sampling
from autellix.core.facts import Ended, Preempted, Resumed, Scheduled
from autellix.policies import MLFQ, Ladder
from autellix.testing.contract.base import (
    LONG_TOKENS,
    PROMPTS,
    Contract,
    check_at_rest,
    started,
)
from autellix.testing.engine_bench import serving


class ClaimContract(Contract):
    """Capabilities and statistics."""

    async def test_it_comes_to_rest(self) -> None:
        """Without calls nothing runs, waits, moves or is referenced (K1, K4)."""
        async with serving(self.make_engine()) as bench:
            await bench.answers([bench.call(prompt) for prompt in PROMPTS])
            await bench.at_rest(len(PROMPTS))
            check_at_rest(bench.engine)
            seen = bench.engine.statistics()
            totals = bench.reports
            assert seen.prompt_tokens == sum(r.prompt_tokens for r in totals)
            assert seen.output_tokens == sum(r.output_tokens for r in totals)
            assert seen.model_tokens == sum(r.computed_tokens for r in totals)
            assert seen.service_ns == sum(r.service_ns for r in totals)

    async def test_it_is_entered_once_at_a_time(self) -> None:
        """A second time is refused by its name, and does not touch what it serves."""
        async with serving(self.make_engine()) as bench:
            with pytest.raises(RuntimeError, match=re.escape(bench.engine.name)):
                await bench.engine.__aenter__()
            assert (await bench.answer(bench.call(max_tokens=2))).token_ids

    async def test_it_never_runs_more_than_its_slots(self) -> None:
        """Counted by the facts, at most ``max_batch_calls`` calls run, and two can."""
        async with serving(self.make_engine()) as bench:
            slots = bench.engine.capabilities().max_batch_calls
            calls = [bench.call(max_tokens=32) for _ in range(slots + 2)]
            await bench.answers(calls)
            running: set[int] = set()
            most = 0
            for fact in bench.facts:
                if isinstance(fact, Scheduled | Resumed):
                    running.add(fact.call_id)
                elif isinstance(fact, Preempted | Ended):
                    running.discard(fact.call_id)
                most = max(most, len(running))
            assert 2 <= most <= slots

    async def test_it_finds_prefixes_if_it_says_so(self) -> None:
        """A long prompt is found again exactly where ``caches_prefixes`` says so."""
        async with serving(self.make_engine()) as bench:
            can = bench.engine.capabilities()
            prompt = bench.engine.tokenizer.encode("a b c d e f g h " * 20)
            prompt = prompt[: can.max_call_tokens - 4]
            first = await bench.answer(bench.call(prompt, max_tokens=4))
            again = bench.call(prompt, max_tokens=4)
            assert (await bench.answer(again)).token_ids == first.token_ids
            report = bench.report(again)
            cached = report.cached_device_tokens + report.cached_host_tokens
            assert (cached > 0) == can.caches_prefixes
            assert cached < report.prompt_tokens

    async def test_it_forgets_programs_at_any_time(self) -> None:
        """One it never saw, one whose call runs, one whose calls ended; also when down.

        Nothing of a program that ended is retained (rule K7).
        """
        async with serving(self.make_engine()) as bench:
            engine = bench.engine
            engine.forget(10**9)
            call = bench.call(PROMPTS[0], max_tokens=8, is_streamed=True)
            async with bench.submit(call) as chunks:
                await anext(chunks)
                engine.forget(call.spec.program_id)
                tokens = [token async for chunk in chunks for token in chunk.token_ids]
            assert tokens
            await bench.at_rest(1)
            engine.forget(call.spec.program_id)
            seen = engine.statistics()
            assert seen.device.retained == seen.host.retained == 0
        engine.forget(call.spec.program_id)

    async def test_it_reports_logprobs_if_it_says_so(self) -> None:
        """One entry a token where asked for and supported, else none."""
        async with serving(self.make_engine()) as bench:
            sampling = Sampling(logprobs=2, ignore_end=True)
            answer = await bench.answer(bench.call(sampling=sampling))
            entries = [entry for chunk in answer.chunks for entry in chunk.logprobs]
            if not bench.engine.capabilities().logprobs:
                assert entries == []
                return
            assert [entry.token for entry in entries] == answer.token_ids
            assert all(entry.logprob <= 0 for entry in entries)
            assert all(len(entry.top) == 2 for entry in entries)
            plain = await bench.answer(bench.call())
            assert not any(chunk.logprobs for chunk in plain.chunks)

    async def test_it_preempts_if_it_says_so_and_loses_nothing(self) -> None:
        """A better call gets in; those that made room answer as if alone (S2, S8)."""
        tiny = Ladder(bounds_s=[1e-9], quanta_s=[1e-9, math.inf])
        async with serving(self.make_engine(), MLFQ(ladder=tiny)) as bench:
            if not bench.engine.costs.single_step_ns():
                pytest.skip("nobody gets worse on an engine whose steps take no time")
            can = bench.engine.capabilities()
            # Long enough for a fast engine to run still when the other one comes.
            call = partial(bench.call, max_tokens=5 * LONG_TOKENS)
            alone = (await bench.answer(call())).token_ids
            long = [call() for _ in range(can.max_batch_calls)]
            short = bench.call(PROMPTS[2], max_tokens=1)
            async with anyio.create_task_group() as tasks:

                async def answers() -> None:
                    for answer in await bench.answers(long):
                        assert answer.token_ids == alone

                tasks.start_soon(answers)
                await started(bench, len(long))
                await bench.answer(short)
            preempted = [r for r in bench.reports if r.preemptions]
            assert bool(preempted) == can.preempts
            if can.preempts:
                assert bench.reports.index(bench.report(short)) == 1
