"""Settings as TOML text: the standard library reads TOML, but does not write it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import attrs

from autellix.policies.gittins import SizeModel
from autellix.runtime.learning import sizes_to_json

_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


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
        case str() | Path():
            return str(value)
        case SizeModel():
            return sizes_to_json(value) if value != SizeModel() else None
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case Sequence():
            return [_plain(inner) for inner in value]
        case _:
            return plain_fields(value) if attrs.has(type(value)) else value


def toml_lines(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a table of plain values line by line, its tables after all else.

    TOML has no word for None: such a key is in a comment.

    Args:
        table: Keys that are no words are quoted.
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
            yield f"{_key(key)} = {_value(value)}"
    for key, value in deeper.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        for one in [value] if isinstance(value, dict) else value:
            yield ""
            yield f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"
            yield from toml_lines(one, name)


def _key(word: str) -> str:
    return word if _WORD.fullmatch(word) else json.dumps(word, ensure_ascii=False)


def _is_tables(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are words of TOML too
    return json.dumps(value, ensure_ascii=False)
