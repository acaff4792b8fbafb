"""A task group that raises a single error as itself.

Callers of this library catch its errors by class; they do not know which of its calls
stands on a task group.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import attrs

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


@attrs.define(eq=False)
class Tasks:
    """``anyio.create_task_group``, but a group of one error is unwrapped."""

    _group: TaskGroup = attrs.field(factory=anyio.create_task_group, init=False)

    async def __aenter__(self) -> TaskGroup:
        """Enter the group."""
        return await self._group.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Wait for all tasks; they are cancelled when the block failed."""
        try:
            return await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            single = group.exceptions[0]
        if single is error:
            return False
        raise single
