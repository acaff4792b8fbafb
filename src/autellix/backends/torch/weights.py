"""From what a user calls a model to a folder on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from autellix.backends.torch import smollm2
from autellix.backends.torch.folder_cache import obtain
from autellix.errors import ModelRefused

if TYPE_CHECKING:
    from autellix.backends.torch.folder_cache import Progress

_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt")
_HUB_TIMEOUT_S = 10.0


def resolve(model: str, *, cache_dir: Path | None, progress: Progress) -> Path:
    """Return the Hugging Face folder of ``model``; may take a while the first time.

    Args:
        model: ``smollm2-135m``, a folder, or a name on the Hugging Face hub.
        cache_dir: Where the default model is kept; None: ``default_cache_dir()``.
        progress: Told what is being done.

    Raises:
        ModelRefused: There is no such folder.
    """
    if model == smollm2.NAME:
        cache = cache_dir or default_cache_dir()
        return obtain(cache / smollm2.FOLDER, smollm2.build, progress)
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:  # nobody has that name
        message = f"there is no model folder {model!r}: {error}"
        raise ModelRefused(message, engine="torch") from error
    if folder.is_dir():
        return folder
    if not _could_be_on_hub(model):
        raise ModelRefused(f"there is no model folder {model!r}", engine="torch")
    return _fetch_from_hub(model, progress)


def default_cache_dir() -> Path:
    """Return where caches go by convention of the desktop standard (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "autellix"


def _could_be_on_hub(model: str) -> bool:
    return not model.startswith((".", "~", os.sep)) and 1 <= model.count("/") <= 1


def _fetch_from_hub(model: str, progress: Progress) -> Path:
    """Return the folder of a model on the hub, downloaded where it is not here.

    Raises:
        ModelRefused: It is neither here nor can it be fetched.
    """
    # Slow to import, and needed for hub names alone.
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where it is there
    from huggingface_hub.errors import (  # noqa: PLC0415 - only where it is there
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    progress(f"fetching {model} from the Hugging Face hub", None)
    try:
        folder = snapshot_download(
            model, allow_patterns=list(_HUB_FILES), etag_timeout=_HUB_TIMEOUT_S
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelRefused(
            f"model {model!r} is no folder here, and the Hugging Face hub did not "
            f"give it: {error}",
            engine="torch",
        ) from error
    return Path(folder)
