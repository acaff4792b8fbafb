"""What vLLM raises when an engine cannot start, as errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from autellix.backends.vllm.names import OURS
from autellix.errors import BackendUnavailable, EngineError, ModelRefused

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.vllm.options import VllmOptions

_ADVICE: Final = re.compile(
    r"\s*(Try (in|de)creasing|To resolve|On the CPU backend|Decrease |Reduce ).*"
)
"""Where vLLM begins to say what to set: words that are not to be set here."""
_WANTS_MORE: Final = (
    "less than requested memory",
    "less than desired",
    "less than the engine's budget",
)
"""What it says where more is asked for than the machine has."""
_KV_LACKS: Final = (
    "memory for the cache blocks",
    "larger than the available KV cache memory",
    "Cannot auto-fit max_model_len",
)
"""What it says where KV of one sequence does not fit in what is left for KV."""
_OUT_OF_MEMORY: Final = re.compile("out of memory|allocate memory", re.IGNORECASE)
"""What torch and the system say, whatever the memory was for."""
_SIZES: Final = ("num_gpu_blocks_override", "kv_cache_memory_bytes")
_NOT_STARTED: Final = "Engine core initialization failed"


def of_a_request() -> tuple[type[Exception], ...]:
    """Return the errors by which vLLM refuses one request and stays up."""
    import vllm

    exceptions: Any = getattr(vllm, "exceptions", None)
    names = ("VLLMClientError", "VLLMValidationError")
    own = next((e for n in names if (e := getattr(exceptions, n, None))), ValueError)
    return (ValueError, TypeError, NotImplementedError, own)


def of_a_model() -> tuple[type[Exception], ...]:
    """Return the errors by which vLLM refuses a model."""
    return (*of_a_request(), RuntimeError, OSError, KeyError, ImportError)


@contextmanager
def refusing(options: VllmOptions, folder: Path, *, is_cpu: bool) -> Iterator[None]:
    """Turn what starting vLLM raises into errors that name model and settings.

    What it is told wrongly is a ``ValueError`` in vLLM as well, so that kind is told
    apart by what it says: too little memory is no fault of the model.

    Args:
        options: What it was told, in our words.
        folder: Of the model.
        is_cpu: Whether this vLLM computes on the CPU.

    Yields:
        Nothing.

    Raises:
        BackendUnavailable: Something it needs for that cannot be imported.
        EngineError: There is too little memory, for one sequence or at all, or vLLM's
            process ended and kept the reason to itself.
        ModelRefused: vLLM does not take the model.
    """
    try:
        yield
    except EngineError:
        raise
    except of_a_model() as error:
        said = " ".join(str(error).split())
        model = f"model {str(folder)!r}"
        if isinstance(error, ImportError):
            raise BackendUnavailable(
                f"vLLM needs for {model} what cannot be imported: {said}",
                engine=options.engine_name,
            ) from error
        if _NOT_STARTED in said:
            raise EngineError(
                f"vLLM's process for {model} did not start; what it printed says why. "
                f"Memory for KV is set by {_size(options, is_cpu=is_cpu)} and "
                f"{_context(options)}",
                engine=options.engine_name,
            ) from error
        short = _short_of_memory(said, options, is_cpu=is_cpu)
        if short is not None:
            raise EngineError(
                f"too little memory for {model}{short}", engine=options.engine_name
            ) from error
        raise ModelRefused(
            f"vLLM does not take {model}: {said}{_translated(said, options)}",
            engine=options.engine_name,
        ) from error


def _short_of_memory(said: str, options: VllmOptions, *, is_cpu: bool) -> str | None:
    """Return what to do where memory is short, and what vLLM says; None if it is not.

    What to set is told only where memory for KV is what is short, or asked too much of.
    """
    size = _size(options, is_cpu=is_cpu)
    if any(words in said for words in _WANTS_MORE):
        return f": lower {size}; vLLM says: {_ADVICE.sub('', said)}"
    if any(words in said for words in _KV_LACKS):
        advice = f"raise {size} or lower {_context(options)}"
        return f": {advice}; vLLM says: {_ADVICE.sub('', said)}"
    if _OUT_OF_MEMORY.search(said):
        return f"; vLLM says: {said}{_translated(said, options)}"
    return None


def _size(options: VllmOptions, *, is_cpu: bool) -> str:
    """Return the setting that memory for KV comes from, with its value."""
    given = options.engine_args
    for name in _SIZES:
        if name in given:
            return f"engine_args.{name} ({given[name]})"
    if is_cpu:
        return f"kv_mib ({options.kv_mib})"
    share = given.get("gpu_memory_utilization", "as vLLM chooses")
    return f"engine_args.gpu_memory_utilization ({share})"


def _context(options: VllmOptions) -> str:
    tokens = options.max_context_tokens
    whole = "None: all that the model takes"
    return f"max_context_tokens ({whole if tokens is None else tokens})"


def _translated(said: str, options: VllmOptions) -> str:
    """Return our words for arguments that vLLM speaks of and nobody is to give it."""
    meant = [
        f"{theirs} here is {ours} ({getattr(options, ours)})"
        for theirs, ours in OURS.items()
        if theirs != ours and hasattr(options, ours) and _speaks_of(theirs, said)
    ]
    return f" ({', '.join(meant)})" if meant else ""


def _speaks_of(name: str, said: str) -> bool:
    """Say whether an argument is named, as in code or as a flag, as a whole word."""
    as_either = name.replace("_", "[-_]")
    return re.search(rf"(?<!\w)(?<!\w-){as_either}(?!-?\w)", said) is not None
