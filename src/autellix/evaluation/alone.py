"""How long a program takes with an engine for itself: what slowdowns are against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from autellix.core.cost_model import CostModel
    from autellix.workloads.trace import TraceCall, TraceProgram

_NS_PER_S: Final = 1_000_000_000


def alone_s(
    program: TraceProgram,
    costs: CostModel,
    *,
    unrecorded_tool_s: float = 0.0,
    caches_prefixes: bool = True,
) -> float:
    """Return the length of a program's longest path, seconds.

    Each call counts as if it had every step for itself: the prefill of what no earlier
    call and no prefix group shares, and a step for each output token; before it, its
    tool. Branches do not slow each other down, further chunks of a prefill take no
    step of their own: no engine is faster but for rounding.

    Args:
        program: With gaps filled or not.
        costs: Of the engine.
        unrecorded_tool_s: What a tool takes where the trace does not say.
        caches_prefixes: Whether the engine reuses KV of earlier calls.
    """
    single = attrs.evolve(costs, nominal_batch=1)
    ends_s: list[float] = []
    for call in program.calls:
        begin_s = max((ends_s[parent] for parent in call.parents), default=0.0)
        tool_s = call.tool_seconds_before
        if tool_s is None:
            tool_s = unrecorded_tool_s if call.parents else 0.0
        cached = _cached_tokens(program, call) if caches_prefixes else 0
        ends_s.append(begin_s + tool_s + _call_ns(call, cached, single) / _NS_PER_S)
    return max(ends_s)


def _call_ns(call: TraceCall, cached_tokens: int, single: CostModel) -> int:
    return (
        single.step_ns
        + single.prefill_work_ns(cached_tokens, call.prompt_tokens - cached_tokens)
        + single.decode_works_ns(call.prompt_tokens + 1, call.output_tokens - 1)
    )


def _cached_tokens(program: TraceProgram, call: TraceCall) -> int:
    """Return what is found in the cache, as ``saturation`` counts it."""
    group = program.group_of(call)
    group_tokens = 0 if group is None else group[1]
    return min(max(call.shared_tokens, group_tokens), call.prompt_tokens - 1)
