"""Engines from tables, as configuration files write them, and back from a point."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.config.plugins import engine_from
from autellix.errors import ConfigError
from autellix.evaluation.point import Setup

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine

_COSTS: Final = "saturation_costs"
_OUR_OWN: Final = frozenset({"name", "seed"})
"""Options that the harness gives: they say nothing about an engine."""


def setup_from(table: Mapping[str, Any], *, engines: int, path: str) -> Setup:
    """Return equal engines, from the table of one.

    Args:
        table: Of ``[[engines]]``. ``backend`` may be left out: simulated. Another that
            is given no ``costs`` of its own needs ``saturation_costs``: what loads are
            multiples of. Both are a preset, by name or file, or a table of costs.
        engines: How many.
        path: Where in a file the table stands.

    Raises:
        ConfigError: It has none; or as of ``engine_from``.
    """
    given = {"backend": "simulated", **table}
    costs = given.pop(_COSTS, None)
    if isinstance(given.get("costs"), str):
        given["costs"] = _costs(given["costs"], path)
    settings = engine_from(given, path)
    options = _plain(settings.options)
    if "costs" not in options:
        if costs is None:
            raise ConfigError(
                f"engines of {settings.backend!r} need {_COSTS}, a preset or a table: "
                "loads are multiples of what such an engine can do",
                path=path,
            )
        costs = _costs(costs, path)
    return Setup(
        backend=settings.backend,
        engines=engines,
        options=options,
        costs=options.get("costs", costs),
    )


def engines_of(setup: Setup, *, seed: int = 0) -> list[Engine]:
    """Return new engines, not entered yet."""
    own = {"seed": seed} if setup.is_virtual else {}
    made = []
    for number in range(setup.engines):
        name = f"engine-{number}"
        table = {"backend": setup.backend, **setup.options, **own, "name": name}
        settings = engine_from(table, name)
        made.append(settings.make(settings.options))
    return made


def _costs(value: Any, path: str) -> Any:
    """Return the table of costs that a preset stands for; errors as of the engine."""
    simulated = engine_from({"backend": "simulated", "costs": value}, path)
    return _plain(simulated.options)["costs"]


def _plain(options: Any) -> dict[str, Any]:
    """Return options as values that JSON and TOML know; what is None is left out."""
    told: dict[str, Any] = attrs.asdict(options, value_serializer=_serialized)
    return {
        key: value
        for key, value in told.items()
        if value is not None and key not in _OUR_OWN
    }


def _serialized(_: type, __: attrs.Attribute[Any] | None, value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return str(value) if isinstance(value, Path) else value
