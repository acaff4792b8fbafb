"""Settings as TOML text: the standard library reads TOML, but does not write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import attrs


def plain_fields(settings: Any) -> dict[str, Any]:
    """Return the arguments of an attrs instance as values that a file can hold."""
    return {
        field.alias: _plain(getattr(settings, field.name))
        for field in attrs.fields(type(settings))
        if field.init
    }


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case str():
            return value
        case Sequence():
            return [_plain(inner) for inner in value]
        case _:
            return plain_fields(value) if attrs.has(type(value)) else value


def toml_lines(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a table of plain values line by line, its tables after all else.

    TOML has no word for None: such a key is in a comment.

    Args:
        table: Its keys are words.
        path: Of the table, dotted; empty: the whole file.
    """
    deeper = {
        key: value
        for key, value in table.items()
        if isinstance(value, dict) or _is_tables(value)
    }
    for key, value in table.items():
        if value is None:
            yield f"# {key} is not set"
        elif key not in deeper:
            yield f"{key} = {_value(value)}"
    for key, value in deeper.items():
        name = f"{path}.{key}" if path else key
        for one in [value] if isinstance(value, dict) else value:
            yield ""
            yield f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"
            yield from toml_lines(one, name)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are words of TOML too
    return json.dumps(value, ensure_ascii=False)
