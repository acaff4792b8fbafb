"""Traces survive a file, and a file that is wrong says where."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from autellix.errors import TraceError
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import read_trace, write_trace
from tests.workloads.programs import traces

HEADER = {"schema": "prog-trace/1", "source": "here", "class": "chat", "programs": 1}


def _call(call_id: int, *parents: int, **fields: Any) -> dict[str, Any]:
    lengths = {"prompt_tokens": 10, "output_tokens": 5}
    return {"id": call_id, "parents": list(parents), **lengths, **fields}


def _program(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    about = {"program_id": "p", "class": "chat", "source": "here", "tokenizer": "none"}
    return {**about, "calls": list(calls), **fields}


def _write(path: Path, *lines: Any) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def _error(path: Path) -> TraceError:
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    return caught.value


@given(trace=traces())
@settings(max_examples=40)
def test_what_is_written_is_read(
    trace: Trace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A trace read back equals the one that was written."""
    path = tmp_path_factory.mktemp("traces") / "trace.jsonl.gz"
    write_trace(path, trace)
    assert read_trace(path) == trace


def test_equal_traces_give_equal_bytes(tmp_path: Path) -> None:
    """Writing says nothing about when it was done."""
    path = _write(tmp_path / "a.gz", HEADER, _program(_call(0), meta={"b": 1, "a": []}))
    write_trace(tmp_path / "b.gz", read_trace(path))
    write_trace(tmp_path / "c.gz", read_trace(path))
    assert (tmp_path / "b.gz").read_bytes() == (tmp_path / "c.gz").read_bytes()


def test_fields_that_may_be_null_may_be_left_out(tmp_path: Path) -> None:
    """Null and absent are one."""
    bare = _write(tmp_path / "bare.gz", HEADER, _program(_call(0)))
    call = _call(0, thread="main", prefix_call=None, new_prompt_tokens=10, gap=None)
    full = _program(call, arrival_s=None, prefix_group=None, synthetic=[], meta={})
    assert read_trace(bare) == read_trace(_write(tmp_path / "full.gz", HEADER, full))


BAD_PROGRAMS = {
    "cycle": (
        _program(_call(0), _call(1, 3), _call(2, 1), _call(3, 2)),
        "calls[1].parents",
        "wait for each other",
    ),
    "call that waits for itself": (
        _program(_call(0, 0)),
        "calls[0].parents",
        "0 -> 0",
    ),
    "order": (
        _program(_call(0, 1), _call(1)),
        "calls[0].parents",
        "topological order",
    ),
    "missing parent": (
        _program(_call(0), _call(1, 0, 7)),
        "calls[1].parents",
        "no call 7",
    ),
    "negative parent": (_program(_call(0, -1)), "calls[0].parents", "no call -1"),
    "parent twice": (
        _program(_call(0), _call(1, 0, 0)),
        "calls[1].parents",
        "twice",
    ),
    "parents that are no ids": (
        _program(_call(0, parents=["0"])),
        "calls[0].parents",
        "call ids",
    ),
    "negative length": (
        _program(_call(0, prompt_tokens=-3)),
        "calls[0].prompt_tokens",
        "-3",
    ),
    "no output": (
        _program(_call(0, output_tokens=0)),
        "calls[0].output_tokens",
        ": 0",
    ),
    "absurd length": (
        _program(_call(0), _call(1, 0, output_tokens=10**12)),
        "calls[1].output_tokens",
        "1000000000000",
    ),
    "length that is no number": (
        _program(_call(0, prompt_tokens=True)),
        "calls[0].prompt_tokens",
        "True",
    ),
    "half a token": (
        _program(_call(0, prompt_tokens=9.5)),
        "calls[0].prompt_tokens",
        "9.5",
    ),
    "negative gap": (
        _program(_call(0, tool_seconds_before=-0.5)),
        "calls[0].tool_seconds_before",
        "-0.5",
    ),
    "absurd arrival": (_program(_call(0), arrival_s=1e300), "arrival_s", "1e+300"),
    "prefix of a later call": (
        _program(_call(0, prefix_call=0, new_prompt_tokens=1)),
        "calls[0].prefix_call",
        "earlier",
    ),
    "prefix longer than what it is of": (
        _program(
            _call(0), _call(1, 0, prefix_call=0, prompt_tokens=30, new_prompt_tokens=9)
        ),
        "calls[1].new_prompt_tokens",
        "21 tokens shared with call 0, which has 15",
    ),
    "prefix of an output that need not be there": (
        _program(
            _call(0), _call(1, prefix_call=0, prompt_tokens=12, new_prompt_tokens=1)
        ),
        "calls[1].prefix_call",
        "output of call 0, which it does not follow",
    ),
    "the same through another call's prompt": (
        _program(
            _call(0),
            _call(1, 0, prefix_call=0, prompt_tokens=14, new_prompt_tokens=0),
            _call(2, prefix_call=1, prompt_tokens=13, new_prompt_tokens=0),
        ),
        "calls[2].prefix_call",
        "output of call 0, which it does not follow",
    ),
    "more new tokens than tokens": (
        _program(_call(0), _call(1, prefix_call=0, new_prompt_tokens=11)),
        "calls[1].new_prompt_tokens",
        "11 new of 10",
    ),
    "shared with nobody": (
        _program(_call(0, new_prompt_tokens=4)),
        "calls[0].new_prompt_tokens",
        "4 new of 10",
    ),
    "tokens of no group": (
        _program(_call(0), group_prefix_tokens=4),
        "group_prefix_tokens",
        "4 without a prefix_group",
    ),
    "group longer than a prompt": (
        _program(_call(0), prefix_group="g", group_prefix_tokens=11),
        "calls[0].prompt_tokens",
        "10 cannot begin with 11 of 'g'",
    ),
    "id out of place": (_program(_call(1)), "calls[0].id", "position 0: 1"),
    "misspelt field": (
        _program(_call(0, tool_second_before=1)),
        "calls[0].tool_second_before",
        "did you mean 'tool_seconds_before'",
    ),
    "missing field": (
        _program({"id": 0, "parents": []}),
        "calls[0].output_tokens",
        "is missing",
    ),
    "call that is none": (_program(_call(0), calls=[3]), "calls[0]", "an object: 3"),
    "calls that are none": (_program(calls={}), "calls", "a list: {}"),
    "no calls": (_program(), "calls", "at least one"),
    "no name": (_program(_call(0), program_id=""), "program_id", "non-empty"),
    "class that is no text": (_program(_call(0), **{"class": 3}), "class", "3"),
    "program that is none": ([], "", "an object"),
    "broken hashes": (
        _program(_call(0, hash_runs=[[1, 2, 3]])),
        "calls[0].hash_runs",
        "length",
    ),
    "synthetic that is no list": (_program(_call(0), synthetic=1), "synthetic", ": 1"),
    "meta that is no object": (_program(_call(0), meta=[1]), "meta", "an object"),
}


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_a_wrong_program_is_refused_with_line_and_field(
    name: str, tmp_path: Path
) -> None:
    """The error names the line, the field and the value."""
    program, field, message = BAD_PROGRAMS[name]
    good = _program(_call(0), program_id="good")
    path = _write(tmp_path / "t.gz", {**HEADER, "programs": 2}, good, program)
    error = _error(path)
    assert error.line == 3
    assert error.field == field
    assert message in str(error)


BAD_HEADERS = {
    "unknown version": ({**HEADER, "schema": "prog-trace/9"}, "schema", "prog-trace/9"),
    "no version": ({"source": "here"}, "schema", "None"),
    "no object": ([1], "schema", "None"),
    "unknown field": ({**HEADER, "blocks": 3}, "blocks", "did you mean 'block'"),
    "missing field": ({"schema": "prog-trace/1"}, "class", "is missing"),
    "negative programs": ({**HEADER, "programs": -1}, "programs", "-1"),
    "more programs than there are": (
        {**HEADER, "programs": 3},
        "programs",
        "there are 1",
    ),
    "empty blocks": ({**HEADER, "block": 0}, "block", "0"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_wrong_header_is_refused_with_its_field(name: str, tmp_path: Path) -> None:
    """The error names line 1 and the field."""
    header, field, message = BAD_HEADERS[name]
    error = _error(_write(tmp_path / "t.gz", header, _program(_call(0))))
    assert (error.line, error.field) == (1, field)
    assert message in str(error)


def test_programs_of_one_id_are_refused(tmp_path: Path) -> None:
    """Ids are unique in a file."""
    program = _program(_call(0))
    path = _write(tmp_path / "t.gz", {**HEADER, "programs": 2}, program, program)
    assert (_error(path).line, _error(path).field) == (3, "program_id")


def test_a_truncated_file_is_refused_with_how_far_it_goes(tmp_path: Path) -> None:
    """Half a gzip file is no shorter trace."""
    programs = [_program(_call(0), program_id=f"{n * n}") for n in range(9_000)]
    path = _write(tmp_path / "t.gz", {**HEADER, "programs": 9_000}, *programs)
    path.write_bytes(path.read_bytes()[:-9_000])
    error = _error(path)
    assert error.line is not None
    assert error.line > 1_000
    assert "truncated" in str(error)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Bytes that gzip cannot make sense of are an error of ours."""
    programs = [_program(_call(0), program_id=f"{n * n}") for n in range(900)]
    path = _write(tmp_path / "t.gz", {**HEADER, "programs": 900}, *programs)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(b ^ 0x55 for b in data[len(data) // 2 :])
    path.write_bytes(data)
    assert "damaged" in str(_error(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "not a gzip file"),
        (b"", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (gzip.compress(b"{nonsense\n", mtime=0), "no JSON"),
        (gzip.compress(b'{"a": NaN}\n', mtime=0), "NaN is no number"),
        (gzip.compress(b"\xff\xfe\n", mtime=0), "no JSON"),
    ],
)
def test_a_file_of_something_else_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    """Every way of being no trace has its message."""
    path = tmp_path / "t.gz"
    path.write_bytes(content)
    assert message in str(_error(path))


def _real_traces() -> list[Path]:
    beside = Path(__file__).parents[2].parent / "shared" / "traces"
    folder = Path(os.environ.get("AUTELLIX_TRACES", beside))
    paths = sorted(folder.glob("*.jsonl.gz"))
    return [path for path in paths if path.stat().st_size < 150_000]  # in a second


@pytest.mark.slow
def test_the_traces_beside_the_repository_are_read() -> None:
    """What the workloads were made from is valid by our own rules."""
    paths = _real_traces()
    if not paths:
        pytest.skip("no ../shared/traces; set AUTELLIX_TRACES to a folder of traces")
    for path in paths:
        assert read_trace(path).programs
