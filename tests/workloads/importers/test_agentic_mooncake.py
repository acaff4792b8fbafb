"""Rows that wait for others become programs of any shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from autellix.errors import TraceError
from autellix.workloads.importers import read_agentic_mooncake
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import read_trace, write_trace

HEADER = {
    "schema": "dynamo.agentic_mooncake",
    "version": 2,
    "block_size": 64,
    "hash_id_scope": "local",
    "source": {"format": "weka", "digest": "0"},
}


def _row(name: str, **fields: Any) -> dict[str, Any]:
    lengths = {"input_length": 100, "output_length": 5}
    return {"request_id": name, **lengths, **fields}


def _dependency(name: str, **fields: Any) -> dict[str, Any]:
    usual = {"trigger": "completion", "delay_ms": 0.0, "relation": "sequence"}
    return {"request_id": name, **usual, **fields}


def _read(tmp_path: Path, *rows: Any) -> Trace:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trace = read_agentic_mooncake(path)
    write_trace(tmp_path / "out.gz", trace)
    assert read_trace(tmp_path / "out.gz") == trace
    return trace


def test_what_a_row_waits_for_are_its_parents(tmp_path: Path) -> None:
    """In any order of rows; waits add up; what is not said is not recorded."""
    trace = _read(
        tmp_path,
        _row("join", wait_for=["left", "right"], delay=100, tool_wait_ms=400),
        _row("left", wait_for=["plan"], session_id="worker"),
        _row("right", wait_for=["plan"], request_kind="act"),
        _row("plan", timestamp=2_000),
        _row("other", timestamp=1_000),
    )
    program, other = trace.programs
    assert [call.parents for call in program.calls] == [(), (0,), (0,), (1, 2)]
    assert program.arrival_s == 1.0
    assert (other.program_id, other.arrival_s) == ("other", 0.0)
    _, left, right, join = program.calls
    assert (join.tool_seconds_before, join.gap) == (0.5, "tool")
    assert left.tool_seconds_before is None
    assert (left.thread, right.kind) == ("worker", "act")


def test_branches_follow_the_row_that_names_them(tmp_path: Path) -> None:
    """By request, or by session: then its first row."""
    (program,) = _read(
        tmp_path,
        _row("plan", branches=["a", "helper"]),
        _row("a"),
        _row("b", session_id="helper"),
        _row("c", session_id="helper", wait_for=["b"]),
    ).programs
    assert [call.parents for call in program.calls] == [(), (0,), (0,), (2,)]


def test_a_session_is_one_program(tmp_path: Path) -> None:
    """Also where its rows do not wait for each other: the later starts later."""
    (program,) = _read(
        tmp_path,
        _row("a", session_id="s", timestamp=1_000),
        _row("b", session_id="s", timestamp=4_000),
    ).programs
    assert [call.parents for call in program.calls] == [(), ()]
    assert program.calls[1].tool_seconds_before == 3.0


def test_the_second_version_says_why_a_row_waits(tmp_path: Path) -> None:
    """Blocks are of the header's size; plays are programs; the longest delay counts."""
    trace = _read(
        tmp_path,
        HEADER,
        _row("p0", play_id="p", not_before_ms=500, hash_ids=[0, 1]),
        _row(
            "p1",
            play_id="p",
            not_before_ms=700,
            hash_ids=[0, 2],
            dependencies=[_dependency("p0", delay_ms=250, relation="spawn")],
        ),
        _row(
            "p2",
            play_id="p",
            dependencies=[
                _dependency("p0", delay_ms=40, relation="join"),
                _dependency("p1", delay_ms=10, relation="join"),
            ],
        ),
        _row("q0", play_id="q", not_before_ms=0),
    )
    p, q = trace.programs
    assert (p.program_id, p.arrival_s, q.arrival_s) == ("p", 0.5, 0.0)
    assert [call.parents for call in p.calls] == [(), (0,), (0, 1)]
    assert [call.tool_seconds_before for call in p.calls] == [None, 0.25, 0.04]
    assert [call.gap for call in p.calls] == [None, "spawn", "join"]
    assert p.calls[1].issued_at_s == pytest.approx(0.2)
    assert p.calls[1].shared_tokens == 64
    assert trace.block == 64


def test_a_row_that_starts_with_another_waits_for_the_same(tmp_path: Path) -> None:
    """So long after the other's start: what that one waits for, and both delays."""
    on_b = _dependency("b", trigger="dispatch", delay_ms=100)
    on_a = _dependency("a", trigger="dispatch", delay_ms=300)
    (program,) = _read(
        tmp_path,
        HEADER,
        _row("a", not_before_ms=0),
        _row("b", dependencies=[_dependency("a", delay_ms=2_000)]),
        _row("beside b", dependencies=[on_b]),
        _row("beside a", dependencies=[on_a]),
    ).programs
    calls = {call.tool_seconds_before: call.parents for call in program.calls}
    assert calls == {None: (), 2.0: (0,), 2.1: (0,), 0.3: ()}


BAD_ROWS: dict[str, tuple[list[Any], int, str, str]] = {
    "missing parent": ([_row("a", wait_for=["b"])], 1, "wait_for", "no request 'b'"),
    "missing branch": ([_row("a", branches=["b"])], 1, "branches", "session 'b'"),
    "cycle": (
        [_row("a"), _row("b", wait_for=["c"]), _row("c", wait_for=["b"])],
        2,
        "wait_for",
        "wait for each other: b -> c -> b",
    ),
    "name twice": ([_row("a"), _row("a")], 2, "request_id", "not unique: 'a'"),
    "no name": ([{"input_length": 1, "output_length": 1}], 1, "request_id", "missing"),
    "waits for no list": ([_row("a", wait_for="b")], 1, "wait_for", "'b'"),
    "negative wait": ([_row("a", tool_wait_ms=-1)], 1, "tool_wait_ms", "-1"),
    "another schema": ([{**HEADER, "schema": "x"}], 1, "schema", "'x' is unknown"),
    "another version": ([{**HEADER, "version": 9}], 1, "version", "9 is unknown"),
    "no block": ([{**HEADER, "block_size": 0}], 1, "block_size", "0"),
    "unknown trigger": (
        [_row("a"), _row("b", dependencies=[_dependency("a", trigger="whim")])],
        2,
        "dependencies[0].trigger",
        "'whim'",
    ),
    "unknown relation": (
        [_row("a"), _row("b", dependencies=[_dependency("a", relation="ex")])],
        2,
        "dependencies[0].relation",
        "'ex'",
    ),
    "negative dependency": (
        [_row("a"), _row("b", dependencies=[_dependency("a", delay_ms=-3)])],
        2,
        "dependencies[0].delay_ms",
        "-3",
    ),
    "dependency that is none": (
        [_row("a", dependencies=["b"])],
        1,
        "dependencies[0]",
        "an object",
    ),
    "start beside others": (
        [
            _row("a"),
            _row("b"),
            _row(
                "c",
                dependencies=[
                    _dependency("a"),
                    _dependency("b", trigger="dispatch"),
                ],
            ),
        ],
        3,
        "dependencies[1].trigger",
        "beside others",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_wrong_row_is_refused_with_line_and_field(name: str, tmp_path: Path) -> None:
    """The error names the line, the field and the value."""
    rows, line, field, message = BAD_ROWS[name]
    with pytest.raises(TraceError) as caught:
        _read(tmp_path, *rows)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert message in str(caught.value)


@pytest.mark.parametrize("rows", [[], [HEADER]])
def test_a_file_without_rows_is_refused(rows: list[Any], tmp_path: Path) -> None:
    """A header alone is no trace either."""
    with pytest.raises(TraceError, match="is empty"):
        _read(tmp_path, *rows)
