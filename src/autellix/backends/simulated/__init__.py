"""Simulated engine: a cost model instead of a model."""

from typing import Final

from autellix.backends.simulated.engine import SimulatedEngine, SimulatedOptions
from autellix.backends.simulated.presets import (
    FREE,
    LLAMA_8B_A100,
    LLAMA_8B_H100,
    PRESETS,
    SMOLLM2_135M_CPU,
)
from autellix.backends.simulated.tokenizer import ByteTokenizer

__all__ = [
    "FREE",
    "LLAMA_8B_A100",
    "LLAMA_8B_H100",
    "PRESETS",
    "SMOLLM2_135M_CPU",
    "ByteTokenizer",
    "SimulatedEngine",
    "SimulatedOptions",
    "backend",
]

backend: Final = (SimulatedOptions, SimulatedEngine.from_options)
"""What the entry point ``simulated`` names: the settings, and what makes an engine."""
