"""One engine on a bench: calls without a runtime, and all that came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import attrs

from autellix.backends.protocol import EngineCall, Sampling
from autellix.core.records import CallReport, CallSpec, Job
from autellix.errors import EngineLost
from autellix.policies import FCFS

if TYPE_CHECKING:
    from autellix.backends.protocol import Chunk, Engine
    from autellix.backends.stream import CallStream, FinishReason
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy


@attrs.frozen(kw_only=True)
class Answer:
    """What the consumer of a call got."""

    chunks: Sequence[Chunk]
    reason: FinishReason | None

    @property
    def text(self) -> str:
        """All text, in order."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def token_ids(self) -> list[int]:
        """All token ids, in order."""
        return [token for chunk in self.chunks for token in chunk.token_ids]


@attrs.define(eq=False)
class EngineBench:
    """Submits calls to an engine that serves, and keeps what it says.

    Attributes:
        engine: Entered and serving.
        reports: Of calls that ended, in that order.
        facts: All facts, in order.
        lost: What ``serve`` raised, once it has.
    """

    engine: Engine
    reports: list[CallReport] = attrs.field(factory=list)
    facts: list[Fact] = attrs.field(factory=list)
    lost: EngineLost | None = None
    _submitted: int = 0

    def call(
        self,
        prompt: str | Sequence[int] = "Once upon a time",
        *,
        max_tokens: int = 16,
        program_id: int | None = None,
        sampling: Sampling | None = None,
        is_streamed: bool = False,
    ) -> EngineCall:
        """Return a call of a program of its own, or of the program given."""
        self._submitted += 1
        if isinstance(prompt, str):
            prompt = self.engine.tokenizer.encode(prompt)
        program = self._submitted if program_id is None else program_id
        return EngineCall(
            spec=CallSpec(
                call_id=self._submitted,
                program_id=program,
                job=Job(program_class="bench", program_arrival=program),
                inherited_ns=0,
                prompt=prompt,
                max_tokens=max_tokens,
            ),
            sampling=sampling or Sampling(ignore_end=True),
            is_streamed=is_streamed,
        )

    def submit(self, call: EngineCall) -> CallStream:
        """Submit a call; its report goes to ``reports``."""
        is_taken = False

        def ended(report: CallReport) -> None:
            assert is_taken, f"call {report.call_id} ended inside of submit"
            self.reports.append(report)

        stream = self.engine.submit(call, ended)
        is_taken = True
        return stream

    async def answer(self, call: EngineCall) -> Answer:
        """Submit a call and wait for all of its answer."""
        async with self.submit(call) as stream:
            chunks = [chunk async for chunk in stream]
        return Answer(chunks=chunks, reason=stream.finish_reason)

    async def answers(self, calls: Sequence[EngineCall]) -> list[Answer]:
        """Submit calls together, in order; return their answers in that order."""
        answers: dict[int, Answer] = {}

        async def keep(call: EngineCall) -> None:
            answers[call.spec.call_id] = await self.answer(call)

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(keep, call)
        return [answers[call.spec.call_id] for call in calls]

    async def at_rest(self, calls: int) -> None:
        """Wait until so many calls have been reported and all blocks are at rest."""
        # That copies to the host pool have been made is no fact one could wait for.
        await until(lambda: len(self.reports) >= calls and not self._is_busy())

    def report(self, call: EngineCall) -> CallReport:
        """Return the one report of a call."""
        call_id = call.spec.call_id
        (report,) = (r for r in self.reports if r.call_id == call_id)
        return report

    def reports_by_call(self) -> Counter[int]:
        """Return how often each call was reported."""
        return Counter(report.call_id for report in self.reports)

    def _is_busy(self) -> bool:
        seen = self.engine.statistics()
        live = seen.running + seen.paused + seen.swapped + seen.waiting
        return bool(live or seen.device.moving or seen.host.moving)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()`` holds; ``TimeoutError`` after two minutes.

    It is looked at often: what is waited for may last for a few steps only.
    """
    pause_s = 0.0001
    with anyio.fail_after(120):
        while not condition():
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.001)


@asynccontextmanager
async def serving(
    engine: Engine, policy: Policy | None = None
) -> AsyncIterator[EngineBench]:
    """Enter ``engine`` and let it serve; stop it at the end of the block.

    Yields:
        A bench with the engine on it.
    """
    bench = EngineBench(engine)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        try:
            await engine.serve(
                policy or FCFS(), bench.facts.append, task_status=task_status
            )
        except EngineLost as error:
            bench.lost = error

    async with engine, anyio.create_task_group() as tasks:
        await tasks.start(serve)
        yield bench
        tasks.cancel_scope.cancel()
