"""Configuration files: TOML in, a checked runtime out.

Instances are what the runtime takes; names exist only here. A file reads::

    [runtime]
    policy = "atlas"              # or a table: [runtime.policy] with kind = "atlas"
    balancer = "locality-aware"

    [[engines]]
    backend = "simulated"         # another backend is another word here
    name = "a"
    slots = 16

What may stand in an engine's table are the options of its backend; in a policy's or
balancer's table, beside ``kind``, the fields of its class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from autellix.config.plugins import (
    EngineSettings,
    balancer_from,
    engine_from,
    policy_from,
)
from autellix.config.structure import Table, structured
from autellix.errors import ConfigError
from autellix.runtime import AutellixRuntime

if TYPE_CHECKING:
    from autellix.balancers import Balancer
    from autellix.core.ranking import Policy

__all__ = ["Config", "EngineSettings", "load", "load_runtime"]


_not_negative = attrs.validators.ge(0.0)


@attrs.frozen(kw_only=True)
class _RuntimeTable:
    """The table ``runtime`` of a file."""

    policy: Any = "atlas"
    balancer: Any = "locality-aware"
    shutdown_s: float = attrs.field(default=10.0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class _File:
    """A file as a whole; what depends on names is checked when they are resolved."""

    runtime: _RuntimeTable = attrs.field(factory=_RuntimeTable)
    engines: list[Any] = attrs.field()

    @engines.validator
    def _check_engines(self, _: object, value: list[Any]) -> None:
        if not value:
            raise ValueError(
                f"engines must be tables, [[engines]], one or more: {value}"
            )


@attrs.frozen(kw_only=True)
class Config:
    """A configuration, checked; nothing of it is loaded yet.

    Attributes:
        policy: Orders the calls; ``atlas`` where the file names none.
        balancer: Chooses their engines; ``locality-aware`` where the file names none.
        engines: At least one, no two of one name.
        shutdown_s: How long engines may take to give everything back at the end.
    """

    policy: Policy
    balancer: Balancer
    engines: Sequence[EngineSettings]
    shutdown_s: float

    def runtime(self) -> AutellixRuntime:
        """Return a new runtime with engines of its own; enter it to load them."""
        return AutellixRuntime(
            engines=[engine.make(engine.options) for engine in self.engines],
            policy=self.policy,
            balancer=self.balancer,
            shutdown_s=self.shutdown_s,
        )


def load(path: str | Path) -> Config:
    """Read a configuration file.

    One that names what is not fully installed is ``MissingExtra``.

    Raises:
        ConfigError: It cannot be read, or says something that cannot be.
    """
    try:
        return _config(_tables(Path(path)))
    except ConfigError as error:
        error.add_note(f"in {path}")
        raise


def load_runtime(path: str | Path) -> AutellixRuntime:
    """Return the runtime that a configuration file describes; errors as of ``load``.

    Enter it to load the engines.
    """
    return load(path).runtime()


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not TOML: {error}") from error


def _config(tables: Table) -> Config:
    file = structured(tables, _File, path="")
    runtime = file.runtime
    return Config(
        policy=policy_from(runtime.policy, "runtime.policy"),
        balancer=balancer_from(runtime.balancer, "runtime.balancer"),
        engines=_distinct(
            [
                engine_from(table, f"engines[{i}]")
                for i, table in enumerate(file.engines)
            ]
        ),
        shutdown_s=runtime.shutdown_s,
    )


def _distinct(engines: Sequence[EngineSettings]) -> Sequence[EngineSettings]:
    """Return ``engines``, which have to differ in name.

    Raises:
        ConfigError: Two are of one name.
    """
    first: dict[str, int] = {}
    for index, engine in enumerate(engines):
        if first.setdefault(engine.name, index) != index:
            raise ConfigError(
                f"engines[{first[engine.name]}] has the name {engine.name!r} already",
                path=f"engines[{index}].name",
            )
    return engines
