"""Checks of arguments, whose messages give the name, what is wanted, and what came.

attrs' own say the same in four lines of its internals, or let a string through until
something is computed with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import attrs

Check: TypeAlias = "Callable[[object, attrs.Attribute[Any], Any], None]"


def integer(least: int | None = None, *, or_none: bool = False) -> Check:
    """Check for an integer, at least ``least``."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if or_none and value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"'{field.name}' must be an integer: {value!r}")
        if least is not None and value < least:
            raise ValueError(f"'{field.name}' must be >= {least}: {value!r}")

    return check


def number(
    *, least: float | None = None, above: float | None = None, most: float | None = None
) -> Check:
    """Check for a number in a range; NaN is in none."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"'{field.name}' must be a number: {value!r}")
        if least is not None and not value >= least:
            raise ValueError(f"'{field.name}' must be >= {least}: {value!r}")
        if above is not None and not value > above:
            raise ValueError(f"'{field.name}' must be > {above}: {value!r}")
        if most is not None and not value <= most:
            raise ValueError(f"'{field.name}' must be <= {most}: {value!r}")

    return check


def boolean(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a truth value.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"'{field.name}' must be a boolean: {value!r}")


def one_of(choices: Collection[str], *, or_none: bool = False) -> Check:
    """Check for one of a few strings."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if or_none and value is None:
            return
        if value not in choices:
            known = ", ".join(map(repr, choices))
            raise ValueError(f"'{field.name}' must be one of {known}: {value!r}")

    return check


def string(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a string that is not empty.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"'{field.name}' must be a string: {value!r}")
    if not value:
        raise ValueError(f"'{field.name}' must not be empty: {value!r}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question after the known word nearest to ``word``; empty if none is."""
    words = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"; did you mean {words[near[0]]!r}?" if near else ""
