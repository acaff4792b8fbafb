"""The rows of agentic Mooncake traces, in both of their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from autellix.workloads.importers.rows import (
    COMMON,
    PASSED_OVER,
    Row,
    checked,
    common_of,
    seconds,
    text,
)
from autellix.workloads.trace_checks import TraceFault, check_keys, is_int, refuse

SCHEMA: Final = "dynamo.agentic_mooncake"
VERSION: Final = 2

_HEADER: Final = frozenset({"hash_id_scope", "source"})
_KNOWN: Final = (
    COMMON
    | PASSED_OVER
    | {
        "branches",
        "dependencies",
        "not_before_ms",
        "play_id",
        "prefix_reset",
        "request_id",
        "request_kind",
        "tool_events",
        "tool_wait_ms",
        "wait_for",
    }
)
_TRIGGERS: Final = ("completion", "dispatch")
_GAPS: Final = {
    "sequence": "tool",
    "spawn": "spawn",
    "join": "join",
    "replay_barrier": None,
}


@attrs.define(eq=False)
class Request:
    """One row.

    Attributes:
        row: What all formats have.
        name: Its ``request_id``.
        play: Name of its program, where the row says it.
        kind: As the source calls it.
        field: Where it says what it waits for.
        waits: Requests that must have ended.
        branches: Requests, or sessions, that follow it.
        with_start_of: The request with whose start it starts, if with any.
        gap_s: Time between the last of those and this one.
        gap: What happens in that time.
    """

    row: Row
    name: str
    play: str | None
    kind: str | None
    field: str = "wait_for"
    waits: list[str] = attrs.field(factory=list)
    branches: Sequence[str] = ()
    with_start_of: str | None = None
    gap_s: float | None = None
    gap: str | None = None

    @property
    def before(self) -> Sequence[str]:
        """Names of all requests that come before it."""
        return [*self.waits, *([self.with_start_of] if self.with_start_of else [])]


def block_tokens_of(header: Mapping[str, Any]) -> int:
    """Return the block size that the header of a file gives."""
    if header["schema"] != SCHEMA:
        refuse("schema", f"{header['schema']!r} is unknown; known: {SCHEMA!r}")
    check_keys(header, {"schema", "version", "block_size"}, set(_HEADER))
    if header["version"] != VERSION:
        refuse("version", f"{header['version']!r} is unknown; known: {VERSION}")
    size: int = header["block_size"]
    if not is_int(size) or size < 1:
        refuse("block_size", f"must be at least 1 token: {size!r}")
    return size


def request_of(value: Any, line: int, block_tokens: int) -> Request:
    """Return what a row says."""
    value = checked(value, _KNOWN)
    if "request_id" not in value:
        refuse("request_id", "is missing")
    start = "not_before_ms" if "not_before_ms" in value else "timestamp"
    row = common_of(value, line, block_tokens)
    row = attrs.evolve(row, timestamp_s=seconds(value, start))
    request = Request(
        row,
        text(value, "request_id"),
        text(value, "play_id") if "play_id" in value else None,
        text(value, "request_kind") if "request_kind" in value else None,
        waits=_names(value, "wait_for"),
        branches=_names(value, "branches"),
    )
    tool_s = seconds(value, "tool_wait_ms")
    if row.delay_s is not None or tool_s is not None:
        request.gap_s = (row.delay_s or 0.0) + (tool_s or 0.0)
    if request.waits:
        request.gap = "tool" if tool_s else None
    if "dependencies" in value:
        _depend(request, value["dependencies"])
    return request


def _names(value: Mapping[str, Any], name: str) -> list[str]:
    given = value.get(name, [])
    if not isinstance(given, list) or not all(isinstance(n, str) for n in given):
        refuse(name, f"must be a list of names: {given!r}")
    return list(dict.fromkeys(given))


def _depend(request: Request, given: Any) -> None:
    """Take in what a row of the second version depends on."""
    request.field = "dependencies"
    if not isinstance(given, list):
        refuse("dependencies", f"must be a list: {given!r}")
    for place, each in enumerate(given):
        field = f"dependencies[{place}]"
        required = {"request_id", "trigger", "delay_ms", "relation"}
        try:
            check_keys(each, required, set())
            if each["trigger"] not in _TRIGGERS:
                refuse("trigger", f"{each['trigger']!r} is unknown; known: {_TRIGGERS}")
            if each["relation"] not in _GAPS:
                refuse(
                    "relation", f"{each['relation']!r} is unknown; known: {[*_GAPS]}"
                )
            delay_s = seconds(each, "delay_ms")
            name = text(each, "request_id")
        except TraceFault as fault:
            refuse(f"{field}.{fault.field}" if fault.field else field, fault.message)
        if each["trigger"] == "dispatch":
            if len(given) > 1:
                refuse(f"{field}.trigger", "dispatch beside others cannot be told")
            request.with_start_of = name
        elif name not in request.waits:
            request.waits.append(name)
        request.gap_s = max(request.gap_s or 0.0, delay_s or 0.0)
        request.gap = _GAPS[each["relation"]]
