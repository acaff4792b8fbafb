"""The part of an engine's loop that does not depend on how steps are computed.

Calls come in, the pure ``StepScheduler`` decides, and what came of it goes out as
chunks, reports and facts. Between a change of the scheduler's state and the end of its
bookkeeping nothing is awaited, so there are no locks. A call costs no task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs

from autellix.backends.live_call import LiveCall
from autellix.backends.protocol import check_prompt
from autellix.backends.stream import CallStream
from autellix.core.facts import Ended
from autellix.core.records import Outcome
from autellix.core.step_scheduler import StepScheduler
from autellix.errors import CallFailed, CallRejected, EngineLost
from autellix.policies.checked import CheckedPolicy, CheckedRanking

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.protocol import EngineCall, Tokenizer
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.limits import StepLimits
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport
    from autellix.core.snapshot import EngineStatistics


@attrs.define(eq=False, kw_only=True)
class CallLoop(ABC):
    """Serves calls on one engine; used once.

    Attributes:
        name: Of the engine, for errors.
        max_call_tokens: Most tokens of prompt and output of a call.
        vocabulary_tokens: Ids of prompts are below this; None: any.
    """

    name: str
    max_call_tokens: int
    vocabulary_tokens: int | None = None
    limits: StepLimits
    blocks: KVBlocks
    costs: CostModel
    tokenizer: Tokenizer
    _scheduler: StepScheduler | None = attrs.field(default=None, init=False)
    _ranking: CheckedRanking | None = attrs.field(default=None, init=False)
    _listener: Callable[[Fact], None] | None = attrs.field(default=None, init=False)
    _live: dict[int, LiveCall] = attrs.field(factory=dict, init=False)
    _calls: dict[int, EngineCall] = attrs.field(factory=dict, init=False)
    _latest_ns: int = attrs.field(default=0, init=False)
    _idle: anyio.Event | None = attrs.field(default=None, init=False)
    _is_delivering: bool = attrs.field(default=False, init=False)
    _is_down: bool = attrs.field(default=False, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)

    # -- the life of the engine --------------------------------------------------

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run steps until cancelled; a step under way is completed first.

        ``PolicyFault`` where the policy has no ranking for this engine.

        Raises:
            EngineLost: A step failed; all calls have been ended as failed.
            RuntimeError: It serves already, or has served.
        """
        if self._scheduler is not None:
            raise RuntimeError(f"engine {self.name!r} serves already: enter it anew")
        self._ranking = CheckedPolicy(policy).ranking(self.costs.single_step_ns())
        self._scheduler = StepScheduler(
            limits=self.limits,
            blocks=self.blocks,
            policy=policy,
            ranking=self._ranking,
            costs=self.costs,
        )
        self._listener = listener
        try:
            task_status.started()
            while True:
                await self._wait_for_work(self._scheduler)
                await self._step(self._scheduler)
                self._end_faulty(self._scheduler)
                # Whoever got a token or a result can act on it before the next plan.
                await anyio.lowlevel.checkpoint()
        except Exception as error:  # told as EngineLost
            self._failure = error
            self._end_all(self._scheduler, Outcome.FAILED)
            raise EngineLost(
                f"engine {self.name!r} failed: {error}", engine=self.name
            ) from error
        finally:
            self._end_all(self._scheduler, Outcome.CANCELLED)

    async def _wait_for_work(self, scheduler: StepScheduler) -> None:
        while not scheduler.has_work:
            self._idle = anyio.Event()
            await self._idle.wait()

    @abstractmethod
    async def _step(self, scheduler: StepScheduler) -> None:
        """Plan a step and commit it; cancelled, complete the step under way first."""

    def _end_faulty(self, scheduler: StepScheduler) -> None:
        """End the calls of programs about which the policy gave no usable answer."""
        faults = self._ranking.take_faults() if self._ranking else {}
        if not faults:
            return
        for call_id, live in self._live.items():
            fault = faults.get(live.call.spec.job.program_arrival)
            if fault is not None:
                live.fault = fault
                scheduler.cancel(call_id, self._now_ns())
        self._deliver(scheduler)

    def close(self) -> None:
        """End calls that are still live, of a loop that serves no more."""
        if self._scheduler is not None:
            self._end_all(self._scheduler, Outcome.CANCELLED)

    def _end_all(self, scheduler: StepScheduler, outcome: Outcome) -> None:
        if self._is_down:
            return
        self._is_down = True
        try:
            scheduler.end_all(outcome, self._now_ns())
            self._deliver(scheduler)
        finally:
            for live in self._live.values():  # none, unless the bookkeeping failed
                live.fail(self._call_failed(live.call.spec.call_id, outcome))

    def _serving(self) -> StepScheduler:
        if self._scheduler is None or self._is_down:
            state = "does not serve yet" if self._scheduler is None else "is down"
            raise EngineLost(
                f"engine {self.name!r} {state}", engine=self.name
            ) from self._failure
        return self._scheduler

    # -- the life of a call ------------------------------------------------------

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        """Take a call in; see ``Engine.submit``.

        ``UnknownToken`` where its prompt has an id past the vocabulary.

        Raises:
            CallRejected: It can never fit.
            ValueError: Its output is to be held to a schema.
        """
        scheduler = self._serving()
        if call.sampling.json_schema is not None:
            raise ValueError(f"engine {self.name!r} cannot hold output to a schema")
        spec = call.spec
        needed = len(spec.prompt) + spec.max_tokens
        if needed > self.max_call_tokens:
            raise CallRejected(
                needed_tokens=needed,
                limit_tokens=self.max_call_tokens,
                where=f"engine {self.name!r}",
            )
        check_prompt(spec.prompt, self.vocabulary_tokens, f"engine {self.name!r}")
        scheduler.submit(spec, self._arrive_ns())
        stream = CallStream(partial(self._abort, spec.call_id))
        self._calls[spec.call_id] = call
        self._live[spec.call_id] = LiveCall(call, stream, ended, self.tokenizer)
        if self._idle is not None:
            self._idle.set()
        return stream

    def _abort(self, call_id: int) -> None:
        live = self._live.get(call_id)
        if live is None or self._scheduler is None or self._is_down:
            return
        live.is_left = True
        self._scheduler.cancel(call_id, self._arrive_ns())
        self._deliver(self._scheduler)

    def forget(self, program_id: int) -> None:
        """Take note that a program has ended; see ``Engine.forget``."""
        scheduler = self._scheduler
        if scheduler is None or self._is_down:
            return
        if program_id in scheduler.books.retention:
            scheduler.forget(program_id, self._arrive_ns())

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        scheduler = self._serving()
        now_ns = self._arrive_ns()
        policy = scheduler.books.policy
        checked = CheckedRanking.of(policy, "recalibrated", ranking)
        scheduler.update_ranking(version, checked, now_ns)
        checked.take_over(self._ranking)
        self._ranking = checked

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot, also of an engine that is down.

        Raises:
            EngineLost: It never served.
        """
        if self._scheduler is None:
            raise EngineLost(
                f"engine {self.name!r} does not serve yet", engine=self.name
            )
        if not self._is_down:
            self._arrive_ns()
        return self._scheduler.statistics()

    # -- time --------------------------------------------------------------------

    def _now_ns(self) -> int:
        """Return the loop's clock; what the scheduler was told is never undercut."""
        self._latest_ns = max(self._latest_ns, round(anyio.current_time() * 1e9))
        return self._latest_ns

    def _arrive_ns(self) -> int:
        """Return the instant at which something comes in from outside."""
        return self._now_ns()

    # -- what a step brought -----------------------------------------------------

    def _push(self, call_ids: Iterable[int]) -> None:
        """Hand the new tokens of calls that go on to their consumers."""
        for call_id in call_ids:
            live = self._live.get(call_id)
            if live is not None:
                live.push()

    def _deliver(self, scheduler: StepScheduler) -> None:
        """Hand facts and reports on, in order; those who get them may call back in."""
        if self._is_delivering:
            return
        self._is_delivering = True
        errors: list[Exception] = []
        try:
            while facts := scheduler.take_facts():
                for fact in facts:
                    try:
                        self._hand_over(fact)
                    except Exception as error:  # noqa: BLE001 - raised below
                        errors.append(error)  # first the others get what is theirs
        finally:
            self._is_delivering = False
        if errors:
            raise errors[0]

    def _hand_over(self, fact: Fact) -> None:
        if self._listener is not None:
            self._listener(fact)
        if isinstance(fact, Ended):
            self._end(fact.report)

    def _end(self, report: CallReport) -> None:
        live = self._live.pop(report.call_id)
        del self._calls[report.call_id]
        try:
            live.ended(report)
        finally:  # whatever comes of the report, its consumer must not hang
            if report.outcome is Outcome.FINISHED:
                live.finish()
            else:
                failed = self._call_failed(report.call_id, report.outcome)
                live.fail(live.fault or failed)

    def _call_failed(self, call_id: int, outcome: Outcome) -> CallFailed:
        error = CallFailed(
            f"call {call_id} ended as {outcome} on engine {self.name!r}",
            engine=self.name,
        )
        error.__cause__ = self._failure
        return error
