"""The vLLM engine: calls go in, tokens and reports come out, vLLM does the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import attrs

from autellix.backends.live_call import LiveCall
from autellix.backends.protocol import Capabilities, check_prompt
from autellix.backends.stream import CallStream
from autellix.backends.vllm.delivery import Delivery
from autellix.backends.vllm.engine_args import is_offloading
from autellix.backends.vllm.measuring import measured
from autellix.backends.vllm.names import check_settings
from autellix.backends.vllm.opening import make_driver
from autellix.backends.vllm.options import DEFAULT_MODEL, VllmOptions
from autellix.backends.vllm.steer import Steer
from autellix.core.records import Outcome
from autellix.errors import CallRejected, EngineLost

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.protocol import EngineCall, Tokenizer
    from autellix.backends.vllm.driver import Driver, Opened
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport
    from autellix.core.snapshot import EngineStatistics


@attrs.frozen(kw_only=True)
class _Entered:
    """What an engine holds while it is entered."""

    driver: Driver
    opened: Opened
    tokenizer: Tokenizer
    costs: CostModel


class VllmEngine:
    """An engine that runs a model in vLLM, with our half in its scheduler.

    Making one does no I/O and does not import vLLM; entering it does both.

    Args:
        model: Name or folder.
        settings: The others, as in ``VllmOptions``; an unknown one is a ``TypeError``
            that names the nearest.

    Attributes:
        options: All of them.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, **settings: Any) -> None:
        check_settings(settings, attrs.fields_dict(VllmOptions))
        self.options = VllmOptions(model=model, **settings)
        self._is_entered = False
        self._entered: _Entered | None = None
        self._delivery = Delivery(self.name)
        self._is_serving = False
        self._failure: Exception | None = None
        self._last: EngineStatistics | None = None

    @classmethod
    def from_options(cls, options: VllmOptions) -> Self:
        """Make an engine of settings that were read from a file."""
        return cls(**attrs.asdict(options, recurse=False))

    # -- what it is --------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique in a runtime."""
        return self.options.engine_name

    @property
    def model(self) -> str:
        """What calls name when there are several models."""
        return self.options.model_name

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model; valid once the engine is entered."""
        return self._here.tokenizer

    @property
    def costs(self) -> CostModel:
        """What steps cost; measured or given, valid once the engine is entered."""
        return self._here.costs

    def capabilities(self) -> Capabilities:
        """Return what this engine can do; valid once entered."""
        opened, options = self._here.opened, self.options
        return Capabilities(
            preempts=opened.is_steered and options.preempts,
            swaps=is_offloading(options.engine_args),
            caches_prefixes=opened.caches_prefixes,
            logprobs=True,
            guided_decoding=opened.guides,
            vocabulary_tokens=opened.vocabulary_tokens,
            max_context_tokens=opened.max_context_tokens,
            max_call_tokens=min(opened.max_context_tokens, opened.pool_tokens),
            max_batch_calls=opened.slots,
            intake_limit_calls=options.intake_limit_calls,
        )

    @property
    def _here(self) -> _Entered:
        """What is open.

        Raises:
            EngineLost: The engine is not entered.
        """
        if self._entered is None:
            raise EngineLost(f"engine {self.name!r} is not entered", engine=self.name)
        return self._entered

    # -- its life ----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Import vLLM, load the model, and measure it where no costs are given.

        Raises:
            RuntimeError: It is entered already.
        """
        if self._is_entered:
            raise RuntimeError(f"engine {self.name!r} is in use: leave it first")
        self._is_entered = True
        try:
            self._entered = await self._open()
        except BaseException:  # cancelled too: it may be entered again
            self._is_entered = False
            raise
        return self

    async def _open(self) -> _Entered:
        driver, tokenizer = await make_driver(self.options)
        try:
            opened = await driver.open()
            costs = self.options.costs
            if costs is None:
                costs = await measured(driver, opened, _now_ns())
        except BaseException:  # cancelled too: no process is left behind
            with anyio.CancelScope(shield=True):
                await driver.close()
            raise
        return _Entered(driver=driver, opened=opened, tokenizer=tokenizer, costs=costs)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give everything back; calls still live end as cancelled."""
        entered, self._entered = self._entered, None
        if entered is not None:
            self._last = entered.driver.statistics()
            with anyio.CancelScope(shield=True):
                await entered.driver.close()
        self._is_entered = False

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hand on what comes of calls until cancelled; see ``Engine.serve``.

        Raises:
            EngineLost: vLLM failed; all calls have been ended as failed.
        """
        here = self._here
        await here.driver.steer(
            Steer(
                policy=policy,
                ranking=policy.ranking(here.costs.single_step_ns()),
                costs=here.costs,
                clock_offset_ns=_now_ns() - time.monotonic_ns(),
                hysteresis_levels=self.options.hysteresis_levels,
                preempts=self.options.preempts,
            )
        )
        delivery = self._delivery = Delivery(self.name, listener)
        self._is_serving = True
        try:
            task_status.started()
            while True:
                for call_id in delivery.take(await here.driver.news()):
                    here.driver.abort(call_id)
                # Whoever got a token or a result can act on it before the next step.
                await anyio.lowlevel.checkpoint()
        except Exception as error:  # whatever vLLM raises ends the engine, told
            self._failure = error
            await self._end_all(here.driver, Outcome.FAILED)
            raise EngineLost(
                f"engine {self.name!r} failed: {error}", engine=self.name
            ) from error
        finally:
            await self._end_all(here.driver, Outcome.CANCELLED)

    async def _end_all(self, driver: Driver, outcome: Outcome) -> None:
        if not self._is_serving:
            return
        self._is_serving = False
        try:
            with anyio.CancelScope(shield=True):
                self._delivery.take(await driver.end_all(outcome), self._failure)
        finally:  # those of which nothing is known any more: vLLM's process is gone
            self._delivery.give_up_all(outcome, self._failure, _now_ns())

    def _serving(self) -> Driver:
        if not self._is_serving:
            raise EngineLost(
                f"engine {self.name!r} does not serve", engine=self.name
            ) from self._failure
        return self._here.driver

    # -- calls -------------------------------------------------------------------

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        """Take a call in; see ``Engine.submit``.

        ``UnknownToken`` if an id of the prompt is past the vocabulary.

        Raises:
            CallRejected: It can never fit.
        """
        driver = self._serving()
        spec = call.spec
        where = f"engine {self.name!r}"
        check_prompt(spec.prompt, self._here.opened.vocabulary_tokens, where)
        needed = len(spec.prompt) + spec.max_tokens
        limit = self.capabilities().max_call_tokens
        if needed > limit:
            raise CallRejected(
                needed_tokens=needed,
                limit_tokens=limit,
                where=where,
            )
        stream = CallStream(partial(self._abort, spec.call_id))
        now_ns = _now_ns()
        self._delivery.add(LiveCall(call, stream, ended, self.tokenizer), now_ns)
        driver.send(call, now_ns)
        return stream

    def _abort(self, call_id: int) -> None:
        if self._is_serving and self._delivery.leave(call_id):
            self._here.driver.abort(call_id)

    def forget(self, program_id: int) -> None:
        """Do nothing: vLLM's own cache evicts what was used least recently."""

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        self._serving().update_ranking(version, ranking)

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot; what was counted stays readable afterwards."""
        if self._entered is None and self._last is not None:
            return self._last
        return self._here.driver.statistics()


def _now_ns() -> int:
    return round(anyio.current_time() * 1e9)
