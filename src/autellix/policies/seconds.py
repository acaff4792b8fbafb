"""Seconds at the edge, integer nanoseconds within (rule A1)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NS_PER_S = 1_000_000_000


def to_ns(value_s: float) -> int:
    """Return seconds as nanoseconds, to the nearest; exact for 26 days and back."""
    return round(value_s * NS_PER_S)


def to_seconds(values: Iterable[float]) -> tuple[float, ...]:
    """Return any numbers as a tuple of floats: what a frozen spec keeps."""
    return tuple(float(value) for value in values)


def all_to_ns(values_s: Iterable[float]) -> tuple[int, ...]:
    """Return a sequence of seconds as nanoseconds."""
    return tuple(to_ns(value) for value in values_s)


def is_rising(values_ns: tuple[int, ...]) -> bool:
    """Say whether each value is greater than the one before."""
    return all(a < b for a, b in pairwise(values_ns))
