"""vLLM engine: the same policy, inside vLLM's own scheduler."""

from typing import Final

from autellix.backends.vllm.engine import VllmEngine
from autellix.backends.vllm.options import DriverKind, VllmOptions

__all__ = ["DriverKind", "VllmEngine", "VllmOptions", "backend"]

backend: Final = (VllmOptions, VllmEngine.from_options)
"""What the entry point ``vllm`` names: the settings, and what makes an engine."""
