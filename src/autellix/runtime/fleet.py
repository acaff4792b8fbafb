"""The engines of a runtime: loaded and left together, and who may take a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio

from autellix.backends.protocol import check_prompt
from autellix.errors import (
    CallRejected,
    EngineLost,
    EngineNameTaken,
    NoEngine,
    UnknownModel,
)
from autellix.runtime.engine_handle import EngineHandle

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from autellix.backends.protocol import Engine, Tokenizer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy

_logger = logging.getLogger(__name__)


class Fleet:
    """All engines of a runtime, in the order in which they were given.

    Args:
        engines: At least one, each with a name of its own.
        shutdown_s: How long they may take to give everything back.
    """

    __slots__ = ("_handles", "_left_at_s", "_models", "_shutdown_s")

    def __init__(self, engines: Sequence[Engine], shutdown_s: float) -> None:
        _check_engines(engines)
        self._shutdown_s = shutdown_s
        self._left_at_s: float | None = None
        self._handles = {engine.name: EngineHandle(engine) for engine in engines}
        self._models: dict[str, list[EngineHandle]] = {}
        for handle in self._handles.values():
            self._models.setdefault(handle.engine.model, []).append(handle)

    # -- life --------------------------------------------------------------------

    async def load(
        self,
        group: TaskGroup,
        policy: Policy,
        tell: Callable[[str, Fact], None],
        lost: Callable[[EngineHandle, EngineLost], None],
    ) -> None:
        """Let all engines live in ``group``; return once every one takes calls.

        Args:
            group: In which one that cannot be loaded raises its ``EngineError``.
            policy: For their schedulers.
            tell: Gets the name of an engine, and its facts.
            lost: Called as soon as an engine is lost.
        """
        for handle in self:
            group.start_soon(
                handle.live,
                policy,
                partial(tell, handle.name),
                lost,
                self._give_up_at_s,
                name=f"engine {handle.name}",
            )
        for handle in self:
            await handle.came_up.wait()

    def note_leaving(self) -> None:
        """Begin to count the time that engines may take to give everything back."""
        self._left_at_s = anyio.current_time()

    def stop(self, group: TaskGroup) -> None:
        """Let all engines end what they are at, and leave; cancel what else runs."""
        for handle in self:
            handle.stop()
        group.start_soon(self._watch_leaving, self._give_up_at_s(), name="leaving")
        group.cancel_scope.cancel()

    def _give_up_at_s(self) -> float:
        """Return when an engine that leaves now has to have given everything back."""
        left_at_s = self._left_at_s
        return (
            anyio.current_time() if left_at_s is None else left_at_s
        ) + self._shutdown_s

    async def _watch_leaving(self, deadline_s: float) -> None:
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

    def forget(self, program_id: int) -> None:
        """Tell all engines that take calls that a program has ended."""
        for handle in self:
            if handle.is_up:
                handle.engine.forget(program_id)

    # -- who is there ------------------------------------------------------------

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
        """Return the tokenizer of a model, also when its engines are lost."""
        return self._models[model][0].tokenizer

    def check_prompt(self, model: str, prompt: Sequence[int]) -> None:
        """Refuse a prompt with ids that an engine of the model cannot take.

        ``UnknownToken`` if it has one.
        """
        sizes = [
            handle.capabilities.vocabulary_tokens for handle in self._models[model]
        ]
        known = [size for size in sizes if size is not None]
        check_prompt(prompt, min(known, default=None), f"model {model!r}")

    def eligible(self, model: str, tokens: int) -> list[EngineHandle]:
        """Return the engines that may take a call of ``tokens`` (B3); maybe none."""
        return [
            handle
            for handle in self._models[model]
            if handle.is_up and tokens <= handle.capabilities.max_call_tokens
        ]

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
        raise NoEngine(engines)
    for engine in engines:
        check_instance(engine, "engine", ("name", "model", "submit", "serve"))
    names = tuple(engine.name for engine in engines)
    for name in names:
        if names.count(name) > 1:
            raise EngineNameTaken(name, names)


def check_instance(value: object, what: str, needed: Sequence[str]) -> None:
    """Check that something can be what it was passed as.

    Raises:
        TypeError: It is a class, or has not all of ``needed``.
    """
    if isinstance(value, type):
        raise TypeError(f"{what}: pass an instance, {value.__name__}(…), not the class")
    if isinstance(value, str):
        told = f"names are for configuration files: {value!r}"
        raise TypeError(f"{what}: pass an instance; {told}")
    missing = [name for name in needed if not hasattr(value, name)]
    if missing:
        raise TypeError(f"not a usable {what}: {value!r} has no {', '.join(missing)}")
