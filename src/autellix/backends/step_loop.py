"""The loop of an engine that has an executor compute the steps it schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import anyio
import attrs

from autellix.backends.call_loop import CallLoop
from autellix.backends.live_call import TokenSample
from autellix.core.plan import Sampled

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.core.plan import Plan
    from autellix.core.step_scheduler import StepScheduler

__all__ = ["Executed", "StepExecutor", "StepLoop", "TokenSample"]


@attrs.frozen(kw_only=True)
class Executed:
    """A step that was computed.

    Attributes:
        forward_at_ns: When the forward pass began and all copies were done, on the
            event loop's clock, nanoseconds; not before ``plan.at_ns``.
        ended_ns: When it ended.
        samples: The token chosen for each call whose output was to be sampled, by id.
    """

    forward_at_ns: int
    ended_ns: int
    samples: Mapping[int, TokenSample]


class StepExecutor(Protocol):
    """Computes steps: all that a backend with a step loop has to bring."""

    async def execute(self, plan: Plan, calls: Mapping[int, EngineCall]) -> Executed:
        """Make the plan's copies and compute its calls.

        Runs shielded from cancellation. Whatever it raises is the end of the engine.

        Args:
            plan: Nothing it refers to changes until this returns.
            calls: All live calls by id, for their sampling.
        """


@attrs.define(eq=False, kw_only=True)
class StepLoop(CallLoop):
    """Serves calls on one executor; used once.

    Attributes:
        executor: Computes the steps.
    """

    executor: StepExecutor

    async def _step(self, scheduler: StepScheduler) -> None:
        plan = scheduler.plan(self._now_ns())
        self._deliver(scheduler)
        with anyio.CancelScope(shield=True):
            executed = await self.executor.execute(plan, self._calls)
        samples = {
            call_id: Sampled(sample.token, self._live[call_id].take(sample))
            for call_id, sample in executed.samples.items()
        }
        # Calls may have come in after the executor looked at the clock.
        self._latest_ns = max(self._latest_ns, executed.ended_ns)
        scheduler.commit(
            plan,
            samples,
            forward_at_ns=executed.forward_at_ns,
            ended_ns=self._latest_ns,
        )
        self._deliver(scheduler)
        self._push(samples)
