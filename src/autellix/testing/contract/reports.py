"""What is said of a call that has ended."""

from __future__ import annotations

from autellix.core.facts import Ended
from autellix.core.records import Outcome, PreemptionKind
from autellix.testing.contract.base import (
    PROMPTS,
    Contract,
)
from autellix.testing.engine_bench import serving


class ReportContract(Contract):
    """One report a call, which adds up; facts in order; all at rest."""

    async def test_reports_add_up(self) -> None:
        """Each call is reported once; its times and tokens add up (A4, A7, A9)."""
        async with serving(self.make_engine()) as bench:
            slots = bench.engine.capabilities().max_batch_calls
            calls = [
                bench.call(PROMPTS[n % len(PROMPTS)], max_tokens=1 + n % 7)
                for n in range(min(2 * slots, 64) + 3)
            ]
            answers = await bench.answers(calls)
            assert bench.reports_by_call() == {c.spec.call_id: 1 for c in calls}
            for call, answer in zip(calls, answers, strict=True):
                report = bench.report(call)
                waited_ns = sum(report.wait_ns.values())
                assert report.outcome is Outcome.FINISHED
                assert report.service_ns + waited_ns == (
                    report.ended_ns - report.submitted_ns
                )
                assert min([0, report.service_ns, *report.wait_ns.values()]) == 0
                assert report.first_token_ns is not None
                assert report.submitted_ns <= report.first_token_ns <= report.ended_ns
                assert report.prompt_tokens == len(call.spec.prompt)
                assert report.output_tokens == len(answer.token_ids)
                assert report.output_tokens == call.spec.max_tokens
                if PreemptionKind.DROP not in report.preemptions:
                    cached = report.cached_device_tokens + report.cached_host_tokens
                    computed = report.prompt_tokens - cached + report.output_tokens - 1
                    assert report.computed_tokens == computed

    async def test_facts_are_in_order_and_end_with_the_report(self) -> None:
        """Facts of a call never go back in time, and nothing follows its end."""
        async with serving(self.make_engine()) as bench:
            await bench.answers([bench.call(prompt) for prompt in PROMPTS])
            assert bench.reports == [
                fact.report for fact in bench.facts if isinstance(fact, Ended)
            ]
            for report in bench.reports:
                facts = [f for f in bench.facts if f.call_id == report.call_id]
                instants = [fact.at_ns for fact in facts]
                assert instants == sorted(instants)
                assert isinstance(facts[-1], Ended)
                assert sum(isinstance(fact, Ended) for fact in facts) == 1
