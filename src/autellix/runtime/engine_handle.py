"""One engine in a runtime: its life from being entered to being left, and its load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.balancers import EngineView
from autellix.errors import EngineLost, InvariantError

if TYPE_CHECKING:
    from autellix.backends.protocol import Capabilities, Engine, Tokenizer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy
    from autellix.core.snapshot import EngineStatistics


@attrs.define(eq=False)
class EngineHandle:
    """One engine, and what the runtime knows of it.

    Attributes:
        engine: The engine itself.
        calls: Its load: calls sent to it and not ended, counted here (rule B2).
        is_up: Whether it takes calls.
        loss: Why it is down, once it was lost.
        was_cut: Whether it had not given everything back when the time was up.
        came_up: Set once it takes calls.
        stopped: Set once it takes no more steps.
    """

    engine: Engine
    calls: int = attrs.field(default=0, init=False)
    is_up: bool = attrs.field(default=False, init=False)
    loss: EngineLost | None = attrs.field(default=None, init=False)
    was_cut: bool = attrs.field(default=False, init=False)
    came_up: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    stopped: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _capabilities: Capabilities | None = attrs.field(default=None, init=False)
    _tokenizer: Tokenizer | None = attrs.field(default=None, init=False)
    _last: EngineStatistics | None = attrs.field(default=None, init=False)
    _serving: anyio.CancelScope | None = attrs.field(default=None, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)

    @property
    def name(self) -> str:
        """Unique in the runtime."""
        return self.engine.name

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do, as it said when it came up.

        Raises:
            InvariantError: It has not come up yet.
        """
        if self._capabilities is None:
            raise InvariantError(f"engine {self.name!r} has not come up yet")
        return self._capabilities

    @property
    def tokenizer(self) -> Tokenizer:
        """The engine's, as it was when it came up: others need it when it is lost.

        Raises:
            InvariantError: It has not come up yet.
        """
        if self._tokenizer is None:
            raise InvariantError(f"engine {self.name!r} has not come up yet")
        return self._tokenizer

    @property
    def intake_limit(self) -> int | None:
        """Most calls it wants at a time (rule B4); None: any."""
        return self.capabilities.intake_limit_calls

    def statistics(self) -> EngineStatistics:
        """Return what the engine says now, or said last before it was left."""
        return self.engine.statistics() if self._last is None else self._last

    def view(self) -> EngineView:
        """Return what a balancer may see of it."""
        return EngineView(
            name=self.engine.name,
            model=self.engine.model,
            calls=self.calls,
            is_up=self.is_up,
            max_call_tokens=self.capabilities.max_call_tokens,
            costs=self.engine.costs,
        )

    async def live(
        self,
        policy: Policy,
        listener: Callable[[Fact], None],
        lost: Callable[[EngineHandle, EngineLost], None],
        give_up_at_s: Callable[[], float],
    ) -> None:
        """Enter the engine, serve until stopped or lost, leave it: in one task.

        Once up it is shielded: when everything is cancelled, what uses the engine must
        be gone before the engine is, or cancelled calls would see a lost engine. And a
        step under way is waited for, however long: leaving frees the memory it uses.
        ``EngineLost`` where it failed before it could take a call.

        Args:
            policy: For the engine's scheduler.
            listener: Gets the engine's facts.
            lost: Called as soon as the engine is lost.
            give_up_at_s: Until when an engine that leaves has to be out.
        """
        try:
            await self.engine.__aenter__()
        except BaseException:  # cancelled too: nobody waits on
            self.stopped.set()
            raise
        try:
            await self._serve(policy, listener, lost)
            self._last = self.engine.statistics()
        finally:
            self.stopped.set()
            await self._leave(give_up_at_s())

    async def _serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None],
        lost: Callable[[EngineHandle, EngineLost], None],
    ) -> None:
        try:
            with anyio.CancelScope() as self._serving:
                came_up = _CameUp(partial(self._come_up, self._serving))
                await self.engine.serve(policy, listener, task_status=came_up)
            if not self._serving.cancel_called:
                words = f"engine {self.name!r} stopped serving by itself"
                lost(self, EngineLost(words, engine=self.name))
        except EngineLost as error:
            if self._capabilities is None:
                raise
            lost(self, error)

    async def _leave(self, deadline_s: float) -> None:
        is_late = anyio.current_time() > deadline_s
        with anyio.CancelScope(deadline=deadline_s, shield=True) as leaving:
            await self.engine.__aexit__(*sys.exc_info())
        self.was_cut = is_late or leaving.cancelled_caught

    def stop(self) -> None:
        """Let the engine end what it is at, and leave."""
        self._is_stopped = True
        if self._serving is not None:
            self._serving.cancel()

    def _come_up(self, serving: anyio.CancelScope) -> None:
        self._capabilities = self.engine.capabilities()
        self._tokenizer = self.engine.tokenizer
        serving.shield = not self._is_stopped
        self.is_up = True
        self.came_up.set()


@attrs.frozen
class _CameUp:
    """The ``task_status`` of an engine; says so before anyone else gets to run."""

    _come_up: Callable[[], None]

    def started(self, value: None = None) -> None:
        del value
        self._come_up()
