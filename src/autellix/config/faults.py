"""Faults of a file: located each, collected, and told all together.

Who mends a file wants to hear of everything that is wrong with it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

import attrs

from autellix.errors import ConfigError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_KEY_FIRST = re.compile(r"'?(\w+)")  # attrs writes: 'slots' must be >= 1: 0


class Faults(Exception):
    """All that is wrong with a table, or with a whole file.

    Attributes:
        faults: One or more, each with its path.
    """

    def __init__(self, faults: Sequence[ConfigError]) -> None:
        self.faults = faults
        super().__init__(f"{len(faults)} faults")

    def together(self, where: str) -> ConfigError:
        """Return the first fault; the others, and ``where``, are notes on it."""
        first, *others = self.faults
        for other in others:
            first.add_note(f"also: {other}")
        first.add_note(where)
        return first


@attrs.define(eq=False)
class Findings:
    """Collects faults while one part of a file is looked at after the other.

    Attributes:
        faults: As they were found.
    """

    faults: list[ConfigError] = attrs.field(factory=list, init=False)

    def of(self, make: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Return ``make(*args)``; None where that finds faults, which are kept."""
        try:
            return make(*args)
        except Faults as found:
            self.faults += found.faults
        except ConfigError as fault:
            self.faults.append(fault)
        return None

    def check(self) -> None:
        """Go on only if nothing was found.

        Raises:
            Faults: Something was.
        """
        if self.faults:
            raise Faults(self.faults)


def joined(path: str, key: str) -> str:
    """Return the dotted path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path and key else path or key


def too_large(value: object) -> str:
    """Say of a value that it holds a number nobody can count with."""
    return f"a number is too large: {value!r}"


def faults_in(
    error: BaseException,
    value: Mapping[str, Any],
    keys: Collection[str],
    path: str = "",
) -> Iterator[ConfigError]:
    """Take cattrs' tree of errors apart.

    Args:
        error: A branch or a leaf of it.
        value: The table it is about.
        keys: Those that the table may have.
        path: From the table to what the error is about.

    Yields:
        Each fault, with its path.
    """
    from cattrs.errors import BaseValidationError

    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            where = f"{path}{_place_of(inner)}".strip(".")
            if isinstance(inner, KeyError) and where not in value:
                continue  # a key that is not there; whoever knows which are needed asks
            yield from faults_in(inner, value, keys, where)
    elif isinstance(error, Faults):
        for fault in error.faults:
            yield ConfigError(fault.message, path=joined(path, fault.path))
    else:
        is_large = isinstance(error, OverflowError)
        message = too_large(value) if is_large else str(error.args[0])
        named = _KEY_FIRST.match(message)
        key = named[1] if named and not path and named[1] in keys else ""
        yield ConfigError(message, path=joined(path, key))


def _place_of(error: BaseException) -> str:
    """Return where in its table or list an error arose: ``.key``, ``[2]``, nothing."""
    from cattrs.errors import AttributeValidationNote, IterableValidationNote

    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""
