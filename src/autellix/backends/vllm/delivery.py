"""From a driver's news to the consumers of calls: tokens, ends, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from autellix.core.facts import Ended
from autellix.core.records import CallReport, Outcome, ProgramDelta, WaitReason
from autellix.errors import CallFailed

if TYPE_CHECKING:
    from autellix.backends.live_call import LiveCall
    from autellix.backends.vllm.driver import News
    from autellix.core.facts import Fact
    from autellix.core.records import CallSpec


class Delivery:
    """The live calls of an engine that serves, and what they are to get.

    Args:
        engine: Its name, for errors.
        listener: Told every fact.
    """

    def __init__(
        self, engine: str, listener: Callable[[Fact], None] | None = None
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._live: dict[int, LiveCall] = {}
        self._submitted_ns: dict[int, int] = {}
        self._stopped: set[int] = set()

    def add(self, live: LiveCall, now_ns: int) -> None:
        """Take in a call that is submitted now."""
        call_id = live.call.spec.call_id
        self._live[call_id] = live
        self._submitted_ns[call_id] = now_ns

    def leave(self, call_id: int) -> bool:
        """Note that a consumer is gone; return whether its call still lives."""
        live = self._live.get(call_id)
        if live is None:
            return False
        live.is_left = True
        return True

    def take(self, news: News, cause: Exception | None = None) -> list[int]:
        """Hand news on; return the calls whose text is complete, and vLLM goes on.

        Args:
            news: What came of calls.
            cause: Why calls failed, if they did.
        """
        complete = []
        for call_id, samples in news.tokens:
            live = self._live.get(call_id)
            if live is None or call_id in self._stopped:
                continue  # tokens of steps that were under way when its text ended
            if any(live.take(sample) for sample in samples):
                self._stopped.add(call_id)
                complete.append(call_id)
        self._hand_over(news.facts, cause)
        for call_id, error in news.refused:
            if call_id in self._live:
                now_ns = self._submitted_ns[call_id]
                self._give_up(call_id, Outcome.FAILED, error, now_ns)
        for call_id, _ in news.tokens:
            live = self._live.get(call_id)
            if live is not None:
                live.push()
        return [call_id for call_id in complete if call_id in self._live]

    def _hand_over(self, facts: Iterable[Fact], cause: Exception | None) -> None:
        """Hand facts on, in order; first the others get what is theirs.

        Whatever somebody raised who was told is raised at the end.

        Args:
            facts: What happened.
            cause: Why calls failed, if they did.
        """
        errors: list[Exception] = []
        for fact in facts:
            try:
                if isinstance(fact, Ended):
                    self._end(fact, cause)
                elif self._listener is not None:
                    self._listener(fact)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def give_up_all(
        self, outcome: Outcome, cause: Exception | None, now_ns: int
    ) -> None:
        """End the calls that are left, of which nothing is known any more."""
        for call_id in list(self._live):
            self._give_up(call_id, outcome, cause, now_ns)

    def _give_up(
        self, call_id: int, outcome: Outcome, cause: Exception | None, now_ns: int
    ) -> None:
        spec = self._live[call_id].call.spec
        report = unserved(spec, outcome, self._submitted_ns[call_id], now_ns)
        fact = Ended(
            at_ns=report.ended_ns,
            call_id=call_id,
            program_id=spec.program_id,
            report=report,
        )
        self._end(fact, cause)

    def _end(self, fact: Ended, cause: Exception | None) -> None:
        """Hand a report on; whoever was stopped by its text has finished well."""
        if fact.call_id in self._stopped:
            self._stopped.remove(fact.call_id)
            report = attrs.evolve(fact.report, outcome=Outcome.FINISHED)
            fact = attrs.evolve(fact, report=report)
        report = fact.report
        live = self._live.pop(report.call_id)
        del self._submitted_ns[report.call_id]
        try:
            if self._listener is not None:
                self._listener(fact)
            live.ended(report)
        finally:  # whatever comes of the report, its consumer must not hang
            if report.outcome is Outcome.FINISHED:
                live.finish()
            else:
                live.fail(self._call_failed(report.call_id, report.outcome, cause))

    def _call_failed(
        self, call_id: int, outcome: Outcome, cause: Exception | None
    ) -> CallFailed:
        why = f": {cause}" if cause is not None else ""
        error = CallFailed(
            f"call {call_id} ended as {outcome} on engine {self._engine!r}{why}",
            engine=self._engine,
        )
        error.__cause__ = cause
        return error


def unserved(
    spec: CallSpec, outcome: Outcome, submitted_ns: int, now_ns: int
) -> CallReport:
    """Return the report of a call of which nothing is known but that it waited."""
    waited_ns = max(0, now_ns - submitted_ns)
    return CallReport(
        call_id=spec.call_id,
        program_id=spec.program_id,
        outcome=outcome,
        submitted_ns=submitted_ns,
        ended_ns=submitted_ns + waited_ns,
        first_token_ns=None,
        inherited_ns=spec.inherited_ns,
        service_ns=0,
        work_ns=0,
        wait_ns={WaitReason.ROUND: waited_ns},
        prompt_tokens=len(spec.prompt),
        cached_device_tokens=0,
        cached_host_tokens=0,
        output_tokens=0,
        computed_tokens=0,
        preemptions={},
        level=0,
        program=ProgramDelta(),
    )
