"""Torch engine: real models on local devices."""

import importlib.util
from typing import Final

from autellix.backends.torch.engine import TorchEngine
from autellix.backends.torch.options import TorchOptions
from autellix.errors import BackendUnavailable

__all__ = ["TorchEngine", "TorchOptions", "backend"]

for _needed in ("torch", "transformers", "safetensors", "filelock"):
    if importlib.util.find_spec(_needed) is None:
        raise BackendUnavailable(
            f"the torch backend needs {_needed!r}, which is not installed: "
            "pip install 'autellix[torch]'",
            engine="torch",
        )

backend: Final = (TorchOptions, TorchEngine)
"""What the entry point ``torch`` names: the settings, and what makes an engine."""
