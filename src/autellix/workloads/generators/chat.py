"""Conversations like those of ShareGPT: one thread, very long tails."""

from __future__ import annotations

from typing import Final

from autellix.workloads.generators.distributions import (
    Draws,
    Quantiles,
    fields_of,
    shares,
)
from autellix.workloads.trace import Trace, TraceCall, TraceProgram

# Of the trace sharegpt of 4,228 conversations (ShareGPT V3, counted with cl100k_base).
_CALLS: Final = shares(
    (3018, 1578, 1083, 802, 530, 400, 350, 281, 199, 232, 123, 156, 140, 102, 114),
    (0.95, 22.0),
    (0.97, 30.0),
    (0.98, 38.0),
    (0.99, 56.0),
    (0.995, 74.0),
    (0.997, 91.0),
    (0.998, 146.0),
    (0.999, 201.0),
    (1.0, 300.0),
)
_FIRST_PROMPT: Final = Quantiles(
    (
        (0.0, 7.0),
        (0.05, 11.0),
        (0.1, 14.0),
        (0.25, 19.0),
        (0.5, 31.0),
        (0.75, 85.0),
        (0.9, 293.0),
        (0.95, 649.0),
        (0.99, 2204.0),
        (0.999, 4504.0),
        (1.0, 20445.0),
    )
)
_MESSAGE: Final = Quantiles(
    (
        (0.0, 8.0),
        (0.05, 11.0),
        (0.1, 13.0),
        (0.25, 17.0),
        (0.5, 25.0),
        (0.75, 49.0),
        (0.9, 135.0),
        (0.95, 337.0),
        (0.99, 1076.0),
        (0.999, 3289.0),
        (0.9999, 6099.0),
        (1.0, 20445.0),  # leaves out one message of 161,289
    )
)
_OUTPUT: Final = Quantiles(
    (
        (0.0, 1.0),
        (0.01, 3.0),
        (0.05, 22.0),
        (0.1, 46.0),
        (0.25, 131.0),
        (0.5, 251.0),
        (0.75, 375.0),
        (0.9, 540.0),
        (0.95, 661.0),
        (0.99, 769.0),
        (0.9999, 1070.0),
        (1.0, 1431.0),
    )
)
_MESSAGES_ALIKE: Final = 0.43
_OUTPUTS_ALIKE: Final = 0.54


def chat(programs: int, *, seed: int = 0) -> Trace:
    """Generate conversations; each turn's prompt is all that was said before.

    =======================  =======  =====================  =========
    figure                   paper    measured               generated
    =======================  =======  =====================  =========
    calls a program, mean    6.66     6.48 (p50 3, p99 56)   within 5%
    new prompt tokens        255.65   99 (p50 26)            within 5%
    output tokens            276.81   275 (p50 251, p99 769) within 4%
    prompt tokens                     6,202 (p50 1,753)      within 10%
    =======================  =======  =====================  =========

    The paper's prompt tokens are not comparable: it does not say whether it counts the
    whole prompt or what is new. Outputs and messages of one conversation are alike, as
    measured (normal-score correlation of neighbours 0.54 and 0.43). The time a person
    takes is not recorded in the source: gaps are null.

    Width is 1, so depth is the number of calls.

    Args:
        programs: How many.
        seed: Same seed, same programs, however many are asked for.
    """
    return Trace(
        source="generated: chat",
        program_class="chat",
        programs=[chat_program(number, seed) for number in range(programs)],
    )


def chat_program(number: int, seed: int) -> TraceProgram:
    """Generate one conversation."""
    draws = Draws(f"{seed}/chat/{number}")
    calls: list[TraceCall] = []
    said = 0
    for turn in range(draws.number(_CALLS)):
        new = (
            draws.number(_MESSAGE, alike=_MESSAGES_ALIKE)
            if turn
            else draws.number(_FIRST_PROMPT)
        )
        output = draws.number(_OUTPUT, alike=_OUTPUTS_ALIKE)
        calls.append(
            TraceCall(
                parents=[turn - 1] if turn else [],
                prompt_tokens=said + new,
                output_tokens=output,
                prefix_call=turn - 1 if turn else None,
                new_prompt_tokens=new,
                gap="user" if turn else None,
                kind="reply",
            )
        )
        said += new + output
    about = fields_of("chat", number, fitted_to="ShareGPT V3")
    return TraceProgram(**about, calls=calls)
