"""What happens to programs and calls, for whoever listens; free when nobody does."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
import attrs

_logger = logging.getLogger(__name__)

MOST_UNREAD: Final = 65_536
"""Events that a stream keeps for a reader who does not come."""

Detail: TypeAlias = int | float | str | bool


class EventKind(StrEnum):
    """What happened."""

    PROGRAM_OPENED = "program_opened"
    PROGRAM_CLOSED = "program_closed"
    SUBMITTED = "submitted"
    BOUND = "bound"
    """The call's engine was chosen, and it was sent there."""
    SCHEDULED = "scheduled"
    """The call entered the batch for the first time."""
    FIRST_TOKEN = "first_token"  # noqa: S105 - not a password
    PREEMPTED = "preempted"
    RESUMED = "resumed"
    DEMOTED = "demoted"
    RAISED = "raised"
    """Placed on a better level by age or another ranking; only tables do that."""
    PROMOTED = "promoted"
    """Its program starved."""
    RESERVED = "reserved"
    ENDED = "ended"
    RETRIED = "retried"
    """Its engine was lost; this is the call's new id, ``was`` the old one."""
    ENGINE_LOST = "engine_lost"


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened, at one instant of the event loop's clock.

    Attributes:
        at_s: When.
        kind: What.
        program: Id of the program, counted up from 0 as programs open.
        program_class: The name given to ``runtime.program(name)``.
        call: Id of the call, counted up from 0 as calls are submitted.
        engine: Name of the engine.
        details: What else there is to say, by kind: numbers and words only.
        tokens: Ids of the prompt of a submitted call; of the output of an ended one,
            as far as its consumer has taken it. Not part of the JSON, nor of what a
            stream gives: unread events would hold every prompt.
    """

    at_s: float
    kind: EventKind
    program: int | None = None
    program_class: str | None = None
    call: int | None = None
    engine: str | None = None
    details: Mapping[str, Detail] = attrs.field(factory=dict)
    tokens: Sequence[int] = attrs.field(default=(), eq=False, repr=False)

    def to_json(self) -> str:
        """Return one line of JSON; equal events give equal lines."""
        fields = {
            "at_s": self.at_s,
            "kind": self.kind.value,
            "program": self.program,
            "program_class": self.program_class,
            "call": self.call,
            "engine": self.engine,
            **self.details,
        }
        said = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(said, separators=(",", ":"))


Listener: TypeAlias = Callable[[Event], None]


class Events:
    """Hands events to listeners, in the order in which they happened.

    Attributes:
        listeners: Who listens. Look whether there is one before making an event.
    """

    __slots__ = ("_open_streams", "listeners")

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self._open_streams: list[EventStream] = []

    @contextmanager
    def listen(self, listener: Listener) -> Iterator[None]:
        """Call ``listener`` with every event while the block runs."""
        self.listeners = (*self.listeners, listener)
        try:
            yield
        finally:
            self._remove(listener)

    @contextmanager
    def feed(self, stream: EventStream) -> Iterator[None]:
        """Hand every event to ``stream`` while the block runs."""
        self._open_streams.append(stream)
        try:
            with self.listen(stream.take):
                yield
        finally:
            self._open_streams.remove(stream)

    def close(self) -> None:
        """Say that nothing happens any more."""
        for stream in self._open_streams:
            stream.close()

    def emit(self, event: Event) -> None:
        """Hand an event to all listeners.

        A listener that raises is not called again: what watches a scheduler must not be
        able to stop it. The error is logged.
        """
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:  # a listener's own; logged
                _logger.exception("event listener %r failed and was removed", listener)
                self._remove(listener)

    def _remove(self, listener: Listener) -> None:
        if listener in self.listeners:  # or it failed, and is gone already
            at = self.listeners.index(listener)
            self.listeners = self.listeners[:at] + self.listeners[at + 1 :]


@attrs.define(eq=False)
class EventStream:
    """Events as they come, to be iterated; ends when the runtime does.

    Attributes:
        dropped: Events lost, oldest first, because too many were unread.
    """

    _events: Events
    dropped: int = attrs.field(default=0, init=False)
    _unread: deque[Event] = attrs.field(factory=deque, init=False)
    _news: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    _listening: ExitStack = attrs.field(factory=ExitStack, init=False)

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._listening.enter_context(self._events.feed(self))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self._listening.close()
        self.close()

    def __aiter__(self) -> Self:
        """Iterate over events."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: The runtime has ended, and all is read.
        """
        while not self._unread:
            if self._is_closed:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        return self._unread.popleft()

    def close(self) -> None:
        """End the stream once all is read."""
        self._is_closed = True
        self._news.set()

    def take(self, event: Event) -> None:
        """Keep an event until it is read."""
        if len(self._unread) == MOST_UNREAD:
            self._unread.popleft()
            self.dropped += 1
        self._unread.append(attrs.evolve(event, tokens=()) if event.tokens else event)
        self._news.set()
