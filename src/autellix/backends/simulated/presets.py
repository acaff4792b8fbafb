"""Cost models of real machines, each with its source and its arithmetic.

They are round figures for studying schedulers, not benchmarks of those machines. What
they have in common: a decode step reads all weights once, so its fixed time is their
size over the memory's bandwidth; reading a token of context is its KV over the same;
prefill is bound by compute, two operations a parameter and token; attention adds four
operations a pair, layer and hidden channel. Transfers are for blocks of 16 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from autellix.core.cost_model import CostModel

LLAMA_8B_A100: Final = CostModel(
    step_ns=10_700_000,
    prefill_ns=103_000,
    decode_ns=51_000,
    context_ns=87,
    pair_ps=3_360,
    transfer_ns=20_000,
    block_transfer_ns=84_000,
)
"""Llama-3.1-8B in bf16 on one A100-SXM4-80GB.

NVIDIA's A100 data sheet: 2,039 GB/s, 312 TFLOP/s in bf16, PCIe 4.0 x16 (31.5 GB/s). The
model card: 8.03 G parameters, 32 layers, hidden size 4,096, 8 KV heads of 128.

* step: 16.06 GB / (0.75 · 2,039 GB/s ≈ 1.5 TB/s) = 10.7 ms
* KV of a token: 2 · 32 layers · 8 heads · 128 · 2 B = 131,072 B; / 1.5 TB/s = 87 ns
* prefill: 16.06 GFLOP / (0.5 · 312 TFLOP/s) = 103 us a token
* decode: the same at peak, 51 us, since part of it hides behind reading the weights
* pair: 4 · 4,096 · 32 = 524 kFLOP / 156 TFLOP/s = 3.36 ns
* block: 16 · 131,072 B / 25 GB/s (pinned memory) = 84 us; 20 us to launch a transfer
"""

LLAMA_8B_H100: Final = CostModel(
    step_ns=6_400_000,
    prefill_ns=32_500,
    decode_ns=16_200,
    context_ns=52,
    pair_ps=1_060,
    transfer_ns=20_000,
    block_transfer_ns=42_000,
)
"""The same model on one H100-SXM5-80GB.

NVIDIA's H100 data sheet: 3.35 TB/s, 989 TFLOP/s in bf16 (dense), PCIe 5.0 x16 (63
GB/s). Same shares of peak as for the A100.

* step: 16.06 GB / 2.5 TB/s = 6.4 ms; context: 131,072 B / 2.5 TB/s = 52 ns
* prefill: 16.06 GFLOP / 495 TFLOP/s = 32.5 us; decode at peak: 16.2 us
* pair: 524 kFLOP / 495 TFLOP/s = 1.06 ns
* block: 2.1 MB / 50 GB/s = 42 us
"""

SMOLLM2_135M_CPU: Final = CostModel(
    step_ns=51_200_000,
    prefill_ns=1_574_000,
    decode_ns=2_800_000,
    context_ns=9_000,
    pair_ps=1_074_000,
    block_transfer_ns=34_000,
)
"""SmolLM2-135M-Instruct in bf16 on one core of an AMD EPYC with AVX-512.

From measurements of a prototype of this library's torch engine (unmodified transformers
modules, one SDPA call a sequence), in CPU time.

* step and decode: 54 ms at batch 1, 141 ms at batch 32, short context: 51.2 ms and
  2.8 ms a sequence
* context: batch 32 at 450 tokens 289 ms (11.9 us a token), batch 8 at 512 tokens 92 ms
  (5.3 us): 9 us
* prefill and pair: 512 tokens in 998 ms, 2,048 in 5,528 ms; solved for both
* block: 512 tokens, 32 blocks, 11.8 MB, in 1.1 ms
"""

FREE: Final = CostModel(step_ns=0, prefill_ns=0, decode_ns=0)
"""No time at all: what is left is the overhead of everything else."""

PRESETS: Final[Mapping[str, CostModel]] = MappingProxyType(
    {
        "llama-8b-a100": LLAMA_8B_A100,
        "llama-8b-h100": LLAMA_8B_H100,
        "smollm2-135m-cpu": SMOLLM2_135M_CPU,
        "free": FREE,
    }
)
"""By the names that configuration files use."""
