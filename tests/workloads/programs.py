"""Draws valid programs of traces."""

from hypothesis import strategies as st

from autellix.workloads.trace import Trace, TraceCall, TraceProgram

_lengths = st.integers(min_value=1, max_value=40)
_seconds = st.floats(min_value=0, max_value=50)
_names = st.sampled_from(["a", "b", "main", "\u00e4\n", "0"])
_json: st.SearchStrategy[dict[str, int | None]] = st.just({}) | st.dictionaries(
    _names, st.integers() | st.none(), max_size=2
)


@st.composite
def programs(draw: st.DrawFn, *, max_calls: int = 7) -> TraceProgram:
    """Draw a program: any graph of calls, any sharing that can be had."""
    calls: list[TraceCall] = []
    ancestors: list[set[int]] = []
    for call_id in range(draw(st.integers(1, max_calls))):
        parents = draw(st.sets(st.sampled_from(range(call_id)))) if call_id else set()
        before = parents.union(*(ancestors[parent] for parent in parents))
        calls.append(_call(draw, calls, parents, before))
        ancestors.append(before)
    return TraceProgram(
        program_id=draw(_names),
        arrival_s=draw(st.none() | _seconds),
        program_class=draw(_names),
        source="drawn",
        tokenizer="none",
        synthetic=draw(st.lists(_names, max_size=2)),
        meta=draw(_json),
        calls=calls,
    )


def _call(
    draw: st.DrawFn, calls: list[TraceCall], parents: set[int], before: set[int]
) -> TraceCall:
    prefix = draw(st.none() | st.sampled_from(range(len(calls)))) if calls else None
    shared = 0
    if prefix is not None:
        of = calls[prefix]
        most = of.prompt_tokens + of.output_tokens
        if prefix not in before:  # its output is not known, nor what its prompt quotes
            most = 0 if of.prefix_call is not None else of.prompt_tokens
        shared = draw(st.integers(0, most))
    new = draw(st.integers(0 if shared else 1, 20))
    group_tokens = draw(st.none() | st.integers(0, shared + new))
    return TraceCall(
        parents=sorted(parents),
        thread=draw(_names),
        prompt_tokens=shared + new,
        output_tokens=draw(_lengths),
        prefix_call=prefix,
        new_prompt_tokens=new if prefix is not None else shared + new,
        tool_seconds_before=draw(st.none() | _seconds),
        gap=draw(st.none() | _names),
        kind=draw(st.none() | _names),
        prefix_group=None if group_tokens is None else "group",
        group_prefix_tokens=group_tokens,
        latency_s=draw(st.none() | _seconds),
        issued_at_s=draw(st.none() | _seconds),
        hash_runs=draw(st.none() | st.just([(7, 3), (11, 1)])),
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Draw a trace of a few programs."""
    drawn = draw(
        st.lists(programs(), max_size=3, unique_by=lambda program: program.program_id)
    )
    return Trace(
        source=draw(_names),
        program_class=draw(_names),
        block=draw(st.none() | st.integers(1, 512)),
        programs=drawn,
    )
