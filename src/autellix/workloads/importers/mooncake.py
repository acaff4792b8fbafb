"""Traces of requests as Mooncake published them, and as AIPerf extends them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from autellix.errors import TraceError
from autellix.workloads.importers.rows import (
    BLOCK_TOKENS,
    COMMON,
    PASSED_OVER,
    Row,
    checked,
    common_of,
    faults_at,
)
from autellix.workloads.importers.sharing import (
    SharedBlocks,
    hash_runs,
    in_group,
    prefix_groups,
)
from autellix.workloads.json_lines import json_lines
from autellix.workloads.trace import Trace, TraceCall, TraceProgram
from autellix.workloads.trace_checks import refuse


def read_mooncake(
    path: Path | str,
    *,
    block_tokens: int = BLOCK_TOKENS,
    program_class: str = "chat",
    joins_turns: bool = False,
) -> Trace:
    """Read Mooncake or AIPerf JSONL: one request a line.

    Fields: ``input_length`` and ``output_length`` in tokens, ``hash_ids`` of the
    prompt's blocks, ``timestamp`` and ``delay`` in milliseconds, ``session_id``. Rows
    of one session are one program, in the order of the file, each call after the one
    before; a row without a session is a program of one call. ``delay`` becomes the
    time before the call; where only timestamps are given they become
    ``issued_at_s``, and the time before the call is not recorded, because it cannot be
    told from the source's own service time. What prompts share is what their blocks
    say, within a program and, as prefix groups, across programs.

    Args:
        path: Of the file, plain or gzip.
        block_tokens: Tokens of a block of ``hash_ids``.
        program_class: Kind of agent.
        joins_turns: Whether to join rows without a session to conversations: a row
            whose prompt begins with all full blocks of an earlier row, at least two
            and at least half of its prompt, is the turn after it.

    Returns:
        The programs, in the order of their first rows.

    Raises:
        TraceError: Something cannot be; with line and field.
    """
    file = str(path)
    conversations = _Conversations(block_tokens if joins_turns else None)
    for line, value in json_lines(Path(path), may_be_plain=True):
        with faults_at(file, line):
            conversations.add(_row(value, line, block_tokens))
    if not conversations.all:
        raise TraceError("is empty: rows are expected", file=file)
    return _trace(Path(path).name, program_class, block_tokens, conversations)


@attrs.frozen
class _Turn:
    """A row, and the place of the turn before in its conversation."""

    row: Row
    after: int | None


@attrs.define(eq=False)
class _Conversations:
    """Rows, put together.

    Attributes:
        joined_tokens: Tokens of a block, where turns are joined by their blocks.
        all: Of each conversation its turns.
    """

    joined_tokens: int | None
    all: list[list[_Turn]] = attrs.field(factory=list)
    _sessions: dict[str, list[_Turn]] = attrs.field(factory=dict, init=False)
    _ends: dict[int, tuple[list[_Turn], int]] = attrs.field(factory=dict, init=False)
    """Latest turn whose prompt's last full block this is."""

    def add(self, row: Row) -> None:
        """Put a row where it belongs."""
        turns, after = self._before(row)
        if after is None:
            if row.delay_s:
                refuse("delay", f"{row.delay_s:g} s after nothing: no row before")
            self.all.append(turns)
        elif (_sent_after_s(turns[0].row, row) or 0.0) < 0.0:
            refuse("timestamp", "is before that of the first row of its session")
        turns.append(_Turn(row, after))
        if row.session is None and self.joined_tokens and row.blocks:
            full = row.prompt_tokens // self.joined_tokens
            if full >= 2:
                self._ends[row.blocks[full - 1]] = turns, len(turns) - 1

    def _before(self, row: Row) -> tuple[list[_Turn], int | None]:
        if row.session is not None:
            turns = self._sessions.setdefault(row.session, [])
            return turns, len(turns) - 1 if turns else None
        if self.joined_tokens and row.blocks:
            half = -(-row.prompt_tokens // (2 * self.joined_tokens))
            for block in reversed(row.blocks[half - 1 :]):
                if block in self._ends:
                    return self._ends[block]
        return [], None


def _trace(
    source: str, program_class: str, block_tokens: int, conversations: _Conversations
) -> Trace:
    turns = [turn for each in conversations.all for turn in each]
    starts_s = [turn.row.timestamp_s for turn in turns]
    start_s = min((s for s in starts_s if s is not None), default=0.0)
    groups = prefix_groups(
        [turn.row.blocks for turn in each] for each in conversations.all
    )
    programs = []
    for each in conversations.all:
        first = each[0].row
        arrival_s = first.timestamp_s
        calls = [
            in_group(call, turn.row.blocks, groups, block_tokens)
            for call, turn in zip(_calls(each, block_tokens), each, strict=True)
        ]
        programs.append(
            TraceProgram(
                program_id=first.session or f"row-{first.line}",
                arrival_s=None if arrival_s is None else arrival_s - start_s,
                program_class=program_class,
                source=source,
                tokenizer="the source's",
                synthetic=("structure",) if conversations.joined_tokens else (),
                calls=calls,
            )
        )
    has_blocks = any(turn.row.blocks is not None for turn in turns)
    return Trace(
        source=source,
        program_class=program_class,
        block=block_tokens if has_blocks else None,
        programs=programs,
    )


def _calls(turns: Sequence[_Turn], block_tokens: int) -> Iterator[TraceCall]:
    shared = SharedBlocks(block_tokens)
    for place, turn in enumerate(turns):
        row = turn.row
        begins = shared.add(place, row.blocks, row.prompt_tokens)
        yield TraceCall(
            parents=[] if turn.after is None else [turn.after],
            prompt_tokens=row.prompt_tokens,
            output_tokens=row.output_tokens,
            prefix_call=None if begins is None else begins.call,
            new_prompt_tokens=row.prompt_tokens - (begins.tokens if begins else 0),
            tool_seconds_before=row.delay_s,
            gap=None if turn.after is None else "user",
            issued_at_s=_sent_after_s(turns[0].row, row),
            hash_runs=hash_runs(row.blocks),
        )


def _sent_after_s(first: Row, row: Row) -> float | None:
    """Return when a row was sent after the first of its session."""
    if first.timestamp_s is None or row.timestamp_s is None:
        return None
    return row.timestamp_s - first.timestamp_s


def _row(value: Any, line: int, block_tokens: int) -> Row:
    known = COMMON | PASSED_OVER | {"request_id"}
    return common_of(checked(value, known), line, block_tokens)
