"""Results in a file, a line each: what is there need not be run again.

Results that are published lie packed beside it, and are read with it.
"""

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
    """A file of results, and one of packed results beside it; neither need be there.

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
        store._take_all(store.packed, store._unpacked())
        store._take_all(path, whole)
        return store

    @property
    def packed(self) -> Path:
        """The file of packed results."""
        return self.path.with_name(f"{self.path.name}.xz")

    def pack(self) -> None:
        """Put all results into the packed file, in the order of their keys."""
        import lzma  # noqa: PLC0415 - Pythons built by hand may lack it

        lines = [self._results[key].to_line() for key in sorted(self._results)]
        content = "".join(f"{line}\n" for line in lines).encode()
        written = self.packed.with_suffix(".part")
        written.write_bytes(lzma.compress(content, preset=9))
        written.replace(self.packed)
        self.path.unlink()

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

    def _unpacked(self) -> bytes:
        if not self.packed.exists():
            return b""
        import lzma  # noqa: PLC0415 - Pythons built by hand may lack it

        try:
            return lzma.decompress(self.packed.read_bytes())
        except (OSError, lzma.LZMAError) as error:
            raise ConfigError(f"{self.packed} cannot be read: {error}") from error

    def _take_all(self, path: Path, content: bytes) -> None:
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                result = Result.from_line(line.decode())
            except ValueError as error:
                raise ConfigError(
                    f"{path}:{number}: {error}; take another folder, or move the file "
                    "away"
                ) from error
            self._results[result.point.key] = result
