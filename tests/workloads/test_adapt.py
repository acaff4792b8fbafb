"""An adapted trace is still a valid one, and says what was done to it."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autellix.errors import ConfigError
from autellix.workloads.adapt import (
    CODING,
    GapTimes,
    cap_gaps,
    check_fits,
    fill_gaps,
    scale_tokens,
    without_longer,
)
from autellix.workloads.generators import chat, react
from autellix.workloads.trace import Trace, TraceCall, TraceProgram
from autellix.workloads.trace_file import read_trace, write_trace
from tests.workloads.programs import traces


def _trace(*calls: TraceCall, **fields: str | int) -> Trace:
    about = {"program_id": "p", "program_class": "c", "source": "s", "tokenizer": "t"}
    program = TraceProgram(**{**about, **fields}, calls=calls)  # type: ignore[arg-type]
    return Trace(source="s", program_class="c", programs=[program])


FIRST = TraceCall(
    parents=[], prompt_tokens=100, output_tokens=40, latency_s=1.0, hash_runs=[(1, 2)]
)
NEXT = TraceCall(
    parents=[0],
    prompt_tokens=160,
    output_tokens=7,
    prefix_call=0,
    new_prompt_tokens=20,
    gap="tool",
)


def test_programs_that_do_not_fit_are_dropped_and_counted() -> None:
    """Prompt and output of the longest call are what has to fit."""
    trace = chat(200, seed=3)
    fitting = without_longer(trace, 4_096)
    lengths = [program.longest_call_tokens for program in trace.programs]
    dropped = sum(length > 4_096 for length in lengths)
    assert 0 < dropped < 200
    assert len(fitting.programs) == 200 - dropped
    assert f"without {dropped} of 200 programs over 4096 tokens" in fitting.source
    assert without_longer(trace, max(lengths)) is trace


def test_a_context_that_is_too_short_is_refused() -> None:
    """The message says how many do not fit, what would, and what to do."""
    message = r"1 of 1 programs of 's' do not fit: .* 166 tokens, .* needs 167; leave"
    with pytest.raises(ConfigError, match=message):
        without_longer(_trace(FIRST, NEXT), 166)
    programs = _trace(FIRST, NEXT).programs
    with pytest.raises(ConfigError, match=message):
        check_fits(programs, 166, source="s")
    check_fits(programs, 167, source="s")


def test_programs_that_do_not_fit_are_counted() -> None:
    """Those that do are not, and what to type is told."""
    programs = chat(40, seed=0).programs
    longest = sorted(program.longest_call_tokens for program in programs)
    with pytest.raises(ConfigError, match=r"3 of 40 .*") as caught:
        check_fits(programs, longest[-4], source="chat")
    assert f"the longest needs {longest[-1]}" in str(caught.value)
    assert f"--longest {longest[-4]}," in str(caught.value)


def test_scaling_moves_what_is_shared_with_its_text() -> None:
    """New tokens scale by one factor, quoted outputs by the other."""
    (program,) = scale_tokens(_trace(FIRST, NEXT), prompts=0.1, outputs=0.5).programs
    first, following = program.calls
    assert (first.prompt_tokens, first.output_tokens) == (10, 20)
    assert (following.shared_tokens, following.new_prompt_tokens) == (30, 2)
    assert following.output_tokens == 4
    assert program.meta["scaled"] == {"prompts": 0.1, "outputs": 0.5}
    assert {"prompt_tokens", "output_tokens"} <= set(program.synthetic)
    assert first.latency_s is None
    assert first.hash_runs is None


def test_scaling_takes_the_prefix_of_a_group_along() -> None:
    """Tool docs shrink as the prompts that begin with them do."""
    programs = react(20).programs
    scaled = scale_tokens(react(20), prompts=0.25, outputs=1.0).programs
    for before, after in zip(programs, scaled, strict=True):
        assert before.group_prefix_tokens is not None
        assert after.group_prefix_tokens == before.group_prefix_tokens // 4


_factors = st.floats(min_value=0.01, max_value=30.0)


@given(trace=traces(), prompts=_factors, outputs=_factors)
@settings(max_examples=60)
def test_a_scaled_trace_is_valid(
    trace: Trace,
    prompts: float,
    outputs: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever calls share, and however it rounds: a record that exists is valid."""
    scaled = scale_tokens(trace, prompts=prompts, outputs=outputs)
    path = tmp_path_factory.mktemp("traces") / "trace.jsonl.gz"
    write_trace(path, scaled)
    assert read_trace(path) == scaled


@given(trace=traces())
@settings(max_examples=30)
def test_scaling_by_one_changes_no_length(trace: Trace) -> None:
    """Lengths and sharing are as they were."""
    same = scale_tokens(trace, prompts=1.0, outputs=1.0)
    for before, after in zip(trace.programs, same.programs, strict=True):
        calls = [attrs.evolve(c, latency_s=None, hash_runs=None) for c in before.calls]
        assert list(after.calls) == calls


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_none_is_refused(factor: float) -> None:
    """Nothing scales to nothing."""
    with pytest.raises(ValueError, match="above 0"):
        scale_tokens(_trace(FIRST), prompts=factor, outputs=1.0)


def test_gaps_are_capped() -> None:
    """Shorter ones stay, and what was not recorded stays unrecorded."""
    calls = [attrs.evolve(NEXT, tool_seconds_before=s) for s in (5.0, 90.0, None)]
    (program,) = cap_gaps(_trace(FIRST, *calls), 60.0).programs
    gaps_s = [call.tool_seconds_before for call in program.calls]
    assert gaps_s == [None, 5.0, 60.0, None]
    with pytest.raises(ValueError, match=r"-1\.0 seconds"):
        cap_gaps(_trace(FIRST), -1.0)


def test_unrecorded_gaps_are_drawn_and_marked() -> None:
    """Only null gaps after other calls, of the kinds asked for; others stay."""
    user = attrs.evolve(NEXT, gap="user")
    known = attrs.evolve(NEXT, tool_seconds_before=0.0)
    trace = _trace(FIRST, NEXT, user, known)
    (program,) = fill_gaps(trace, CODING, seed=1, gaps=["tool"]).programs
    first, tool, user, known = program.calls
    assert first.tool_seconds_before is user.tool_seconds_before is None
    assert known.tool_seconds_before == 0.0
    assert tool.tool_seconds_before is not None
    assert "tool_seconds_before" in program.synthetic
    (all_of_it,) = fill_gaps(trace, CODING, seed=1).programs
    assert all_of_it.calls[2].tool_seconds_before is not None


def test_draws_of_gaps_depend_on_seed_and_program_alone() -> None:
    """All policies see the same gaps, whatever else is in the trace."""
    few, many = chat(3), chat(9)
    same = fill_gaps(many, CODING, seed=1).programs[:3]
    assert fill_gaps(few, CODING, seed=1).programs == same
    assert fill_gaps(few, CODING, seed=2).programs != same


def test_gap_times_are_log_normal_up_to_a_cap() -> None:
    """Half are below the median, and none is beyond the cap."""
    times = GapTimes(median_s=2.0, sigma=1.0, most_s=20.0)
    trace = fill_gaps(chat(400), times, seed=0)
    gaps_s = sorted(
        call.tool_seconds_before
        for program in trace.programs
        for call in program.calls
        if call.tool_seconds_before is not None
    )
    assert gaps_s[len(gaps_s) // 2] == pytest.approx(2.0, rel=0.1)
    assert gaps_s[-1] == 20.0


def test_an_adapted_trace_names_all_that_was_done(tmp_path: Path) -> None:
    """The source grows with each step, and survives the file."""
    trace = cap_gaps(scale_tokens(_trace(FIRST, NEXT), prompts=2, outputs=3), 60.0)
    write_trace(tmp_path / "t.gz", trace)
    assert read_trace(tmp_path / "t.gz").source == (
        "s; scaled by 2 (prompts) and 3 (outputs); gaps capped to 60 s"
    )
