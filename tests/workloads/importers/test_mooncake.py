"""Rows of Mooncake and AIPerf become programs, or an error with line and field."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from autellix.errors import TraceError
from autellix.workloads.importers import read_mooncake
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import read_trace, write_trace


def _row(**fields: Any) -> dict[str, Any]:
    return {"input_length": 1_000, "output_length": 50, **fields}


def _read(tmp_path: Path, *rows: Any, **options: Any) -> Trace:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_mooncake(path, **options)


def test_a_row_without_a_session_is_a_program(tmp_path: Path) -> None:
    """Arrivals count from the earliest row, in seconds."""
    trace = _read(tmp_path, _row(timestamp=27_500), _row(timestamp=27_000))
    assert [program.arrival_s for program in trace.programs] == [0.5, 0.0]
    (call,) = trace.programs[0].calls
    assert (call.prompt_tokens, call.output_tokens) == (1_000, 50)
    assert trace.block is None


def test_a_session_is_a_chain(tmp_path: Path) -> None:
    """Delays are what passes before a call; timestamps only say when it was sent."""
    trace = _read(
        tmp_path,
        _row(session_id="a", timestamp=5_000),
        _row(session_id="b", timestamp=6_000),
        _row(session_id="a", delay=1_500),
        _row(session_id="b", timestamp=9_000),
    )
    a, b = trace.programs
    assert (a.program_id, a.arrival_s) == ("a", 0.0)
    assert a.calls[1].parents == (0,)
    assert a.calls[1].tool_seconds_before == 1.5
    assert b.calls[1].tool_seconds_before is None
    assert b.calls[1].issued_at_s == 3.0


def test_blocks_say_what_turns_share(tmp_path: Path) -> None:
    """Only whole blocks count, of the call that shares most."""
    trace = _read(
        tmp_path,
        _row(session_id="a", input_length=1_200, hash_ids=[1, 2, 3]),
        _row(session_id="a", input_length=600, hash_ids=[7, 8]),
        _row(session_id="a", input_length=1_700, hash_ids=[1, 2, 4, 5]),
        _row(session_id="a", input_length=1_200, hash_ids=[1, 2, 3]),
    )
    first, other, longer, same = trace.programs[0].calls
    assert first.prefix_call is other.prefix_call is None
    assert (longer.prefix_call, longer.shared_tokens) == (0, 1_024)
    assert (same.prefix_call, same.shared_tokens) == (0, 1_200)
    assert longer.hash_runs == ((1, 2), (4, 2))
    assert trace.block == 512


def test_programs_that_begin_alike_are_a_prefix_group(tmp_path: Path) -> None:
    """It has as many tokens as all of them share; one program alone is no group."""
    trace = _read(
        tmp_path,
        _row(input_length=1_600, hash_ids=[1, 2, 3, 4]),
        _row(input_length=1_600, hash_ids=[1, 2, 5, 6]),
        _row(input_length=800, hash_ids=[1, 2]),
        _row(session_id="s", hash_ids=[9, 10]),
        _row(session_id="s", hash_ids=[9, 10]),
    )
    groups = [program.group_of(program.calls[0]) for program in trace.programs]
    assert groups == [("block-1", 1_024), ("block-1", 1_024), ("block-1", 800), None]


def test_turns_are_joined_by_their_blocks_where_asked(tmp_path: Path) -> None:
    """A prompt that begins with a whole earlier one is the turn after it."""
    rows = [
        _row(timestamp=0, input_length=1_100, hash_ids=[1, 2, 3]),
        _row(timestamp=9_000, input_length=1_600, hash_ids=[1, 2, 4, 5]),
        _row(timestamp=9_500, input_length=1_500, hash_ids=[1, 2, 6]),
        _row(timestamp=9_900, input_length=2_100, hash_ids=[1, 2, 4, 7, 8]),
        _row(timestamp=9_999, input_length=5_000, hash_ids=[1, 2, *range(20, 28)]),
    ]
    (joined, alone) = _read(tmp_path, *rows, joins_turns=True).programs
    assert [call.parents for call in joined.calls] == [(), (0,), (0,), (1,)]
    assert joined.synthetic == ("structure",)
    assert len(alone.calls) == 1  # shares less than half of its prompt
    assert len(_read(tmp_path, *rows).programs) == 5


def test_other_names_and_what_is_about_routing_are_known(tmp_path: Path) -> None:
    """Aliases mean the same; blank lines and null fields mean nothing."""
    path = tmp_path / "trace.jsonl"
    row = {"input_tokens": 7, "output_tokens": 2, "created_time": 3, "priority": 1}
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(_row(timestamp=None)) + "\n")
    first, second = read_mooncake(path).programs
    assert first.calls[0].prompt_tokens == 7
    assert first.arrival_s == 0.0
    assert second.arrival_s is None


def test_an_imported_trace_is_one_of_ours(tmp_path: Path) -> None:
    """It can be written and read, and a gzip file is as good as a plain one."""
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(_row(hash_ids=[1, 2])).encode()))
    trace = read_mooncake(path)
    write_trace(tmp_path / "out.gz", trace)
    assert read_trace(tmp_path / "out.gz") == trace


BAD_ROWS: dict[str, tuple[Any, str, str]] = {
    "negative length": (_row(input_length=-1), "input_length", "-1"),
    "absurd length": (_row(output_length=10**12), "output_length", "1000000000000"),
    "no output": (_row(output_length=0), "output_length", ": 0"),
    "missing length": ({"input_length": 5}, "output_length", "is missing"),
    "half a token": (_row(input_length=1.5), "input_length", "1.5"),
    "negative delay": (_row(session_id="s", delay=-2), "delay", "-2"),
    "delay after nothing": (_row(delay=2_000), "delay", "2 s after nothing"),
    "time that is none": (_row(timestamp="now"), "timestamp", "'now'"),
    "blocks of another size": (
        _row(hash_ids=[1, 2, 3]),
        "hash_ids",
        "3 blocks of 512 tokens are not 1000",
    ),
    "blocks that are none": (_row(hash_ids="x"), "hash_ids", "'x'"),
    "session without a name": (_row(session_id=""), "session_id", "''"),
    "misspelt field": (_row(timestap=3), "timestap", "did you mean 'timestamp'"),
    "text": ({"text_input": "hi", "output_length": 3}, "text_input", "is text"),
    "row that is none": ([], "", "an object"),
    "back in time": (
        _row(session_id="good", timestamp=0),
        "timestamp",
        "before that of the first row",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_wrong_row_is_refused_with_line_and_field(name: str, tmp_path: Path) -> None:
    """The error names the line, the field and the value."""
    row, field, message = BAD_ROWS[name]
    with pytest.raises(TraceError) as caught:
        _read(tmp_path, _row(session_id="good", timestamp=1_000), row)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert message in str(caught.value)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    """Nothing is no trace."""
    with pytest.raises(TraceError, match="is empty"):
        _read(tmp_path)


def test_a_line_that_is_no_json_is_refused_with_its_number(tmp_path: Path) -> None:
    """Also in a plain file."""
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(_row()) + "\n{nonsense\n")
    with pytest.raises(TraceError, match="no JSON") as caught:
        read_mooncake(path)
    assert caught.value.line == 2
