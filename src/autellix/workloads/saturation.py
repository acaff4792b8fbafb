"""At which load an engine is full: what loads of a comparison are stated against.

A rate of programs says nothing by itself: what is idle for one cost model is a flood
for another. So loads are given as multiples of saturation, which is computed here from
the trace, the cost model and the caps alone, and so is the same for every policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from autellix.core.cost_model import CostModel
    from autellix.workloads.trace import TraceCall, TraceProgram

_NS_PER_S: Final = 1_000_000_000


def saturation_per_s(
    programs: Sequence[TraceProgram],
    costs: CostModel,
    *,
    slots: int,
    kv_tokens: int | None = None,
    caches_prefixes: bool = True,
) -> float:
    """Return the rate of arrivals at which one engine is just full, programs a second.

    It is 1 over the mean of ``offered_ns`` at a full batch: the engine time a program
    needs where every step is shared by ``full_batch_calls`` calls. An engine cannot
    end programs faster for long, whatever the policy; a policy that evicts what it
    needs again ends them more slowly. Several engines: that many times the rate.

    Args:
        programs: Those that arrive, each as likely; at least one.
        costs: What steps of the engine take.
        slots: Most calls in a step.
        kv_tokens: Tokens whose KV the engine holds; None: enough for all slots.
        caches_prefixes: Whether the engine reuses KV of earlier calls.

    Raises:
        ValueError: There are no programs, or the work costs nothing.
    """
    if not programs:
        raise ValueError(f"saturation is of at least one program: got {programs!r}")
    batch = full_batch_calls(
        programs, slots=slots, kv_tokens=kv_tokens, caches_prefixes=caches_prefixes
    )
    offered = sum(
        offered_ns(program, costs, batch=batch, caches_prefixes=caches_prefixes)
        for program in programs
    )
    if not offered:
        raise ValueError(f"nothing saturates an engine that takes no time: {costs!r}")
    return _NS_PER_S * len(programs) / offered


def offered_ns(
    program: TraceProgram,
    costs: CostModel,
    *,
    batch: int,
    caches_prefixes: bool = True,
) -> int:
    """Return the engine time a program needs in a batch of so many calls, nanoseconds.

    Sum over its calls of:

    * prefill of the prompt after what is cached: the longer of what the trace says it
      shares with an earlier call and with its prefix group, at most all but one token.
      Cached means found: nothing is evicted, and a group's tokens are never computed.
    * ``output_tokens - 1`` decoded tokens, each reading its context (the first token
      comes from the prefill's last step);
    * the fixed time of ``output_tokens`` steps, divided by ``batch``.

    Left out: what an engine does beyond that because its blocks are not filled to the
    last token, a prefill takes several chunks, or KV goes to the host pool and back.
    """
    shared = attrs.evolve(costs, nominal_batch=batch)
    total_ns = 0
    for call in program.calls:
        cached = _cached_tokens(program, call) if caches_prefixes else 0
        total_ns += costs.step_ns // batch
        total_ns += costs.prefill_work_ns(cached, call.prompt_tokens - cached)
        total_ns += shared.decode_works_ns(
            call.prompt_tokens + 1, call.output_tokens - 1
        )
    return total_ns


def full_batch_calls(
    programs: Sequence[TraceProgram],
    *,
    slots: int,
    kv_tokens: int | None = None,
    caches_prefixes: bool = True,
) -> int:
    """Return how many calls run at once on a full engine: slots, or fewer by memory.

    Memory holds ``kv_tokens`` over the mean tokens that a running call holds, each call
    weighted by the steps it runs (its output tokens): its prompt and half its output.
    With a prefix cache, what a prefix group shares is not counted, and what calls with
    the same parents share with the same earlier call is counted once for them all.
    """
    if kv_tokens is None:
        return slots
    steps = 0
    held = 0.0
    for program in programs:
        siblings = Counter(map(_siblings_key, program.calls))
        for call in program.calls:
            prompt: float = call.prompt_tokens
            if caches_prefixes:
                prompt -= _shared_room(program, call, siblings[_siblings_key(call)])
            steps += call.output_tokens
            held += call.output_tokens * (prompt + call.output_tokens / 2)
    return max(1, min(slots, int(kv_tokens * steps / held)))


def _cached_tokens(program: TraceProgram, call: TraceCall) -> int:
    group = program.group_of(call)
    group_tokens = 0 if group is None else group[1]
    return min(max(call.shared_tokens, group_tokens), call.prompt_tokens - 1)


def _siblings_key(call: TraceCall) -> tuple[tuple[int, ...], int | None]:
    return call.parents, call.prefix_call


def _shared_room(program: TraceProgram, call: TraceCall, siblings: int) -> float:
    """Return the tokens of a prompt whose room is another's, or shared evenly."""
    group = program.group_of(call)
    group_tokens = 0 if group is None else group[1]
    beyond_group = max(0, call.shared_tokens - group_tokens)
    return group_tokens + beyond_group * (1 - 1 / siblings)
