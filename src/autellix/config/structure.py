"""Plain values from a file become attrs classes: strictly, with every fault located.

cattrs does the work. Left to itself it would turn ``"8"`` into 8 and say "invalid
value"; here nothing is converted but whole numbers into floats, and each message has
the dotted path of the key and shows the value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, get_args, get_origin

import attrs

from autellix.errors import ConfigError, MissingExtra
from autellix.policies import Ladder

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
Table: TypeAlias = Mapping[str, Any]
_Hook: TypeAlias = Callable[[Any, Any], Any]
_HookMaker: TypeAlias = Callable[..., _Hook]

_NOUNS = {int: "an integer", float: "a number", str: "a string", bool: "a boolean"}
_LISTS = (list, tuple, set, frozenset, Sequence)
_KEY_FIRST = re.compile(r"'?(\w+)")  # attrs writes: 'slots' must be >= 1: 0


@attrs.frozen(kw_only=True)
class _GeometricLadder:
    """The short way to write a ladder."""

    first_s: float
    ratio: float
    levels: int


def structured(value: Table, kind: type[T], path: str) -> T:
    """Return a table of the file as an instance of the attrs class ``kind``.

    Where it cannot be, the first fault is a ``ConfigError``, others are notes on it.

    Args:
        value: As ``tomllib`` gave it.
        kind: Its annotations and validators say what is allowed.
        path: Where in the file the table stands.

    Raises:
        MissingExtra: cattrs is not installed.
    """
    try:
        from cattrs.errors import BaseValidationError
    except ImportError as error:
        raise MissingExtra(
            "reading a configuration", module="cattrs", extra="config"
        ) from error
    try:
        return _converter().structure(value, kind)
    except (BaseValidationError, ConfigError) as error:
        first, *others = _faults(error, path)
        for other in others:
            first.add_note(f"also: {other}")
        raise first from error


def _check_keys(table: Table, known: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse a table with a key that is not known, or without one that is needed.

    Raises:
        ConfigError: So it is; the nearest known key is named.
    """
    names = sorted(known)
    for key, value in table.items():
        if key not in names:
            hint = nearest(key, names) or f"; there are: {', '.join(names)}"
            raise ConfigError(f"unknown key, with value {value!r}{hint}", path=key)
    for key in needed:
        if key not in table:
            raise ConfigError("this key is needed", path=key)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question after the known word nearest to ``word``; empty if none is."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def joined(path: str, key: str) -> str:
    """Return the dotted path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path and key else path or key


def _converter() -> Converter:
    """Return a cattrs converter that coerces nothing."""
    from cattrs import Converter
    from cattrs.strategies import configure_union_passthrough

    converter = Converter(use_alias=True)
    configure_union_passthrough(str | int | float | bool | None, converter)
    for kind in _NOUNS:
        converter.register_structure_hook(kind, _to_plain)
    converter.register_structure_hook(
        Path, lambda value, _: Path(_to_plain(value, str))
    )
    converter.register_structure_hook(Enum, _to_enum)
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _table_hook(kind, converter)
    )
    converter.register_structure_hook(Ladder, _ladder_hook(converter))
    return converter


def _to_plain(value: Any, kind: type) -> Any:
    """Return ``value`` if it is of that very type; an int passes for a float.

    Enums of strings or numbers come here too, as subclasses of what is registered.

    Raises:
        TypeError: It is not.
    """
    if issubclass(kind, Enum):
        return _to_enum(value, kind)
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError(f"must be {_NOUNS[kind]}: {value!r}")


def _to_enum(value: Any, kind: type[Enum]) -> Enum:
    """Return the member with that value.

    Raises:
        ValueError: There is none.
    """
    words = [member.value for member in kind]
    if value not in words:
        choice = ", ".join(map(repr, words))
        raise ValueError(f"must be one of {choice}: {value!r}")
    return kind(value)


def _table_hook(kind: type, converter: Converter) -> _Hook:
    """Return cattrs' own hook for an attrs class, behind checks of what it is given."""
    from cattrs.gen import make_dict_structure_fn, override

    attrs.resolve_types(kind)
    fields = [field for field in attrs.fields(kind) if field.init]
    hooks = {
        field.name: override(struct_hook=_field_hook(field, converter))
        for field in fields
    }
    make: _HookMaker = make_dict_structure_fn
    structure = make(kind, converter, **hooks)
    known = [field.alias for field in fields]
    needed = [field.alias for field in fields if field.default is attrs.NOTHING]

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"must be a table: {value!r}")
        _check_keys(value, known, needed)
        return structure(value, kind)

    return checked


def _field_hook(field: attrs.Attribute[Any], converter: Converter) -> _Hook:
    """Return the hook of one field.

    Where a field for a table has a converter, a string is given to that: it names
    something ready-made. A string is never taken for a list of its letters.
    """
    hook = converter.get_structure_hook(field.type)
    by_name: Any = field.converter if attrs.has(field.type or object) else None
    takes_list = _takes_list(field.type)

    def structure(value: Any, kind: Any) -> Any:
        if by_name is not None and isinstance(value, str):
            return by_name(value)
        if takes_list and not isinstance(value, list):
            raise TypeError(f"must be a list: {value!r}")
        return hook(value, kind)

    return structure


def _takes_list(kind: Any) -> bool:
    return get_origin(kind) in _LISTS or any(map(_takes_list, get_args(kind)))


def _ladder_hook(converter: Converter) -> _Hook:
    in_full = _table_hook(Ladder, converter)
    in_short = _table_hook(_GeometricLadder, converter)

    def structure(value: Any, kind: Any) -> Ladder:
        if isinstance(value, Mapping) and not value.keys() & {"bounds_s", "quanta_s"}:
            short: _GeometricLadder = in_short(value, kind)
            return Ladder.geometric(short.first_s, short.ratio, short.levels)
        return cast("Ladder", in_full(value, kind))

    return structure


def _faults(
    error: BaseException, path: str, keys: Iterable[str] = ()
) -> Iterator[ConfigError]:
    """Take cattrs' tree of errors apart.

    Args:
        error: A branch or a leaf of it.
        path: Of the table or value in question.
        keys: Those of the table, where the error is about a whole table.

    Yields:
        Each fault, with its path.
    """
    from cattrs.errors import BaseValidationError

    if isinstance(error, BaseValidationError):
        is_table = attrs.has(error.cl)
        names = [field.alias for field in attrs.fields(error.cl)] if is_table else ()
        for inner in error.exceptions:
            where = _place_of(inner)
            yield from _faults(
                inner, f"{path}{where}".strip("."), () if where else names
            )
    elif isinstance(error, ConfigError):
        yield ConfigError(error.message, path=joined(path, error.path))
    else:
        message = str(error.args[0])
        named = _KEY_FIRST.match(message)
        key = named[1] if named and named[1] in keys else ""
        yield ConfigError(message, path=joined(path, key))


def _place_of(error: BaseException) -> str:
    """Return where in its table or list an error arose: ``.key``, ``[2]``, nothing."""
    from cattrs.errors import AttributeValidationNote, IterableValidationNote

    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""
