"""Who made a call, and after which others: read off the tasks of a live program.

A call says what it follows only with ``after``. For the others the order of things
tells: a branch is what one task does, a task started by another is a branch of it, and
a branch that goes on after starting others has waited for those that have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import anyio
import attrs

_current: ContextVar[Branch | None] = ContextVar("autellix_branch", default=None)
"""Inherited by every task that is started, so that it knows who started it."""


@attrs.define(eq=False)
class Branch:
    """What one task does for one program.

    Attributes:
        program: Whose; anything that is the program's own.
        task: Id of the task.
        parent: The branch that started it; None of the one that opened the program.
        first: Its first call, counted as the program's calls are submitted.
        ends: Its last call, and earlier ones that had not ended when that was made.
        children: Branches of tasks that it started and that have made calls.
        outer: What was current where its program was opened.
    """

    program: object
    task: int
    parent: Branch | None = None
    first: int | None = None
    ends: list[int] = attrs.field(factory=list)
    children: list[Branch] = attrs.field(factory=list)
    outer: Branch | None = None

    def submit(self, place: int, has_ended: Callable[[int], bool]) -> set[int]:
        """Take in the program's next call; return those that it comes after.

        Of a branch's first call: those after which the branch that started it went on.
        There may be some among them that come before others of them.

        Args:
            place: Of the call in the order in which the program submits.
            has_ended: Says of a call by its place whether it has ended.
        """
        if self.first is None:
            before = set() if self.parent is None else self.parent.tips(has_ended)
            self.first = place
        else:
            before = self.tips(has_ended)
        self.ends = [end for end in self.ends if not has_ended(end)]
        self.ends.append(place)
        return before

    def tips(self, has_ended: Callable[[int], bool]) -> set[int]:
        """Return its last calls, and those of the branches it started after them.

        Its own need not have ended: they may have been given up.
        """
        found: set[int] = set()
        looked_at = [self]
        while looked_at:
            branch = looked_at.pop()
            last = max(branch.ends, default=-1)
            looked_at += [c for c in branch.children if (c.first or 0) > last]
            found |= {e for e in branch.ends if branch is self or has_ended(e)}
        return found


def open_branch(program: object) -> Branch:
    """Note that the task that runs now has opened a program."""
    branch = Branch(program, anyio.get_current_task().id, outer=_current.get())
    _current.set(branch)
    return branch


def close_branch(branch: Branch) -> None:
    """Note that the program of a branch was closed."""
    if _current.get() is branch:
        _current.set(branch.outer)


def current_branch(program: object, main: Branch) -> Branch:
    """Return the branch that the task that runs now is, for a program.

    A task that inherited nothing of the program (a thread of another pool) counts as
    started by the one that opened it.

    Args:
        program: As in ``open_branch``.
        main: The branch that opened it.
    """
    task = anyio.get_current_task().id
    known = _current.get()
    parent = main if known is None or known.program is not program else known
    if parent.task == task:
        return parent
    branch = Branch(program, task, parent)
    parent.children.append(branch)
    _current.set(branch)
    return branch
