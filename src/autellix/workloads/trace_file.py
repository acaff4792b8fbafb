"""Traces as files: gzip'd JSON lines, a header and then a program a line.

Reading is strict: whatever is unknown, missing or impossible is an error with its line
and field, because a trace that is silently half understood gives results that are
silently wrong.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from autellix.errors import TraceError
from autellix.workloads.json_lines import json_lines
from autellix.workloads.trace import Trace, TraceCall, TraceProgram
from autellix.workloads.trace_checks import (
    TraceFault,
    check_keys,
    is_int,
    json_name,
    refuse,
)

SCHEMA: Final = "prog-trace/1"

R = TypeVar("R", TraceCall, TraceProgram)


def read_trace(path: Path | str) -> Trace:
    """Read a file of the format ``prog-trace/1``.

    Raises:
        TraceError: It is no such file, or something in it cannot be.
    """
    file = str(path)
    lines = json_lines(Path(path))
    number, header = next(lines, (None, None))
    if header is None:
        raise TraceError("is empty: a header is expected", file=file)
    programs: dict[str, TraceProgram] = {}
    try:
        declared, trace = _header(header)
        for number, value in lines:  # noqa: B007 - the error says how far it came
            program = _program(value)
            if program.program_id in programs:
                refuse("program_id", f"is not unique: {program.program_id!r}")
            programs[program.program_id] = program
        if len(programs) != declared:
            number = 1
            refuse("programs", f"the header says {declared}, there are {len(programs)}")
    except TraceFault as fault:
        raise TraceError(
            fault.message, file=file, line=number, field=fault.field
        ) from None
    return attrs.evolve(trace, programs=programs.values())


def write_trace(path: Path | str, trace: Trace) -> None:
    """Write a file of the format ``prog-trace/1``; equal traces give equal bytes."""
    header = {
        "schema": SCHEMA,
        "source": trace.source,
        "class": trace.program_class,
        "programs": len(trace.programs),
    }
    if trace.block is not None:
        header["block"] = trace.block
    lines = [header, *map(_program_to_json, trace.programs)]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    Path(path).write_bytes(gzip.compress(text.encode(), mtime=0))


# -- from JSON -------------------------------------------------------------------------


def _header(value: Any) -> tuple[int, Trace]:
    """Return how many programs the file promises, and the trace without them."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        refuse("schema", f"{schema!r} is unknown; known: {SCHEMA!r}")
    check_keys(value, {"schema", "source", "class", "programs"}, {"block"})
    declared: int = value["programs"]
    if not is_int(declared) or declared < 0:
        refuse("programs", f"must be a number of programs: {declared!r}")
    trace = Trace(
        source=value["source"],
        program_class=value["class"],
        block=value.get("block"),
        programs=(),
    )
    return declared, trace


def _program(value: Any) -> TraceProgram:
    check_keys(value, *_keys(TraceProgram))
    calls = value["calls"]
    if not isinstance(calls, list):
        refuse("calls", f"must be a list: {calls!r}")
    return _record(
        TraceProgram, {**value, "calls": list(map(_call, calls, range(len(calls))))}
    )


def _call(value: Any, position: int) -> TraceCall:
    try:
        required, optional = _keys(TraceCall)
        check_keys(value, {"id", *required}, optional)
        if value["id"] != position or not is_int(value["id"]):
            refuse("id", f"must be the position {position}: {value['id']!r}")
        return _record(TraceCall, {k: v for k, v in value.items() if k != "id"})
    except TraceFault as fault:
        field = (
            f"calls[{position}].{fault.field}" if fault.field else f"calls[{position}]"
        )
        refuse(field, fault.message)


def _record(cls: type[R], value: dict[str, Any]) -> R:
    names = {json_name(field.name): field.name for field in attrs.fields(cls)}
    return cls(**{names[key]: each for key, each in value.items()})


def _keys(cls: type[R]) -> tuple[set[str], set[str]]:
    """Return the fields a record must have in the file, and those it may have."""
    required: set[str] = set()
    optional: set[str] = set()
    for field in attrs.fields(cls):
        into = required if field.default is attrs.NOTHING else optional
        into.add(json_name(field.name))
    return required, optional


# -- to JSON ---------------------------------------------------------------------------


def _program_to_json(program: TraceProgram) -> dict[str, Any]:
    fields = _to_json(program)
    fields["calls"] = [
        {"id": position, **_to_json(call)}
        for position, call in enumerate(program.calls)
    ]
    return fields


def _to_json(record: TraceCall | TraceProgram) -> dict[str, Any]:
    """Return the fields; None is said by absence."""
    values = attrs.asdict(record, recurse=False)
    return {json_name(name): v for name, v in values.items() if v is not None}
