"""The demo's two engines: local models, or simulated ones of much the same speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.backends.simulated import SMOLLM2_135M_CPU, SimulatedEngine

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine

NAMES: Final = ("left", "right")
_SLOTS = 6
_TOKEN_BUDGET = 256
_KV_TOKENS = 6144
_HOST_TOKENS = 32_768
_BYTES_A_TOKEN = 4  # of English text; the simulated tokenizer counts bytes


def torch_engines(loading: Callable[[str, float | None], None]) -> Sequence[Engine]:
    """Return two engines with SmolLM2-135M-Instruct; ``loading`` is told what they do.

    An error says so where the extra ``torch`` is not installed.
    """
    from autellix.backends.torch import TorchEngine

    return [
        TorchEngine.from_pretrained(
            name=name,
            slots=_SLOTS,
            token_budget=_TOKEN_BUDGET,
            kv_tokens=_KV_TOKENS,
            host_tokens=_HOST_TOKENS,
            progress=loading,
        )
        for name in NAMES
    ]


def simulated_engines() -> Sequence[Engine]:
    """Return two simulated engines of much the speed that the real ones have."""
    costs = attrs.evolve(
        SMOLLM2_135M_CPU,
        prefill_ns=SMOLLM2_135M_CPU.prefill_ns // _BYTES_A_TOKEN,
        context_ns=SMOLLM2_135M_CPU.context_ns // _BYTES_A_TOKEN,
        pair_ps=SMOLLM2_135M_CPU.pair_ps // _BYTES_A_TOKEN**2,
    )
    return [
        SimulatedEngine(
            name=name,
            costs=costs,
            slots=_SLOTS,
            token_budget=_TOKEN_BUDGET * _BYTES_A_TOKEN,
            kv_tokens=_KV_TOKENS * _BYTES_A_TOKEN,
            host_tokens=_HOST_TOKENS * _BYTES_A_TOKEN,
        )
        for name in NAMES
    ]
