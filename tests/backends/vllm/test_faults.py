"""What vLLM says at its start, in our words: of memory, and of arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autellix.backends.vllm import VllmOptions, faults
from autellix.errors import EngineError, ModelRefused

FOLDER = Path("/models/tiny")
GPU_OOM = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "79.11 GiB of which 1.06 GiB is free."
)
SAMPLER = (
    "CUDA out of memory occurred when warming up sampler with 256 dummy requests. "
    "Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing "
    "the engine."
)


@pytest.fixture(autouse=True)
def _without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vLLM have no errors of its own, so that it need not be here."""
    monkeypatch.setattr(faults, "of_a_request", lambda: (ValueError, TypeError))


def raised(
    error: Exception, settings: Mapping[str, Any] | None = None, *, is_cpu: bool = False
) -> EngineError:
    """Return what becomes of an error of vLLM's."""
    options = VllmOptions(**(settings or {}))
    with (
        pytest.raises(EngineError) as caught,
        faults.refusing(options, FOLDER, is_cpu=is_cpu),
    ):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "No available memory for the cache blocks. Try increasing `x`.",
            "raise engine_args.gpu_memory_utilization (as vLLM chooses) or lower",
        ),
        (
            (
                "To serve at least one request with the model's max seq len (4096), "
                "(2.0 GiB KV cache is needed, which is larger than the available KV "
                "cache memory (1.0 GiB). Try increasing `x`."
            ),
            "raise engine_args.gpu_memory_utilization (as vLLM chooses) or lower",
        ),
        (
            (
                "Cannot auto-fit max_model_len: not enough GPU memory available to "
                "serve even a single token. Try increasing `gpu_memory_utilization`."
            ),
            "raise engine_args.gpu_memory_utilization (as vLLM chooses) or lower",
        ),
        (
            (
                "Free memory on device cuda:0 (3/80 GiB) on startup is less than "
                "desired GPU memory utilization (0.9, 72 GiB). Decrease it."
            ),
            "lower engine_args.gpu_memory_utilization (as vLLM chooses)",
        ),
        (
            (
                "Free memory on device cuda:0 (3/80 GiB) on startup is less than the "
                "engine's budget after excluding external process's weights (0.9, 9 "
                "GiB). Decrease it."
            ),
            "lower engine_args.gpu_memory_utilization (as vLLM chooses)",
        ),
    ],
    ids=["none for blocks", "one sequence", "one token", "too much", "past weights"],
)
def test_short_of_memory_for_kv_is_told_with_what_to_set(
    said: str, advice: str
) -> None:
    """In our words; what vLLM advises is left out."""
    error = raised(ValueError(said))
    assert not isinstance(error, ModelRefused)
    assert f"too little memory for model '{FOLDER}': {advice}" in str(error)
    assert "Try increasing" not in str(error)
    assert "Decrease" not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(GPU_OOM),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …"),
    ],
    ids=["GPU", "mapped", "CPU"],
)
def test_out_of_memory_is_told_without_advice(error: Exception) -> None:
    """While weights load, more memory for KV would be the wrong way."""
    told = raised(error)
    assert not isinstance(told, ModelRefused)
    assert str(told) == f"too little memory for model '{FOLDER}'; vLLM says: {error}"


def test_what_vllm_advises_of_other_memory_is_kept_and_translated() -> None:
    """What it would have set has a name here."""
    told = str(raised(RuntimeError(SAMPLER)))
    assert "raise" not in told
    assert told.endswith("initializing the engine. (max_num_seqs here is slots (8))")


@pytest.mark.parametrize(
    "said",
    [
        "out of resource: shared memory, Required: 131072, Hardware limit: 101376",
        "bfloat16 KV cache is not supported by this backend",
        "Either kv_cache_memory_bytes or nothing",
    ],
)
def test_a_word_of_memory_is_no_lack_of_it(said: str) -> None:
    """It is told as it was said."""
    told = raised(ValueError(said))
    assert isinstance(told, ModelRefused)
    assert str(told) == f"vLLM does not take model '{FOLDER}': {said}"


@pytest.mark.parametrize(
    ("said", "translated"),
    [
        ("block_size must be a multiple of 16", True),
        ("--block-size=7 is no multiple of 16", True),
        ("`block_size`: 7", True),
        ("CacheConfig.block_size is 7", True),
        ("hash_block_size must divide it", False),
        ("--hash-block-size must divide it", False),
        ("block_size_bytes is too large", False),
        ("--block-size-bytes is too large", False),
        ("blocks have a size", False),
    ],
)
def test_arguments_are_translated_by_whole_words(
    said: str, *, translated: bool
) -> None:
    """A longer name is another argument, and not ours."""
    told = str(raised(ValueError(said), {"block_tokens": 7}))
    end = " (block_size here is block_tokens (7))" if translated else ""
    assert told == f"vLLM does not take model '{FOLDER}': {said}{end}"
