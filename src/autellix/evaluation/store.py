"""Results in a file, a line each: what is there need not be run again.

Results that are published lie packed beside it, and are read with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import attrs

from autellix.errors import ConfigError
from autellix.evaluation.result import Result

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from autellix.evaluation.point import Point


@attrs.define(eq=False)
class Store:
    """A file of results, and one of packed results beside it; neither need be there.

    A line is there as a whole or not at all: what an interrupt left in the middle of
    one is not read, and cut off when the file is opened to add to it.

    Attributes:
        path: The file.
    """

    path: Path
    _results: dict[str, Result] = attrs.field(factory=dict, init=False)
    _bytes: int = attrs.field(default=0, init=False)  # of the file that are known here

    @classmethod
    def open(cls, path: Path, *, to_add: bool = True) -> Store:
        """Read a file of results.

        Args:
            path: The file.
            to_add: Begin it, if it is not there. Else nothing is written, and it may be
                one that another process adds to.

        Raises:
            ConfigError: It cannot be read or written, a line tells no result, or it is
                to be added to and another process does so.
        """
        store = cls(path)
        try:
            content = store._begun() if to_add else store._there()
        except OSError as error:
            raise ConfigError(
                f"{path}: no results can be put there: {error.strerror}"
            ) from error
        store._take_all(store.packed, store._unpacked())
        store._take_all(path, content)
        store._bytes = len(content)
        return store

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from adding to the file, or all would run the same.

        That another does so is a ``ConfigError``. A process that is killed keeps nobody
        from it; on Windows none does.
        """
        with self.path.open("ab") as file:
            self._lock(file)
            yield

    def add(self, result: Result) -> None:
        """Write a result; it is on the disk when this returns."""
        line = result.to_line().encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._bytes += len(line)
        self._results[result.point.key] = result

    @property
    def packed(self) -> Path:
        """The file of packed results."""
        return self.path.with_name(f"{self.path.name}.xz")

    def pack(self) -> None:
        """Put all results into the packed file, in the order of their keys.

        It does not tell in which folders of this machine traces lie. The other file
        goes, unless somebody has added to it meanwhile.

        Raises:
            ConfigError: There are none, or another process adds to them: it would go on
                writing to a file that has gone.
        """
        if not self._results:
            raise ConfigError(f"there are no results in {self.path.parent}")
        with self.alone() if self.path.exists() else nullcontext():
            self._pack()

    def _pack(self) -> None:
        results = [self._results[key] for key in sorted(self._results)]
        lines = [
            attrs.evolve(result, point=result.point.without_folders()).to_line()
            for result in results
        ]
        content = "".join(f"{line}\n" for line in lines).encode()
        packed = _lzma().compress(content, preset=9)
        part = self.packed.with_suffix(".part")
        with part.open("wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.packed)
        if self.path.exists() and self.path.stat().st_size == self._bytes:
            self.path.unlink()

    def missing(self, points: Iterable[Point]) -> list[Point]:
        """Return the points without a result, each once."""
        wanted = {point.key: point for point in points}
        return [point for key, point in wanted.items() if key not in self._results]

    def of(self, points: Iterable[Point]) -> list[Result]:
        """Return the results that there are of points, in their order, each once."""
        keys = dict.fromkeys(point.key for point in points)
        return [self._results[key] for key in keys if key in self._results]

    def _begun(self) -> bytes:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:  # also: fail now, if it cannot be written
            self._lock(file)  # what another is writing is no end left by an interrupt
            file.seek(0)
            content = file.read()
            whole = _whole_lines(content)
            if len(whole) < len(content):
                file.truncate(len(whole))
        return whole

    def _lock(self, file: BinaryIO) -> None:
        """Lock the file until ``file`` is closed, or this process ends.

        Raises:
            ConfigError: Another process has.
        """
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: another process adds results to it: let it end, or take "
                "another folder"
            ) from error

    def _there(self) -> bytes:
        return _whole_lines(self.path.read_bytes()) if self.path.exists() else b""

    def _unpacked(self) -> bytes:
        if not self.packed.exists():
            return b""
        lzma = _lzma()
        try:
            return bytes(lzma.decompress(self.packed.read_bytes()))
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


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _lzma() -> ModuleType:
    """Return the module.

    Raises:
        ConfigError: It is not there, as where a Python was built without its library.
    """
    try:
        return import_module("lzma")
    except ImportError as error:
        raise ConfigError(
            f"packed results need a Python with the module lzma: {error}"
        ) from error
