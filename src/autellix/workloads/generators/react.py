"""Agents that call tools, like BFCL's multi-turn tasks: one thread, short calls."""

from __future__ import annotations

from typing import Final

from autellix.workloads.generators.distributions import (
    Draws,
    Quantiles,
    fields_of,
    shares,
)
from autellix.workloads.trace import Trace, TraceCall, TraceProgram

# Of the trace bfcl_ref of 608 tasks (BFCL v3 multi-turn, counted with cl100k_base).
_TURNS: Final = shares((4, 60, 128, 150, 154, 92, 18, 2))
_CALLS: Final = shares((0, 0, 2, 10, 28, 30, 37, 62, 68, 96, 97, 63, 50, 38, 20, 4, 2))
"""Leaves out one task of 37."""
_TOOL_SETS: Final = 26
"""As many equally likely ones as the 122 measured ones are worth."""
_TOOL_DOCS: Final = Quantiles(
    (
        (0.0, 2834.0),
        (0.05, 3157.0),
        (0.1, 3157.0),
        (0.25, 4145.0),
        (0.5, 4882.0),
        (0.75, 5763.0),
        (0.9, 6681.0),
        (1.0, 6965.0),
    )
)
_TASK: Final = Quantiles(
    (
        (0.0, 16.0),
        (0.05, 25.0),
        (0.25, 36.0),
        (0.5, 47.0),
        (0.75, 68.0),
        (0.9, 95.0),
        (0.99, 125.0),
        (1.0, 183.0),
    )
)
_TOOL_RESULT: Final = Quantiles(
    (
        (0.0, 9.0),
        (0.05, 14.0),
        (0.25, 18.0),
        (0.5, 25.0),
        (0.75, 37.0),
        (0.9, 56.0),
        (0.95, 101.0),
        (0.97, 1521.0),
        (0.98, 3897.0),
        (0.99, 3990.0),
        (0.995, 20043.0),
        (1.0, 20044.0),
    )
)
_MESSAGE: Final = Quantiles(
    (
        (0.0, 9.0),
        (0.05, 17.0),
        (0.25, 30.0),
        (0.5, 40.0),
        (0.75, 53.0),
        (0.9, 82.0),
        (0.95, 170.0),
        (0.99, 439.0),
        (1.0, 759.0),
    )
)
_ACT: Final = Quantiles(
    (
        (0.0, 3.0),
        (0.01, 5.0),
        (0.05, 5.0),
        (0.1, 6.0),
        (0.25, 9.0),
        (0.5, 12.0),
        (0.75, 20.0),
        (0.9, 32.0),
        (0.95, 44.0),
        (0.99, 54.0),
        (0.999, 614.0),
        (1.0, 1218.0),
    )
)
_REPLY: Final = Quantiles(
    (
        (0.0, 7.0),
        (0.01, 13.0),
        (0.05, 19.0),
        (0.25, 27.0),
        (0.5, 40.0),
        (0.75, 64.0),
        (0.9, 118.0),
        (0.95, 148.0),
        (0.99, 246.0),
        (1.0, 347.0),
    )
)
_RESULTS_ALIKE: Final = 0.29
_ACTS_ALIKE: Final = 0.24
_MESSAGES_ALIKE: Final = 0.11


def react(programs: int, *, seed: int = 0) -> Trace:
    """Generate tool-calling agents: turns of a few tool calls and a reply.

    =======================  =======  =======================  =========
    figure                   paper    measured                 generated
    =======================  =======  =======================  =========
    calls a program, mean    10.75    10.1 (p50 10, p99 16)    within 3%
    new prompt tokens        735.06   687 (p50 32)             within 10%
    output tokens            34.14    33.9 (p50 21, p99 197)   within 6%
    prompt tokens, mean               6,292 (p50 5,710)        within 10%
    =======================  =======  =======================  =========

    Prompts begin with the docs of the program's tools, which programs of one tool set
    share (prefix groups). How long tools and people take is not recorded in the
    source: gaps are null. Measured outputs of replies are themselves drawn: the source
    has tool calls only. Width is 1, so depth is the number of calls.

    Args:
        programs: How many.
        seed: Same seed, same programs, however many are asked for.
    """
    return Trace(
        source="generated: react",
        program_class="agent",
        programs=[react_program(number, seed) for number in range(programs)],
    )


def react_program(number: int, seed: int) -> TraceProgram:
    """Generate one agent's task."""
    draws = Draws(f"{seed}/react/{number}")
    tools = draws.one(range(_TOOL_SETS))
    docs = round(_TOOL_DOCS.at((tools + 0.5) / _TOOL_SETS))
    calls: list[TraceCall] = []
    said = docs
    for turn, acts in enumerate(_acts(draws)):
        for act in range(acts + 1):
            is_reply = act == acts
            if act:
                gap, new = "tool", draws.number(_TOOL_RESULT, alike=_RESULTS_ALIKE)
            elif turn:
                gap, new = "user", draws.number(_MESSAGE, alike=_MESSAGES_ALIKE)
            else:
                gap, new = None, draws.number(_TASK)
            output = (
                draws.number(_REPLY)
                if is_reply
                else draws.number(_ACT, alike=_ACTS_ALIKE)
            )
            calls.append(_call(len(calls), said, new, output, gap, is_reply=is_reply))
            said += new + output
    about = fields_of("agent", number, fitted_to="BFCL v3 multi-turn")
    return TraceProgram(
        **about,
        prefix_group=f"react:tools-{tools}",
        group_prefix_tokens=docs,
        calls=calls,
    )


def _acts(draws: Draws) -> list[int]:
    """Return how many tool calls each turn has before its reply.

    Tasks of many turns have few calls in each: calls of a task vary less than a sum
    over independent turns would.
    """
    calls = draws.number(_CALLS)
    acts = [0] * min(calls, draws.number(_TURNS))
    for _ in range(calls - len(acts)):
        acts[draws.one(range(len(acts)))] += 1
    return acts


def _call(
    call_id: int, said: int, new: int, output: int, gap: str | None, *, is_reply: bool
) -> TraceCall:
    return TraceCall(
        parents=[call_id - 1] if call_id else [],
        prompt_tokens=said + new,
        output_tokens=output,
        prefix_call=call_id - 1 if call_id else None,
        new_prompt_tokens=new if call_id else said + new,
        gap=gap,
        kind="reply" if is_reply else "act",
    )
