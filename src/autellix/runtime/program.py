"""What agent code holds: one run of an agent, from which calls are made."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import attrs

from autellix.runtime.caller import Caller
from autellix.runtime.chunks import Chunks
from autellix.runtime.context import current_program, set_current

if TYPE_CHECKING:
    from autellix.runtime.dispatch import Dispatch
    from autellix.runtime.request import Request
    from autellix.runtime.session import Session


@attrs.define(eq=False)
class Program(Caller):
    """One run of an agent: a row in the process table while its block runs (rule A8).

    Inside the block ``autellix.current_program()`` is this program, also in child tasks
    and in threads started by anyio's or asyncio's helpers. Leaving the block cancels
    the calls that still run. A program inside a program has a row of its own. Made by
    ``AutellixRuntime.program``; entered once.

    Attributes:
        name: Class of the program; what is learned is learned per class.
    """

    name: str
    _dispatch: Dispatch
    _size_ns: int | None = None
    _session: Session | None = attrs.field(default=None, init=False)
    _outer: Program | None = attrs.field(default=None, init=False)

    @property
    def id(self) -> int:
        """Id of the program, counted up from 0 as programs open; once entered."""
        return self._entered().program_id

    @property
    def is_closed(self) -> bool:
        """Whether its block has ended."""
        return self._session is not None and self._session.is_closed

    async def __aenter__(self) -> Self:
        """Open the program and make it the current one.

        ``RuntimeClosed`` outside of the runtime's block.

        Raises:
            RuntimeError: It has been entered before.
        """
        if self._session is not None:
            raise RuntimeError(f"program {self.name!r} is one run: ask for another one")
        self._session = self._dispatch.open_program(self.name, self._size_ns)
        self._outer = set_current(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what still runs and close the program; waits for nothing."""
        # Left from another context than it was entered in, there is nothing to undo.
        if current_program() is self:
            set_current(self._outer)
        self._outer = None
        self._dispatch.close_program(self._entered())

    def is_of(self, dispatch: Dispatch) -> bool:
        """Say whether this is a program of the runtime that owns ``dispatch``."""
        return self._dispatch is dispatch

    def call(self, request: Request) -> Chunks:
        """Return a call of this program, whatever the current one is."""
        return Chunks(self._dispatch, request, self._entered)

    def _entered(self) -> Session:
        if self._session is None:
            raise RuntimeError(
                f"enter program {self.name!r} first: async with runtime.program(…)"
            )
        return self._session
