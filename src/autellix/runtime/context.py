"""Who asks: known from the context, so that agent code passes nothing around.

Child tasks inherit it, and so do threads started by anyio's and asyncio's helpers. It
is lost in threads of other pools and in other processes; there the program is passed on
and asked directly.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autellix.runtime.program import Program

_current: ContextVar[Program | None] = ContextVar("autellix_program", default=None)


def current_program() -> Program | None:
    """Return the innermost program whose block this code runs in, None outside any."""
    return _current.get()


def set_current(program: Program | None) -> Program | None:
    """Make ``program`` the current one; return the one before."""
    before = _current.get()
    _current.set(program)
    return before
