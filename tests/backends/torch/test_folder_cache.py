"""Folders that are made once: built whole, or not there; broken ones are built anew."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest

from autellix.backends.torch.folder_cache import Progress, find_damage, obtain


def say_nothing(doing: str, share: float | None) -> None:
    """Drop progress."""


class Builder:
    """Builds a folder of two files and counts how often."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self, folder: Path, progress: Progress) -> None:
        self.builds += 1
        (folder / "weights").write_bytes(b"x" * 5_000)
        (folder / "config").write_text("{}")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    """The second time it is only checked."""
    build = Builder()
    folder = obtain(tmp_path / "cache" / "model", build, say_nothing)
    assert obtain(folder, build, say_nothing) == folder
    assert build.builds == 1
    assert {path.name for path in folder.iterdir()} == {
        "weights",
        "config",
        "manifest.json",
    }
    assert {path.name for path in folder.parent.iterdir()} == {"model", "model.lock"}


def cut(folder: Path) -> None:
    (folder / "weights").write_bytes(b"x" * 4_000)


def flip(folder: Path) -> None:
    (folder / "weights").write_bytes(b"x" * 4_999 + b"y")


def lose(folder: Path) -> None:
    (folder / "config").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def break_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1,")


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"config": 5}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "4000 bytes instead of 5000"),
        (flip, "another checksum"),
        (lose, "config is missing"),
        (lose_manifest, "has no manifest.json"),
        (break_manifest, "cannot be read"),
        (empty_manifest, "cannot be read"),
    ],
)
def test_a_broken_folder_is_built_anew_and_said_so(
    damage: object, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a copy, a flipped byte, a lost file: none is used."""
    build = Builder()
    folder = obtain(tmp_path / "model", build, say_nothing)
    assert callable(damage)
    damage(folder)
    with caplog.at_level(logging.WARNING):
        obtain(folder, build, say_nothing)
    assert build.builds == 2
    assert find_damage(folder) is None
    assert said in caplog.text
    assert (folder / "weights").read_bytes() == b"x" * 5_000


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Neither a folder nor a temporary one."""

    def fail(folder: Path, progress: Progress) -> None:
        (folder / "weights").write_bytes(b"x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        obtain(tmp_path / "model", fail, say_nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["model.lock"]


def test_of_two_that_want_it_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    """They may be in two processes; here two threads, with a lock each."""
    build, said = Builder(), []
    is_building, may_end = threading.Event(), threading.Event()

    def slow(folder: Path, progress: Progress) -> None:
        is_building.set()
        may_end.wait(60)
        build(folder, progress)

    def note(doing: str, share: float | None) -> None:
        said.append(doing)
        may_end.set()

    first = threading.Thread(
        target=obtain, args=(tmp_path / "model", slow, say_nothing)
    )
    first.start()
    assert is_building.wait(60)
    obtain(tmp_path / "model", build, note)
    first.join(60)
    assert build.builds == 1
    (line,) = said
    assert line.startswith("model is being prepared by another engine; ")
