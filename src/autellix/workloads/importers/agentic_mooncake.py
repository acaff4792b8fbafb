"""Traces of agents as rows that say which requests they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs

from autellix.errors import TraceError
from autellix.workloads.importers.agentic_rows import (
    Request,
    block_tokens_of,
    request_of,
)
from autellix.workloads.importers.rows import BLOCK_TOKENS, faults_at
from autellix.workloads.importers.sharing import (
    SharedBlocks,
    hash_runs,
    in_group,
    prefix_groups,
)
from autellix.workloads.json_lines import json_lines
from autellix.workloads.trace import Trace, TraceCall, TraceProgram
from autellix.workloads.trace_checks import refuse


def read_agentic_mooncake(
    path: Path | str, *, block_tokens: int = BLOCK_TOKENS, program_class: str = "agent"
) -> Trace:
    """Read agentic Mooncake rows: one request a line, in any order.

    Both versions are known. Rows of the first have ``wait_for`` (requests that must
    have ended), ``branches`` (requests, or sessions, that follow this one),
    ``delay`` and ``tool_wait_ms`` after that, ``timestamp`` where they wait for none.
    The second begins with a header that gives the block size; its rows have
    ``dependencies`` and ``not_before_ms``.

    A program is a ``play_id``, or else all rows that are tied by waiting or by a
    session. Where dependencies of one row have different delays the longest counts
    for all. One with the trigger ``dispatch`` starts so long after the start of
    another request; that is the same as waiting for what that one waits for. A row
    that waits for none starts at its timestamp, counted from the first of its program;
    where a row waits for others, ``not_before_ms`` is kept as ``issued_at_s`` alone.

    Args:
        path: Of the file, plain or gzip.
        block_tokens: Tokens of a block of ``hash_ids``, where no header says it.
        program_class: Kind of agent.

    Returns:
        The programs, in the order of their first rows.

    Raises:
        TraceError: Something cannot be; with line and field.
    """
    file = str(path)
    requests: dict[str, Request] = {}
    for line, value in json_lines(Path(path), may_be_plain=True):
        with faults_at(file, line):
            if not requests and isinstance(value, dict) and "schema" in value:
                block_tokens = block_tokens_of(value)
                continue
            request = request_of(value, line, block_tokens)
            if request.name in requests:
                refuse("request_id", f"is not unique: {request.name!r}")
            requests[request.name] = request
    if not requests:
        raise TraceError("is empty: rows are expected", file=file)
    _follow_branches(file, requests)
    order = _order(file, requests)
    for request in order:
        _resolve_start(request, requests)
    return _trace(Path(path).name, program_class, block_tokens, _plays(order))


# -- who follows whom ------------------------------------------------------------------


def _follow_branches(file: str, requests: Mapping[str, Request]) -> None:
    """Let the branches of a request wait for it."""
    firsts: dict[str, Request] = {}
    for request in requests.values():
        if request.row.session is not None:
            firsts.setdefault(request.row.session, request)
    for request in requests.values():
        for name in request.branches:
            with faults_at(file, request.row.line):
                branch = requests.get(name) or firsts.get(name)
                if branch is None:
                    refuse("branches", f"no request or session {name!r}")
                if request.name not in branch.waits:
                    branch.waits.append(request.name)


def _order(file: str, requests: Mapping[str, Request]) -> list[Request]:
    """Return the requests, each after those it waits for; otherwise as in the file."""
    graph = {}
    for request in requests.values():
        for name in request.before:
            if name not in requests:
                with faults_at(file, request.row.line):
                    refuse(request.field, f"no request {name!r}")
        graph[request.name] = request.before
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        with faults_at(file, requests[cycle[0]].row.line):
            way = " -> ".join(cycle)
            refuse(requests[cycle[0]].field, f"requests wait for each other: {way}")
    order: list[Request] = []
    while sorter.is_active():
        ready = [requests[name] for name in sorter.get_ready()]
        sorter.done(*(request.name for request in ready))
        order += sorted(ready, key=lambda request: request.row.line)
    return order


def _resolve_start(request: Request, requests: Mapping[str, Request]) -> None:
    """Say of a request that starts with another what it waits for."""
    if request.with_start_of is None:
        return
    other = requests[request.with_start_of]
    after_s = request.gap_s or 0.0
    if other.waits:
        request.waits = list(other.waits)
        request.gap_s = (other.gap_s or 0.0) + after_s
    elif other.row.timestamp_s is not None:
        start_s = other.row.timestamp_s + after_s
        request.row = attrs.evolve(request.row, timestamp_s=start_s)


def _plays(order: Sequence[Request]) -> list[list[Request]]:
    """Return the requests of each program, in order."""
    together: dict[str, str] = {}

    def root(key: str) -> str:
        while together.setdefault(key, key) != key:
            together[key] = together[together[key]]
            key = together[key]
        return key

    def play_of(request: Request) -> str:
        return root(f"request {request.name}")

    for request in order:
        for name in request.before:
            together[play_of(request)] = root(f"request {name}")
        if request.play is not None:
            together[play_of(request)] = root(f"play {request.play}")
        elif request.row.session is not None:
            together[play_of(request)] = root(f"session {request.row.session}")
    plays: dict[str, list[Request]] = {}
    for request in order:
        plays.setdefault(play_of(request), []).append(request)
    return sorted(plays.values(), key=lambda play: min(r.row.line for r in play))


# -- programs --------------------------------------------------------------------------


def _trace(
    source: str, program_class: str, block_tokens: int, plays: Sequence[list[Request]]
) -> Trace:
    starts_s = [_start_s(play) for play in plays]
    first_s = min((s for s in starts_s if s is not None), default=0.0)
    groups = prefix_groups([request.row.blocks for request in play] for play in plays)
    programs = []
    for play, start_s in zip(plays, starts_s, strict=True):
        calls = [
            in_group(call, request.row.blocks, groups, block_tokens)
            for call, request in zip(
                _calls(play, start_s, block_tokens), play, strict=True
            )
        ]
        programs.append(
            TraceProgram(
                program_id=play[0].play or play[0].name,
                arrival_s=None if start_s is None else start_s - first_s,
                program_class=program_class,
                source=source,
                tokenizer="the source's",
                calls=calls,
            )
        )
    has_blocks = any(r.row.blocks is not None for play in plays for r in play)
    return Trace(
        source=source,
        program_class=program_class,
        block=block_tokens if has_blocks else None,
        programs=programs,
    )


def _start_s(play: Sequence[Request]) -> float | None:
    starts_s = [r.row.timestamp_s for r in play if not r.waits]
    return min((s for s in starts_s if s is not None), default=None)


def _calls(
    play: Sequence[Request], start_s: float | None, block_tokens: int
) -> Iterator[TraceCall]:
    places = {request.name: place for place, request in enumerate(play)}
    shared = SharedBlocks(block_tokens)
    for place, request in enumerate(play):
        row = request.row
        begins = shared.add(place, row.blocks, row.prompt_tokens)
        sent_s = None
        if start_s is not None and row.timestamp_s is not None:
            sent_s = max(0.0, row.timestamp_s - start_s)
        gap_s = request.gap_s if request.waits else sent_s or request.gap_s
        yield TraceCall(
            parents=sorted(places[name] for name in request.waits),
            thread=row.session or "main",
            prompt_tokens=row.prompt_tokens,
            output_tokens=row.output_tokens,
            prefix_call=None if begins is None else begins.call,
            new_prompt_tokens=row.prompt_tokens - (begins.tokens if begins else 0),
            tool_seconds_before=gap_s,
            gap=request.gap,
            kind=request.kind,
            issued_at_s=sent_s,
            hash_runs=hash_runs(row.blocks),
        )
