"""A call of ours as a request of vLLM's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from autellix.backends.vllm.wire import CallTicket

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall


def sampling_params(
    call: EngineCall, submitted_ns: int, end_ids: Collection[int]
) -> Any:
    """Return vLLM's sampling parameters for a call, its ticket in them.

    Text is made on our side, stop strings included, by the code that all engines
    share; vLLM deals in token ids. Where nobody looks at tokens before the end, it
    hands them over at the end.

    Args:
        call: The call.
        submitted_ns: When it was submitted.
        end_ids: Tokens that end a text.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = call.sampling
    schema = sampling.json_schema
    is_watched = call.is_streamed or bool(sampling.stop)
    kind = RequestOutputKind.DELTA if is_watched else RequestOutputKind.FINAL_ONLY
    settings: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or 0,
        "seed": sampling.seed,
        "max_tokens": call.spec.max_tokens,
        "logprobs": sampling.logprobs,
        "ignore_eos": True,  # what ends a text is said here:
        "stop_token_ids": []
        if sampling.ignore_end and schema is None
        else sorted(end_ids),
        "detokenize": False,
        "output_kind": kind,
        "extra_args": CallTicket.of(call.spec, submitted_ns).extra_args(),
    }
    if schema is not None:
        settings["structured_outputs"] = StructuredOutputsParams(json=schema)
    return SamplingParams(**settings)


def watch(params: Any) -> None:
    """Have tokens handed over as they come, for whoever books them from outside."""
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.DELTA


def prompt_of(call: EngineCall) -> Mapping[str, list[int]]:
    """Return the prompt in vLLM's form."""
    return {"prompt_token_ids": list(call.spec.prompt)}
