"""The torch engine: the shared step loop over a model that runs in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from autellix.backends.protocol import Capabilities
from autellix.backends.step_loop import StepLoop
from autellix.backends.torch.executor import TorchExecutor
from autellix.backends.torch.options import DEFAULT_MODEL, TorchOptions
from autellix.backends.torch.worker import Worker
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.errors import EngineLost

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.protocol import EngineCall
    from autellix.backends.stream import CallStream
    from autellix.backends.torch.folder_cache import Progress
    from autellix.backends.torch.loading import Loaded
    from autellix.backends.torch.tokenizer import HuggingFaceTokenizer
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport
    from autellix.core.snapshot import EngineStatistics

_log = logging.getLogger(__name__)


def _log_progress(doing: str, share: float | None) -> None:
    _log.info("%s%s", doing, "" if share is None else f" ({share:.0%})")


class TorchEngine:
    """An engine that runs a Hugging Face model on the CPU.

    Making one does no I/O and does not import torch; entering it loads the model, in a
    thread of its own that then computes its steps.

    Args:
        options: Settings.
        progress: Told what loading is at, from that thread; None: a log at level INFO.
    """

    def __init__(
        self, options: TorchOptions, *, progress: Progress | None = None
    ) -> None:
        self.options = options
        self.progress = progress or _log_progress
        self._worker: Worker | None = None
        self._loaded: Loaded | None = None
        self._executor: TorchExecutor | None = None
        self._loop: StepLoop | None = None

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - every setting, to be seen and completed
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        name: str | None = None,
        dtype: str | None = None,
        slots: int = 8,
        token_budget: int = 256,
        kv_tokens: int = 16_384,
        host_tokens: int = 32_768,
        block_tokens: int = 16,
        max_context_tokens: int | None = None,
        threads: int | None = None,
        cache_dir: Path | None = None,
        caches_prefixes: bool = True,
        retains_prefixes: bool = True,
        costs: CostModel | None = None,
        intake_limit_calls: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Make an engine for ``model``; arguments as in ``TorchOptions``."""
        options = TorchOptions(
            model=str(model),
            name=name,
            dtype=dtype,
            slots=slots,
            token_budget=token_budget,
            kv_tokens=kv_tokens,
            host_tokens=host_tokens,
            block_tokens=block_tokens,
            max_context_tokens=max_context_tokens,
            threads=threads,
            cache_dir=cache_dir,
            caches_prefixes=caches_prefixes,
            retains_prefixes=retains_prefixes,
            costs=costs,
            intake_limit_calls=intake_limit_calls,
        )
        return cls(options, progress=progress)

    @property
    def name(self) -> str:
        """Unique in a runtime."""
        return self.options.engine_name

    @property
    def model(self) -> str:
        """What calls name when there are several models."""
        return self.options.model_name

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """Of the model; valid once the engine is entered."""
        return self._entered.tokenizer

    @property
    def costs(self) -> CostModel:
        """What steps and transfers cost; valid once the engine is entered."""
        return self._entered.costs

    async def __aenter__(self) -> Self:
        """Load the model in the engine's thread, and measure it.

        Cancelled, it does not wait: what the thread loads is dropped.

        Raises:
            RuntimeError: It is entered already.
        """
        if self._worker is not None:
            raise RuntimeError(f"engine {self.name!r} is in use: leave it first")
        self._worker = Worker(self.name, threads=self.options.threads)
        self._worker.start()
        try:
            load = partial(_load, self.options, self.progress)
            self._loaded = await self._worker.run(load, may_be_left=True)
        except BaseException:  # cancelled too: no thread is left behind
            self._worker.stop()
            self._worker = None
            raise
        options = self.options
        self._executor = TorchExecutor(self._worker, self._loaded.runner)
        self._loop = StepLoop(
            name=self.name,
            max_call_tokens=self.capabilities().max_call_tokens,
            vocabulary_tokens=self._loaded.vocabulary_tokens,
            limits=StepLimits(slots=options.slots, token_budget=options.token_budget),
            blocks=KVBlocks(
                device_blocks=options.device_blocks,
                host_blocks=options.host_blocks,
                block_tokens=options.block_tokens,
                shares_blocks=False,  # a call's KV is contiguous (rule K1)
                caches_prefixes=options.caches_prefixes,
                retains_prefixes=options.retains_prefixes,
                fingerprint=self._loaded.fingerprint,
            ),
            costs=self._loaded.costs,
            tokenizer=self._loaded.tokenizer,
            executor=self._executor,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End calls that are still live and the thread, and free the model."""
        self._serving.close()
        if self._worker is not None and self._executor is not None:
            self._worker.stop()
            self._executor.close()
        self._worker = self._executor = self._loaded = None

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run steps until cancelled; see ``Engine.serve``."""
        await self._serving.serve(policy, listener, task_status=task_status)

    def capabilities(self) -> Capabilities:
        """Return what this engine can do; valid once entered."""
        options = self.options
        context = self._entered.max_context_tokens
        held = options.device_blocks * options.block_tokens
        return Capabilities(
            preempts=True,
            swaps=options.host_blocks > 0,
            caches_prefixes=options.caches_prefixes,
            logprobs=True,
            max_context_tokens=context,
            max_call_tokens=min(context, held),
            max_batch_calls=options.slots,
            vocabulary_tokens=self._entered.vocabulary_tokens,
            intake_limit_calls=options.intake_limit_calls,
        )

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        """Take a call in; see ``Engine.submit``."""
        return self._serving.submit(call, ended)

    def forget(self, program_id: int) -> None:
        """Take note that a program has ended; see ``Engine.forget``."""
        self._serving.forget(program_id)

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        self._serving.update_ranking(version, ranking)

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot; what was counted stays readable afterwards."""
        return self._serving.statistics()

    @property
    def _entered(self) -> Loaded:
        """What is loaded.

        Raises:
            EngineLost: The engine is not entered, or has been left.
        """
        if self._loaded is None:
            state = "is not entered" if self._loop is None else "has been left"
            raise EngineLost(f"engine {self.name!r} {state}", engine=self.name)
        return self._loaded

    @property
    def _serving(self) -> StepLoop:
        """The loop.

        Raises:
            EngineLost: The engine was never entered.
        """
        if self._loop is None:
            raise EngineLost(f"engine {self.name!r} is not entered", engine=self.name)
        return self._loop


def _load(options: TorchOptions, progress: Progress) -> Loaded:
    # torch and transformers take seconds to import: not on the event loop's thread.
    from autellix.backends.torch.loading import load_engine  # noqa: PLC0415 - only where it is there

    return load_engine(options, progress)
