"""Failures of a user's code, told as its author wants to see them.

A traceback begins in the author's own file. Frames of this library are left out: they
say nothing about what is wrong there, and hide the line that does.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_PACKAGE: Final = str(Path(__file__).parents[1])
_WAY_IN: Final = ("<frozen importlib", str(Path(__file__).parent))
"""What is on the stack of everything that a file does, when imported or when run."""


def traceback_from(error: BaseException, file: Path) -> str:
    """Return the traceback of ``error``, causes included, from ``file`` on."""
    told = traceback.TracebackException.from_exception(error)
    for one in _with_causes(told):
        one.stack = _shown(one.stack, file)
    return "".join(told.format())


def distinct(
    failures: Iterable[tuple[int, BaseException]], file: Path
) -> Iterator[str]:
    """Yield a traceback for each distinct failure, headed by the runs that had it.

    Failures of one class that arose in the same lines are the same, whatever values
    their messages show.

    Args:
        failures: Index and error of each run that failed.
        file: Where tracebacks begin.
    """
    runs: dict[object, list[int]] = {}
    first: dict[object, BaseException] = {}
    for index, error in failures:
        kind = _kind(error)
        runs.setdefault(kind, []).append(index)
        first.setdefault(kind, error)
    for kind, error in first.items():
        yield f"{_heading(runs[kind])}\n{traceback_from(error, file)}"


def line_in(error: BaseException, file: Path) -> int | None:
    """Return the line of ``file`` in which an error arose; None: it did not there."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == file
    ]
    return lines[-1] if lines else None


def _heading(indices: list[int]) -> str:
    if len(indices) == 1:
        return f"[{indices[0]}] failed:"
    return f"[{indices[0]}] failed, and {len(indices) - 1} more in the same way:"


def _kind(error: BaseException) -> object:
    """Return what equal failures have in common: class, and lines passed."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return (
        type(error),
        tuple((frame.filename, frame.lineno) for frame in frames),
        tuple(map(_kind, inner)),
    )


def _with_causes(
    told: traceback.TracebackException,
) -> Iterator[traceback.TracebackException]:
    yield told
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            yield from _with_causes(other)


def _shown(stack: traceback.StackSummary, file: Path) -> traceback.StackSummary:
    """Return the frames from ``file`` on, without ours; with them where all are."""
    frames = [one for one in stack if not one.filename.startswith(_WAY_IN)]
    own = [index for index, one in enumerate(frames) if Path(one.filename) == file]
    theirs = [
        one
        for one in frames[own[0] if own else 0 :]
        if Path(one.filename) == file or not one.filename.startswith(_PACKAGE)
    ]
    return traceback.StackSummary.from_list(theirs or frames)
