"""Backends, policies and balancers by the names that configuration files use.

Backends and policies are resolved through entry points, so that another package adds
one without touching this repository. Each is imported only when it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from autellix.backends.arguments import nearest
from autellix.balancers import LeastLoaded, LocalityAware, RoundRobin
from autellix.config.faults import Findings, joined
from autellix.config.structure import Table, structured
from autellix.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.balancers import Balancer
    from autellix.core.ranking import Policy

BACKENDS: Final = "autellix.backends"
POLICIES: Final = "autellix.policies"

_BALANCERS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "least-loaded": LeastLoaded,
        "locality-aware": LocalityAware,
        "round-robin": RoundRobin,
    }
)


@attrs.frozen(kw_only=True)
class EngineSettings:
    """One engine of a configuration, checked and not yet made.

    Attributes:
        name: The engine's own, unique in a configuration.
        backend: Name of its kind.
        options: Instance of the backend's own class of options.
        make: Makes the engine from the options; loads nothing.
    """

    name: str
    backend: str
    options: Any
    make: Callable[[Any], Engine] = attrs.field(repr=False)


def policy_from(value: Any, path: str) -> Policy:
    """Return the policy named by a string, or by ``kind`` in a table of its options.

    Errors are ``ConfigError``, ``Faults`` and ``MissingExtra``; ``path`` is where in
    the file it stands.
    """
    kind, options, where = _split(value, "kind", path)
    loaded = _loaded(POLICIES, "policy", kind, where)
    return cast("Policy", structured(options, loaded, path))


def balancer_from(value: Any, path: str) -> Balancer:
    """Return the balancer named by a string, or by ``kind`` in a table of its options.

    Errors and ``path`` as of ``policy_from``.
    """
    kind, options, where = _split(value, "kind", path)
    _check_known("balancer", kind, _BALANCERS, where)
    return cast("Balancer", structured(options, _BALANCERS[kind], path))


def engine_from(value: Any, path: str) -> EngineSettings:
    """Return an engine's settings from its table: ``backend``, and that one's options.

    Errors and ``path`` as of ``policy_from``.

    Raises:
        ConfigError: It is not a table, or no engine can be made of it.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a table: {value!r}", path=path)
    backend, options, where = _split(value, "backend", path)
    options_class, make = _loaded(BACKENDS, "backend", backend, where)
    findings = Findings()
    built = findings.of(structured, options, options_class, path)
    name_at = joined(path, "name")
    if all(fault.path != name_at for fault in findings.faults):
        findings.of(_check_name, options, name_at)
    findings.check()
    try:
        name = make(built).name
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error), path=path) from error
    return EngineSettings(name=name, backend=backend, options=built, make=make)


def _check_name(options: Table, path: str) -> None:
    """Refuse an empty name.

    Raises:
        ConfigError: It is one.
    """
    name = options.get("name")
    if isinstance(name, str) and not name.strip():
        raise ConfigError(f"'name' must not be empty: {name!r}", path=path)


def _split(value: Any, key: str, path: str) -> tuple[str, Table, str]:
    """Return a name, the options that stand beside it, and the path of the name.

    Raises:
        ConfigError: There is no name.
    """
    if isinstance(value, str):
        return value, {}, path
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a name or a table: {value!r}", path=path)
    where = joined(path, key)
    if key not in value:
        raise ConfigError("this key is needed", path=where)
    if not isinstance(value[key], str):
        raise ConfigError(f"must be a string: {value[key]!r}", path=where)
    return value[key], {k: v for k, v in value.items() if k != key}, where


def _loaded(group: str, what: str, name: str, path: str) -> Any:
    """Return the object behind an entry point.

    Raises:
        MissingExtra: It cannot be imported.
    """
    installed = entry_points(group=group)
    _check_known(what, name, installed.names, path)
    try:
        return installed[name].load()
    except ImportError as error:
        raise MissingExtra(
            f"{what} {name!r}",
            module=error.name or str(error),
            extra=name,
            package=_package_of(installed[name]),
        ) from error


def _check_known(what: str, name: str, known: Collection[str], path: str) -> None:
    """Refuse a name that stands for nothing installed.

    Raises:
        ConfigError: So it is.
    """
    if name not in known:
        installed = ", ".join(sorted(known))
        raise ConfigError(
            f"unknown {what} {name!r}{nearest(name, known)}; installed: {installed}",
            path=path,
        )


def _package_of(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "autellix"
