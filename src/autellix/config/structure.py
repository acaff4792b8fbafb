"""Plain values from a file become attrs classes: strictly, with every fault located.

cattrs does the work. Left to itself it would turn ``"8"`` into 8 and say "invalid
value"; here nothing is converted but whole numbers into floats, and each message has
the dotted path of the key and shows the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, get_args, get_origin

import attrs

from autellix.backends.arguments import nearest
from autellix.config.faults import Faults, faults_in, joined, too_large
from autellix.errors import ConfigError, MissingExtra, SizeModelError
from autellix.policies import Ladder
from autellix.policies.gittins import SizeModel
from autellix.runtime.learning import load_sizes, sizes_from_json

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
Table: TypeAlias = Mapping[str, Any]
_Hook: TypeAlias = Callable[[Any, Any], Any]
_HookMaker: TypeAlias = Callable[..., _Hook]

_NOUNS = {int: "an integer", float: "a number", str: "a string", bool: "a boolean"}
_LISTS = (list, tuple, set, frozenset, Sequence)
_DEEPER = re.compile(r"[.\[].*")  # in a path, what comes after its first key


@attrs.frozen(kw_only=True)
class _GeometricLadder:
    """The short way to write a ladder."""

    first_s: float
    ratio: float
    levels: int


def structured(value: Table, kind: type[T], path: str) -> T:
    """Return a table of the file as an instance of the attrs class ``kind``.

    Args:
        value: As ``tomllib`` gave it.
        kind: Its annotations and validators say what is allowed.
        path: Where in the file the table stands.

    Raises:
        Faults: It cannot be one.
        MissingExtra: cattrs is not installed.
    """
    try:
        converter = _converter()
    except ImportError as error:
        raise MissingExtra(
            "reading a configuration", module="cattrs", extra="config"
        ) from error
    try:
        return converter.structure(value, kind)
    except Faults as found:
        located = [
            ConfigError(fault.message, path=joined(path, fault.path))
            for fault in found.faults
        ]
        raise Faults(located) from None


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
    converter.register_structure_hook(SizeModel, _to_sizes)
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


def _to_sizes(value: Any, _: Any) -> SizeModel:
    """Return the size model in a file, or in the table that such a file holds.

    Raises:
        ValueError: There is none; a start that should be warm is never silently cold.
    """
    if isinstance(value, Mapping):
        return sizes_from_json(value)
    file = _to_plain(value, str)
    try:
        return load_sizes(file)
    except OSError as error:
        raise ValueError(f"{file!r} cannot be read: {error.strerror}") from error
    except SizeModelError as error:
        raise ValueError(str(error)) from error


def _table_hook(kind: type, converter: Converter) -> _Hook:
    """Return cattrs' own hook for an attrs class, made to find every fault.

    Validators run only once all values are there, and stop at the first they refuse.
    So each key at fault is taken away, and the rest is tried again.
    """
    from cattrs.errors import BaseValidationError
    from cattrs.gen import make_dict_structure_fn, override

    attrs.resolve_types(kind)
    fields = [field for field in attrs.fields(kind) if field.init]
    hooks = {
        field.name: override(struct_hook=_field_hook(field, converter))
        for field in fields
    }
    make: _HookMaker = make_dict_structure_fn
    structure = make(kind, converter, **hooks)
    known = sorted(field.alias for field in fields)
    needed = [field.alias for field in fields if field.default is attrs.NOTHING]

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"must be a table: {value!r}")
        faults = list(_wrong_keys(value, known, needed))
        left = {key: value[key] for key in value if key in known}
        while True:
            try:
                built = structure(left, kind)
            except BaseValidationError as error:
                found = list(faults_in(error, left, known))
                gone = [key for key in value if key in known and key not in left]
                faults += (fault for fault in found if not _names(fault, gone))
                wrong = {_DEEPER.sub("", fault.path) for fault in found}
                if not wrong & left.keys():
                    raise Faults(faults) from None
                left = {key: left[key] for key in left if key not in wrong}
            else:
                if faults:
                    raise Faults(faults)
                return built

    return checked


def _wrong_keys(
    table: Table, known: Collection[str], needed: Iterable[str]
) -> Iterator[ConfigError]:
    """Yield a fault for each key that is not known, or is needed and not there."""
    for key, value in table.items():
        if key not in known:
            hint = nearest(key, known) or f"; there are: {', '.join(known)}"
            yield ConfigError(f"unknown key, with value {value!r}{hint}", path=key)
    for key in needed:
        if key not in table:
            yield ConfigError("this key is needed", path=key)


def _names(fault: ConfigError, keys: Iterable[str]) -> bool:
    """Say whether a fault is about keys taken away: about defaults, not the file."""
    return any(re.search(rf"\b{key}\b", fault.message) for key in keys)


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
        if not isinstance(value, Mapping) or value.keys() & {"bounds_s", "quanta_s"}:
            return cast("Ladder", in_full(value, kind))
        short: _GeometricLadder = in_short(value, kind)
        try:
            return Ladder.geometric(short.first_s, short.ratio, short.levels)
        except OverflowError as error:
            raise ValueError(too_large(value)) from error

    return structure
