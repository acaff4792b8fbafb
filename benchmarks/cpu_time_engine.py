"""A torch engine under virtual time whose steps last the CPU time they really take.

The model computes every step, on one thread of this process, and the clock then goes on
by the CPU time that took. So other work on the machine slows the experiment, not what
it measures, and several engines run side by side in virtual time as on cores of their
own, though they compute one after the other. What it leaves out: deciding, booking and
handing tokens over, and what engines that really run at once cost one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import thread_time_ns
from typing import TYPE_CHECKING, Any, Self

import anyio
import attrs
import torch

from autellix.backends.step_loop import Executed, StepLoop
from autellix.backends.torch import TorchEngine, TorchOptions
from autellix.backends.torch.loading import load_engine
from autellix.core.cost_model import CostModel
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.backends.torch.runner import ModelRunner
    from autellix.core.plan import Plan
    from autellix.evaluation import Setup


@attrs.frozen(eq=False)
class CpuTimeExecutor:
    """Computes steps where it is called, and lets their CPU time pass.

    Attributes:
        runner: Of the model.
    """

    runner: ModelRunner

    async def execute(self, plan: Plan, calls: Mapping[int, EngineCall]) -> Executed:
        """Make the plan's copies and compute its calls; see ``StepExecutor``."""
        sampling = {c.call_id: calls[c.call_id].sampling for c, _ in plan.calls}
        began_ns = thread_time_ns()
        step = self.runner.step(plan, sampling)
        spent_ns = thread_time_ns() - began_ns
        ended_ns = plan.at_ns + spent_ns
        await anyio.sleep_until(ended_ns / 1e9)
        moved_ns = min(spent_ns, step.moved_ns)
        return Executed(
            forward_at_ns=plan.at_ns + moved_ns, ended_ns=ended_ns, samples=step.samples
        )


def cpu_time_engines(setup: Setup) -> list[CpuTimeEngine]:
    """Return engines of a set-up of torch engines, not entered."""
    return [
        CpuTimeEngine(TorchOptions(name=f"engine-{number}", **_options(setup)))
        for number in range(setup.engines)
    ]


def _options(setup: Setup) -> dict[str, Any]:
    options = dict(setup.options)
    if "costs" in options:
        options["costs"] = CostModel(**options["costs"])
    return options


class CpuTimeEngine(TorchEngine):
    """A torch engine for ``run_virtual``; loads where it is entered, with no thread."""

    async def __aenter__(self) -> Self:
        """Load the model."""
        torch.set_num_threads(1)
        options = self.options
        self._loaded = load_engine(options, lambda *_: None)
        self._loop = StepLoop(
            name=self.name,
            max_call_tokens=self.capabilities().max_call_tokens,
            vocabulary_tokens=self._loaded.vocabulary_tokens,
            limits=StepLimits(slots=options.slots, token_budget=options.token_budget),
            blocks=KVBlocks(
                device_blocks=options.device_blocks,
                host_blocks=options.host_blocks,
                block_tokens=options.block_tokens,
                shares_blocks=False,
                caches_prefixes=options.caches_prefixes,
                fingerprint=self._loaded.fingerprint,
            ),
            costs=self._loaded.costs,
            tokenizer=self._loaded.tokenizer,
            executor=CpuTimeExecutor(self._loaded.runner),
        )
        return self
