"""The engines of a runtime: their lives, their loads, and who may take a call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.balancers import EngineView
from autellix.errors import CallRejected, EngineLost, InvariantError, UnknownModel

if TYPE_CHECKING:
    from autellix.backends.protocol import Capabilities, Engine, Tokenizer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy

_logger = logging.getLogger(__name__)


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
    def intake_limit(self) -> int | None:
        """Most calls it wants at a time (rule B4); None: any."""
        return self.capabilities.intake_limit_calls

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
        except BaseException:
            self.stopped.set()
            raise
        try:
            await self._serve(policy, listener, lost)
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


class Fleet:
    """All engines of a runtime, in the order in which they were given."""

    __slots__ = ("_handles", "_models")

    def __init__(self, engines: Sequence[Engine]) -> None:
        _check_engines(engines)
        self._handles = {engine.name: EngineHandle(engine) for engine in engines}
        self._models: dict[str, list[EngineHandle]] = {}
        for handle in self._handles.values():
            self._models.setdefault(handle.engine.model, []).append(handle)

    def __iter__(self) -> Iterator[EngineHandle]:
        """Iterate over the engines, those that are down included."""
        return iter(self._handles.values())

    def __getitem__(self, name: str) -> EngineHandle:
        """Return the engine of that name."""
        return self._handles[name]

    def model(self, name: str | None) -> str:
        """Return the model that a call names, or the only one there is.

        Raises:
            UnknownModel: No engine runs it, or none is named where there are several.
        """
        if name is None and len(self._models) == 1:
            return next(iter(self._models))
        if name is None or name not in self._models:
            raise UnknownModel(name, tuple(self._models))
        return name

    def tokenizer(self, model: str) -> Tokenizer:
        """Return the tokenizer of a model."""
        return self._models[model][0].engine.tokenizer

    def eligible(self, model: str, tokens: int) -> list[EngineHandle]:
        """Return the engines that may take a call of ``tokens`` (B3); maybe none."""
        return [
            handle
            for handle in self._models[model]
            if handle.is_up and tokens <= handle.capabilities.max_call_tokens
        ]

    async def watch_leaving(self, deadline_s: float) -> None:
        """Say which engines are at a step still, if any are when the time is up."""
        began_s = anyio.current_time()
        with anyio.CancelScope(deadline=deadline_s, shield=True) as waiting:
            for handle in self:
                await handle.stopped.wait()
        if waiting.cancelled_caught:
            slow = [handle.name for handle in self if not handle.stopped.is_set()]
            _logger.warning(
                "leaving waits for a step under way, after %g s: %s",
                deadline_s - began_s,
                ", ".join(map(repr, slow)),
            )

    def refusal(self, model: str, tokens: int) -> CallRejected | EngineLost:
        """Return why none takes a call: too large (S9), or those it fits are lost."""
        handles = self._models[model]
        limit = max(handle.capabilities.max_call_tokens for handle in handles)
        if tokens > limit:
            where = f"the largest engine of model {model!r}"
            return CallRejected(needed_tokens=tokens, limit_tokens=limit, where=where)
        down = next(
            handle
            for handle in handles
            if not handle.is_up and tokens <= handle.capabilities.max_call_tokens
        )
        error = EngineLost(
            f"no engine of model {model!r} is up that could take {tokens} tokens; "
            f"{down.name!r} was lost",
            engine=down.name,
        )
        error.__cause__ = down.loss
        return error


def _check_engines(engines: Sequence[Engine]) -> None:
    if not isinstance(engines, Sequence):
        raise TypeError(f"engines is a sequence of engines: got {engines!r}")
    if not engines:
        raise ValueError(f"a runtime needs at least one engine: got {engines!r}")
    for engine in engines:
        check_instance(engine, "engine", ("name", "model", "submit", "serve"))
    names = [engine.name for engine in engines]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two engines are named {name!r}: names are {names!r}")


def check_instance(value: object, what: str, needed: Sequence[str]) -> None:
    """Check that something can be what it was passed as.

    Raises:
        TypeError: It is a class, or has not all of ``needed``.
    """
    if isinstance(value, type):
        raise TypeError(f"{what}: pass an instance, {value.__name__}(…), not the class")
    missing = [name for name in needed if not hasattr(value, name)]
    if missing:
        raise TypeError(f"not a usable {what}: {value!r} has no {', '.join(missing)}")
