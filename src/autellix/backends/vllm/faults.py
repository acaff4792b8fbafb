"""What vLLM raises when an engine cannot start, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autellix.errors import EngineError, ModelRefused


def of_a_request() -> tuple[type[Exception], ...]:
    """Return the errors by which vLLM refuses one request and stays up."""
    import vllm

    exceptions: Any = getattr(vllm, "exceptions", None)
    names = ("VLLMClientError", "VLLMValidationError")
    own = next((e for n in names if (e := getattr(exceptions, n, None))), ValueError)
    return (ValueError, TypeError, NotImplementedError, own)


def of_a_model() -> tuple[type[Exception], ...]:
    """Return the errors by which vLLM refuses a model."""
    return (*of_a_request(), RuntimeError, OSError, KeyError)


@contextmanager
def refusing(folder: Path | str) -> Iterator[None]:
    """Turn what starting vLLM raises into errors that name the model.

    What it is told wrongly is a ``ValueError`` in vLLM as well, so that kind is told
    apart by what it says: too little memory is no fault of the model.

    Yields:
        Nothing.

    Raises:
        EngineError: There is too little memory for one sequence.
        ModelRefused: vLLM does not take the model.
    """
    try:
        yield
    except EngineError:
        raise
    except of_a_model() as error:
        said = " ".join(str(error).split())
        if "memory" in said.lower() or "kv cache" in said.lower():
            raise EngineError(
                f"too little memory for model {str(folder)!r}: {said}", engine="vllm"
            ) from error
        raise ModelRefused(
            f"vLLM does not take model {str(folder)!r}: {said}", engine="vllm"
        ) from error
