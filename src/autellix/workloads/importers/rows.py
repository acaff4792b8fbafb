"""What the rows of all Mooncake formats have in common: lengths, times, block hashes.

Rows are one JSON object a line, with or without gzip. Fields that say how a request is
to be routed say nothing about the program and are passed over; a field that nobody
knows is an error, because it may say what matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any, Final

import attrs

from autellix.errors import TraceError
from autellix.workloads.trace_checks import (
    MAX_SECONDS,
    MAX_TOKENS,
    TraceFault,
    check_keys,
    is_int,
    refuse,
)

BLOCK_TOKENS: Final = 512
"""Tokens of a block in the traces that Mooncake published."""

_ALIASES: Final = {
    "input_tokens": "input_length",
    "output_tokens": "output_length",
    "created_time": "timestamp",
    "delay_ms": "delay",
}
_TEXTS: Final = frozenset({"text_input", "messages", "payload"})
COMMON: Final = frozenset(
    {"session_id", "input_length", "output_length", "hash_ids", "timestamp", "delay"}
)
PASSED_OVER: Final = frozenset(
    {
        "model",
        "output_token_ids",
        "policy_class",
        "priority",
        "routing_constraints",
        "strict_priority",
    }
)


@attrs.frozen(kw_only=True)
class Row:
    """One request.

    Attributes:
        line: Where it stands in the file, from 1 on.
        session: Name of its session.
        prompt_tokens: Length of the prompt.
        output_tokens: Length of the output.
        blocks: Hashes of the prompt's blocks, the last one maybe of a part; an id
            stands for all of the prompt up to its end.
        timestamp_s: When it was sent, seconds.
        delay_s: Between the request before it and this one, seconds.
    """

    line: int
    session: str | None
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] | None
    timestamp_s: float | None
    delay_s: float | None


@contextmanager
def faults_at(file: str, line: int) -> Iterator[None]:
    """Say of a fault where it is.

    Raises:
        TraceError: There is a fault.
    """
    try:
        yield
    except TraceFault as fault:
        raise TraceError(
            fault.message, file=file, line=line, field=fault.field
        ) from None


def checked(value: Any, known: frozenset[str]) -> dict[str, Any]:
    """Return a row with canonical names, after a look at its fields."""
    if isinstance(value, dict):
        value = {_ALIASES.get(name, name): each for name, each in value.items()}
        for name in sorted(_TEXTS & value.keys()):
            if value.get("input_length") is None:
                refuse(name, "is text: only rows with input_length are imported")
    check_keys(value, {"input_length", "output_length"}, set(known | _TEXTS))
    return {name: each for name, each in value.items() if each is not None}


def common_of(value: Mapping[str, Any], line: int, block_tokens: int) -> Row:
    """Return what all formats have."""
    prompt_tokens = _tokens(value, "input_length")
    return Row(
        line=line,
        session=None if "session_id" not in value else text(value, "session_id"),
        prompt_tokens=prompt_tokens,
        output_tokens=_tokens(value, "output_length"),
        blocks=_blocks(value, prompt_tokens, block_tokens),
        timestamp_s=seconds(value, "timestamp"),
        delay_s=seconds(value, "delay"),
    )


def text(value: Mapping[str, Any], name: str) -> str:
    """Return a field that is a name."""
    given = value[name]
    if is_int(given):
        return str(given)
    if not isinstance(given, str) or not given:
        refuse(name, f"must be a name: {given!r}")
    return given


def seconds(value: Mapping[str, Any], name: str) -> float | None:
    """Return a field in milliseconds as seconds; None where there is none."""
    if name not in value:
        return None
    given = value[name]
    is_number = is_int(given) or isinstance(given, float)
    if not is_number or not isfinite(given) or not 0 <= given <= 1_000 * MAX_SECONDS:
        refuse(name, f"must be 0 to {1_000 * MAX_SECONDS} milliseconds: {given!r}")
    return float(given) / 1_000


def _tokens(value: Mapping[str, Any], name: str) -> int:
    if name not in value:
        refuse(name, "is missing")
    given: int = value[name]
    if not is_int(given) or not 1 <= given <= MAX_TOKENS:
        refuse(name, f"must be 1 to {MAX_TOKENS} tokens: {given!r}")
    return given


def _blocks(
    value: Mapping[str, Any], prompt_tokens: int, block_tokens: int
) -> tuple[int, ...] | None:
    given = value.get("hash_ids")
    if given is None:
        return None
    if not isinstance(given, list) or not all(map(is_int, given)):
        refuse("hash_ids", f"must be a list of block ids: {given!r}")
    full = prompt_tokens // block_tokens
    if len(given) not in {full, -(-prompt_tokens // block_tokens)}:
        refuse(
            "hash_ids",
            f"{len(given)} blocks of {block_tokens} tokens are not {prompt_tokens} "
            "tokens: is it another block size?",
        )
    return tuple(given)
