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

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.config.faults import Faults, Findings
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


_POLICY: Final = "atlas"
_BALANCER: Final = "locality-aware"


@attrs.frozen(kw_only=True)
class _RuntimeTable:
    """The table ``runtime`` of a file."""

    policy: Any = _POLICY
    balancer: Any = _BALANCER
    shutdown_s: float = attrs.field(default=10.0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class _File:
    """A file as a whole; what depends on names is checked when they are resolved."""

    runtime: _RuntimeTable = attrs.field(factory=_RuntimeTable)
    engines: Any = attrs.field()

    @engines.validator
    def _check_engines(self, _: object, value: Any) -> None:
        if isinstance(value, Mapping):
            raise TypeError(
                "engines must be tables in a list, also a single one: write "
                f"[[engines]], not [engines]: {value!r}"
            )
        if not isinstance(value, list):
            raise TypeError(f"engines must be tables, [[engines]]: {value!r}")
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
        policy_kind: What files call the policy.
        balancer_kind: What they call the balancer.
    """

    policy: Policy
    balancer: Balancer
    engines: Sequence[EngineSettings]
    shutdown_s: float
    policy_kind: str
    balancer_kind: str

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

    One that cannot be read, or says something that cannot be, is a ``ConfigError`` with
    all faults at once: the first as the error, the others as notes on it. One that
    names what is not fully installed is ``MissingExtra``.
    """
    tables = _tables(Path(path))
    try:
        return _config(tables)
    except Faults as found:
        raise found.together(f"in {path}") from None


def load_runtime(path: str | Path) -> AutellixRuntime:
    """Return the runtime that a configuration file describes; errors as of ``load``.

    Enter it to load the engines.
    """
    return load(path).runtime()


def _tables(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}{_line(text, error)}") from error


def _line(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return the line that an error of syntax is about; where it is the end, nothing.

    Its number is an attribute only from Python 3.14 on.
    """
    place = re.search(r"at line (\d+)", str(error))
    lines = text.split("\n")
    if place is None or int(place[1]) > len(lines):
        return ""
    return f": {lines[int(place[1]) - 1].strip()}"


def _config(tables: Table) -> Config:
    """Return what the tables come to.

    Each part is looked at whatever is wrong with the others.

    Raises:
        Faults: Something is wrong.
    """
    findings = Findings()
    file = findings.of(structured, tables, _File, "")
    runtime = tables.get("runtime")
    named = runtime if isinstance(runtime, Mapping) else {}
    policy_table = named.get("policy", _POLICY)
    balancer_table = named.get("balancer", _BALANCER)
    policy = findings.of(policy_from, policy_table, "runtime.policy")
    balancer = findings.of(balancer_from, balancer_table, "runtime.balancer")
    listed = tables.get("engines")
    engines = [
        findings.of(engine_from, table, f"engines[{index}]")
        for index, table in enumerate(listed if isinstance(listed, list) else ())
    ]
    findings.faults += _same_names(engines)
    if file is None or policy is None or balancer is None or findings.faults:
        raise Faults(findings.faults)
    return Config(
        policy=policy,
        balancer=balancer,
        engines=[engine for engine in engines if engine is not None],
        shutdown_s=file.runtime.shutdown_s,
        policy_kind=_kind(policy_table),
        balancer_kind=_kind(balancer_table),
    )


def _kind(value: str | Table) -> str:
    return value if isinstance(value, str) else str(value["kind"])


def _same_names(engines: Sequence[EngineSettings | None]) -> Iterator[ConfigError]:
    """Yield a fault for each engine with a name that one before it has already."""
    first: dict[str, int] = {}
    for index, engine in enumerate(engines):
        if engine and first.setdefault(engine.name, index) != index:
            yield ConfigError(
                f"engines[{first[engine.name]}] has the name {engine.name!r} already",
                path=f"engines[{index}].name",
            )
