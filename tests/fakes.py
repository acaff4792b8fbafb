"""A small engine that does as it is told, for what a real one does only by accident.

All live calls get one token each step, in the order in which they came. It can fail to
load, break down, refuse a call it said it could take, and be slow to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import attrs

from autellix.backends.protocol import Capabilities, Chunk, EngineCall
from autellix.backends.simulated import ByteTokenizer
from autellix.backends.stream import CallStream, FinishReason
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended, FirstToken
from autellix.core.records import CallReport, Outcome, ProgramDelta, WaitReason
from autellix.core.snapshot import EngineStatistics, TierUse
from autellix.errors import CallFailed, CallRejected, EngineLost

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.protocol import Tokenizer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy, Ranking

COSTS = CostModel(step_ns=10_000_000, prefill_ns=10_000, decode_ns=0)
_NO_BLOCKS = TierUse(total=0, free=0, cached=0, referenced=0, moving=0)


def alphabet(call: EngineCall) -> list[int]:
    """Return as many letters as were asked for, as ``ByteTokenizer`` has them."""
    return [97 + n % 26 for n in range(call.spec.max_tokens)]


@attrs.define(eq=False)
class _Live:
    call: EngineCall
    stream: CallStream
    ended: Callable[[CallReport], None]
    tokens: list[int]
    submitted_ns: int
    service_ns: int = 0
    produced: int = 0
    is_left: bool = False


@attrs.define(eq=False, kw_only=True)
class FakeEngine:
    """Does as it is told, and remembers what was done with it.

    Attributes:
        reply: Token ids a call is answered with, at most ``max_tokens`` of them.
        load_s: Time to load; then ``load_error`` is raised, if there is one.
        exit_s: Time to give everything back.
        refusal: What ``submit`` raises, if anything.
        worst_level: What it says is the level of its worst resident.
        failure: What its consumers get when it breaks.
        reports_late: Whether a call's report comes a step after its last token.
        calls: All that were submitted.
        history: Words for what was done with it.
        versions: Of the rankings it was sent.
        forgotten: Programs that it was told have ended.
    """

    name: str = "fake"
    model: str = "fake"
    tokenizer: Tokenizer = attrs.field(factory=ByteTokenizer)
    costs: CostModel = COSTS
    reply: Callable[[EngineCall], Sequence[int]] = alphabet
    step_s: float = 0.01
    load_s: float = 0.0
    load_error: Exception | None = None
    exit_s: float = 0.0
    max_call_tokens: int = 1_000
    intake_limit_calls: int | None = None
    refusal: CallRejected | EngineLost | None = None
    worst_level: int | None = None
    failure: type[CallFailed | EngineLost] = CallFailed
    reports_late: bool = False
    calls: list[EngineCall] = attrs.field(factory=list, init=False)
    history: list[str] = attrs.field(factory=list, init=False)
    versions: list[int] = attrs.field(factory=list, init=False)
    forgotten: list[int] = attrs.field(factory=list, init=False)
    _live: dict[int, _Live] = attrs.field(factory=dict, init=False)
    _listener: Callable[[Fact], None] | None = attrs.field(default=None, init=False)
    _breakdown: Exception | None = attrs.field(default=None, init=False)
    _is_down: bool = attrs.field(default=False, init=False)
    _work: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def __aenter__(self) -> Self:
        await anyio.sleep(self.load_s)
        if self.load_error is not None:
            raise self.load_error
        self.history.append("entered")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_down = True
        self._end_all(Outcome.CANCELLED)
        await anyio.sleep(self.exit_s)
        self.history.append("left")

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        self._listener = listener
        task_status.started()
        while True:
            while not self._live and self._breakdown is None:
                self._work = anyio.Event()
                await self._work.wait()
            stepped = list(self._live.values())
            await anyio.sleep(self.step_s)
            if self._breakdown is not None:
                self._is_down = True
                self._end_all(Outcome.FAILED)
                raise EngineLost("it broke", engine=self.name) from self._breakdown
            for live in stepped:
                self._step(live)

    def crash(self, error: Exception) -> None:
        """Break at the end of the step under way, or of one that begins now."""
        self._breakdown = error
        self._work.set()

    def capabilities(self) -> Capabilities:
        return Capabilities(
            preempts=False,
            swaps=False,
            caches_prefixes=False,
            max_context_tokens=self.max_call_tokens,
            max_call_tokens=self.max_call_tokens,
            max_batch_calls=1_000,
            intake_limit_calls=self.intake_limit_calls,
        )

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        if self.refusal is not None:
            raise self.refusal
        if self._is_down:
            raise EngineLost("it is down", engine=self.name) from self._breakdown
        self.calls.append(call)
        stream = CallStream(partial(self._abort, call.spec.call_id))
        tokens = list(self.reply(call))[: call.spec.max_tokens]
        live = _Live(call, stream, ended, tokens, _now_ns())
        self._live[call.spec.call_id] = live
        self._work.set()
        return stream

    def forget(self, program_id: int) -> None:
        self.forgotten.append(program_id)

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        self.versions.append(version)

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(
            steps=0,
            running=len(self._live),
            paused=0,
            swapped=0,
            waiting=0,
            worst_running_level=self.worst_level,
            level_occupancy=(len(self._live),),
            demotions=0,
            promotions=0,
            reservations=0,
            preemptions={},
            cached_device_tokens=0,
            cached_host_tokens=0,
            prompt_tokens=0,
            output_tokens=0,
            model_tokens=0,
            wait_ns={},
            service_ns=0,
            device=_NO_BLOCKS,
            host=_NO_BLOCKS,
            ranking_version=0,
        )

    def _abort(self, call_id: int) -> None:
        if call_id in self._live:
            self._live[call_id].is_left = True

    def _step(self, live: _Live) -> None:
        if live.produced == len(live.tokens):
            self._end(live, Outcome.FINISHED)
            return
        live.service_ns += round(self.step_s * 1e9)
        if live.is_left:
            self._end(live, Outcome.CANCELLED)
            return
        token = live.tokens[live.produced]
        live.produced += 1
        if live.produced == 1:
            self._tell(FirstToken(**_about(live)))
        text = self.tokenizer.decode([token])
        live.stream.push(Chunk(token_ids=[token], text=text))
        if live.produced == len(live.tokens):
            if not self.reports_late:
                self._end(live, Outcome.FINISHED)
            is_short = live.produced < live.call.spec.max_tokens
            live.stream.finish(FinishReason.STOP if is_short else FinishReason.LENGTH)

    def _end_all(self, outcome: Outcome) -> None:
        for live in list(self._live.values()):
            self._end(live, outcome)
            if not live.is_left:
                error = self.failure(f"it was {outcome}", engine=self.name)
                error.__cause__ = self._breakdown
                live.stream.fail(error)

    def _end(self, live: _Live, outcome: Outcome) -> None:
        spec, now_ns = live.call.spec, _now_ns()
        del self._live[spec.call_id]
        waited_ns = now_ns - live.submitted_ns - live.service_ns
        report = CallReport(
            call_id=spec.call_id,
            program_id=spec.program_id,
            outcome=outcome,
            submitted_ns=live.submitted_ns,
            ended_ns=now_ns,
            first_token_ns=None,
            inherited_ns=spec.inherited_ns,
            service_ns=live.service_ns,
            work_ns=live.service_ns,
            wait_ns={WaitReason.ROUND: waited_ns} if waited_ns else {},
            prompt_tokens=len(spec.prompt),
            cached_device_tokens=0,
            cached_host_tokens=0,
            output_tokens=live.produced,
            computed_tokens=len(spec.prompt) + live.produced,
            preemptions={},
            level=0,
            program=ProgramDelta(),
        )
        self._tell(Ended(report=report, **_about(live)))
        live.ended(report)

    def _tell(self, fact: Fact) -> None:
        if self._listener is not None:
            self._listener(fact)


def _about(live: _Live) -> dict[str, int]:
    spec = live.call.spec
    return {
        "at_ns": _now_ns(),
        "call_id": spec.call_id,
        "program_id": spec.program_id,
    }


def _now_ns() -> int:
    return round(anyio.current_time() * 1e9)
