"""Between the step loop, on the event loop, and the runner, in the engine's thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.backends.step_loop import Executed
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.backends.torch.runner import ModelRunner
    from autellix.backends.torch.worker import Worker
    from autellix.core.plan import Plan


@attrs.define(eq=False)
class TorchExecutor:
    """Computes the step loop's steps in the engine's thread."""

    _worker: Worker
    _runner: ModelRunner | None

    def close(self) -> None:
        """Let go of the model; whoever looks at the loop's counters keeps this."""
        self._runner = None

    async def execute(self, plan: Plan, calls: Mapping[int, EngineCall]) -> Executed:
        """Make the plan's copies and compute its calls; see ``StepExecutor``.

        The time until the worker took the step up counts as before the forward pass.

        Raises:
            InvariantError: The engine has been left.
        """
        if self._runner is None:
            raise InvariantError("a step after the engine was closed")
        sampling = {c.call_id: calls[c.call_id].sampling for c, _ in plan.calls}
        step = await self._worker.run(partial(self._runner.step, plan, sampling))
        ended_ns = max(plan.at_ns, round(anyio.current_time() * 1e9))
        return Executed(
            forward_at_ns=max(plan.at_ns, ended_ns - step.forward_ns),
            ended_ns=ended_ns,
            samples=step.samples,
        )
