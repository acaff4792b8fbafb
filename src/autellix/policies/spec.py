"""A policy on its way into another process: an import path and plain fields (rule Q6).

A spec holds nothing but dicts, lists, strings and numbers, so that any format carries
it, and what arrives is built by the class's own constructor, validators included.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import attrs

from autellix.errors import PolicyNotPortable

if TYPE_CHECKING:
    from autellix.core.ranking import Policy

Spec: TypeAlias = dict[str, Any]

_PLAIN = (str, int, float, bool, type(None))


def to_spec(policy: Policy) -> Spec:
    """Return ``{"path": "module:Class", "fields": {…}}`` for a policy.

    Fields may be plain values, enums, sequences, mappings and attrs classes. Anything
    else, or a class that cannot be imported elsewhere, is ``PolicyNotPortable``.
    """
    return _object_spec(policy, "policy")


def from_spec(spec: Mapping[str, Any]) -> Policy:
    """Build the policy that ``to_spec`` described; sequences come back as tuples.

    A class that cannot be imported here is ``PolicyNotPortable``, with the cause.
    """
    return cast("Policy", _built(spec))


def _object_spec(value: Any, where: str) -> Spec:
    kind = type(value)
    if not attrs.has(kind):
        raise PolicyNotPortable(
            f"{where}: {kind.__qualname__} is neither a plain value nor an attrs class"
        )
    fields = {
        field.alias: _field_spec(getattr(value, field.name), f"{where}.{field.name}")
        for field in attrs.fields(kind)
        if field.init
    }
    return {"path": _path_of(kind, where), "fields": fields}


def _field_spec(value: Any, where: str) -> Any:
    match value:
        case Enum():
            return {"path": _path_of(type(value), where), "member": value.name}
        case _ if type(value) in _PLAIN:
            return value
        case Mapping():
            pairs = enumerate(value.items())
            return {"items": [_field_spec(p, f"{where}[{i}]") for i, p in pairs]}
        case Sequence() if not isinstance(value, str | bytes):
            return [_field_spec(v, f"{where}[{i}]") for i, v in enumerate(value)]
        case _:
            return _object_spec(value, where)


def _path_of(kind: type, where: str) -> str:
    """Return ``module:Class``, once it is sure to lead back to the class.

    Raises:
        PolicyNotPortable: It does not.
    """
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__":
        raise PolicyNotPortable(
            f"{where}: {kind.__qualname__} is defined in __main__, which in another "
            "process is another module: move it into one that can be imported"
        )
    if "<locals>" in kind.__qualname__:
        raise PolicyNotPortable(
            f"{where}: {name} is defined inside a function and cannot be imported: "
            "move it to the top of its module"
        )
    if _imported(name) is not kind:
        raise PolicyNotPortable(f"{where}: {name} is not the class it leads to")
    return name


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise PolicyNotPortable(f"cannot import {path!r}: {error}") from error


def _built(spec: Any) -> Any:
    match spec:
        case {"path": path, "fields": fields}:
            values = {name: _built(value) for name, value in fields.items()}
            return _imported(path)(**values)
        case {"path": path, "member": member}:
            return _imported(path)[member]
        case {"items": items}:
            return dict(_built(items))
        case list() | tuple():
            return tuple(_built(value) for value in spec)
        case _:
            return spec
