"""Folders that are made once and trusted afterwards only if nothing in them changed.

A folder is built elsewhere and renamed into place whole, so neither a crash nor another
process can leave half of one. Its manifest, written last, holds size and SHA-256 of
every file. Hashing the default model's 270 MB takes 0.2 to 0.6 s, little beside the
seconds that importing torch takes, so there is no cheaper and weaker check.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

_MANIFEST = "manifest.json"
_log = logging.getLogger(__name__)

Progress = Callable[[str, float | None], None]
"""Told what is being done, and how much of it: 0 to 1, None where unknown."""


def obtain(
    folder: Path, build: Callable[[Path, Progress], None], progress: Progress
) -> Path:
    """Return ``folder``, built first if it is not there or broken.

    Of several processes (or threads) one builds, the others wait for it.

    Args:
        folder: Where it is, or is to be.
        build: Fills an empty folder.
        progress: Told what is being done.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(
            f"{folder.name} is being prepared by another engine; it is used here too, "
            "as soon as it is ready",
            None,
        )
        lock.acquire()
    try:
        damage = find_damage(folder)
        if damage is None:
            return folder
        if folder.exists():
            _log.warning("%s is rebuilt: %s", folder, damage)
        _build(folder, build, progress)
    finally:
        lock.release()
    return folder


def _build(
    folder: Path, build: Callable[[Path, Progress], None], progress: Progress
) -> None:
    place = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = place / "new"
        made.mkdir()
        build(made, progress)
        seal(made)
        if folder.exists():
            folder.rename(place / "old")
        made.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the manifest of a folder that is complete."""
    manifest = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a folder that was sealed, None if nothing is."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        files = [
            (folder / name, entry["bytes"], entry["sha256"])
            for name, entry in manifest.items()
        ]
    except FileNotFoundError:
        return f"it has no {_MANIFEST}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {_MANIFEST} cannot be read: {error!r}"
    for path, size, digest in files:
        if not path.is_file():
            return f"{path.name} is missing"
        if path.stat().st_size != size:
            return f"{path.name} has {path.stat().st_size} bytes instead of {size}"
        if _sha256(path) != digest:
            return f"{path.name} has another checksum"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
