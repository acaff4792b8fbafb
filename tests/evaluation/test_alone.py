"""How long a program takes alone."""

import pytest

from autellix.core.cost_model import CostModel
from autellix.evaluation.alone import alone_s
from autellix.evaluation.trial import run_point
from autellix.workloads.trace import TraceCall, TraceProgram
from tests.evaluation.builders import point, setup

COSTS = CostModel(step_ns=10**9, prefill_ns=10**7, decode_ns=10**8)


def program(*calls: TraceCall) -> TraceProgram:
    """Return a program."""
    return TraceProgram(
        program_id="p", program_class="x", source="s", tokenizer="t", calls=calls
    )


def call(*parents: int, **options: float) -> TraceCall:
    """Return a call of 100 prompt and 3 output tokens: 1 + 1 + 2 * 1.1 = 4.2 s."""
    return TraceCall(
        parents=parents,
        prompt_tokens=100,
        output_tokens=3,
        tool_seconds_before=options.get("tool_s"),
    )


def test_calls_in_a_row_and_their_tools_add_up() -> None:
    """A tool that was not recorded takes what the replay takes for it."""
    chain = program(call(), call(0, tool_s=5.0), call(1))
    assert alone_s(chain, COSTS) == pytest.approx(3 * 4.2 + 5.0)
    assert alone_s(chain, COSTS, unrecorded_tool_s=2.0) == pytest.approx(3 * 4.2 + 7.0)


def test_of_branches_the_longest_counts() -> None:
    """They run side by side."""
    fork = program(call(), call(0), call(0, tool_s=3.0), call(1, 2))
    assert alone_s(fork, COSTS) == pytest.approx(3 * 4.2 + 3.0)


def test_what_is_cached_is_not_computed() -> None:
    """A prompt that begins with an earlier one costs the rest only."""
    follow = TraceCall(
        parents=[0],
        prompt_tokens=103,
        output_tokens=1,
        prefix_call=0,
        new_prompt_tokens=3,
    )
    chain = program(call(), follow)
    assert alone_s(chain, COSTS) == pytest.approx(4.2 + 1.03)
    assert alone_s(chain, COSTS, caches_prefixes=False) == pytest.approx(4.2 + 2.03)


def test_no_run_beats_it() -> None:
    """A simulated program with an engine to itself takes about as long, not less."""
    alone = point(programs=1, load=0.01, setup=setup())
    (row,) = run_point(alone).rows
    assert 0.999 <= row.slowdown < 1.1
