"""Results in a file, a line each: what is there need not be run again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from autellix.errors import ConfigError
from autellix.evaluation.result import Result

if TYPE_CHECKING:
    from autellix.evaluation.point import Point


@attrs.define(eq=False)
class Store:
    """A file of results; it may not be there yet.

    A line is there as a whole or not at all: what an interrupt left in the middle of
    one is cut off when the file is opened.

    Attributes:
        path: The file.
    """

    path: Path
    _results: dict[str, Result] = attrs.field(factory=dict, init=False)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Read a file of results, or begin one.

        Raises:
            ConfigError: It cannot be read or written, or a line tells no result.
        """
        store = cls(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:  # also: fail now, if it cannot be written
                file.seek(0)
                content = file.read()
                whole = content[: content.rfind(b"\n") + 1]
                if len(whole) < len(content):
                    file.truncate(len(whole))
        except OSError as error:
            raise ConfigError(
                f"{path}: no results can be put there: {error.strerror}"
            ) from error
        for number, line in enumerate(whole.splitlines(), start=1):
            store._take(number, line)
        return store

    def add(self, result: Result) -> None:
        """Write a result; it is on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write(result.to_line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._results[result.point.key] = result

    def missing(self, points: Iterable[Point]) -> list[Point]:
        """Return the points without a result, each once."""
        wanted = {point.key: point for point in points}
        return [point for key, point in wanted.items() if key not in self._results]

    def of(self, points: Iterable[Point]) -> list[Result]:
        """Return the results that there are of points, in their order, each once."""
        keys = dict.fromkeys(point.key for point in points)
        return [self._results[key] for key in keys if key in self._results]

    def _take(self, number: int, line: bytes) -> None:
        try:
            result = Result.from_line(line.decode())
        except ValueError as error:
            raise ConfigError(
                f"{self.path}:{number}: {error}; take another folder, or move the file "
                "away"
            ) from error
        self._results[result.point.key] = result
