"""What is compared, as files and flags say it: every combination is a point.

A file holds one sweep or more::

    [[sweeps]]
    name = "single engine"
    workloads = ["chat", { source = "my.jsonl.gz", gaps = "shell" }]
    policies = ["fcfs", "atlas", { kind = "plas", beta = 4.0 }]
    loads = [0.5, 1.0, 1.3]     # multiples of saturation
    seeds = 5
    programs = 1000

The first policy is what the others are compared with; of one policy under several
balancers, the first balancer is. What stands in an ``engine`` table is what stands in
``[[engines]]`` of a configuration; all keys are in ``sweep_table``.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from autellix.config.faults import Faults, Findings
from autellix.config.plugins import balancer_from, policy_from
from autellix.config.structure import Table, structured
from autellix.errors import ConfigError
from autellix.evaluation.point import (
    Arrival,
    Named,
    Part,
    Point,
    Setup,
    Workload,
    label,
)
from autellix.evaluation.programs import check_source
from autellix.evaluation.setups import setup_from
from autellix.evaluation.sweep_table import SweepTable
from autellix.policies.gittins import Gittins
from autellix.runtime.learning import sizes_to_json
from autellix.workloads.generators import GENERATORS

T = TypeVar("T")
Place = TypeVar("Place", Workload, Part)
_Make: TypeAlias = Callable[[Any, str], T]

_LEARNS: Final = "gittins"


@attrs.frozen(kw_only=True)
class Sweep:
    """What is compared with what.

    Attributes:
        name: Heads its tables and pictures.
        points: All of them; those of one seed come before those of the next, so that
            what an interrupt leaves can be compared.
    """

    name: str
    points: Sequence[Point]

    @property
    def compares_balancers(self) -> bool:
        """Whether balancers are compared: where there is one policy under several."""
        return len(self._labels("policy")) == 1 < len(self._labels("balancer"))

    @property
    def baseline(self) -> str:
        """What the others are compared with: the first policy, or balancer."""
        return self._labels("balancer" if self.compares_balancers else "policy")[0]

    def _labels(self, of: str) -> list[str]:
        return list(dict.fromkeys(label(getattr(point, of)) for point in self.points))


def sweeps_in(path: Path) -> list[Sweep]:
    """Read a file of sweeps; trace files are looked for from its folder on.

    Raises:
        ConfigError: It cannot be read, or something in it cannot be; all faults are
            told together, the first as the error, the others as notes on it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    listed = tables.get("sweeps")
    if set(tables) != {"sweeps"} or not isinstance(listed, list) or not listed:
        raise ConfigError(
            f"{path} must hold tables [[sweeps]], one or more, and nothing else; it "
            f"holds: {', '.join(tables) or 'nothing'}"
        )
    findings = Findings()
    found = [
        findings.of(_sweep_from, table, f"sweeps[{index}]", path.parent)
        for index, table in enumerate(listed)
    ]
    if findings.faults:
        raise Faults(findings.faults).together(f"in {path}")
    return [sweep for sweep in found if sweep is not None]


def sweep_from(table: Table) -> Sweep:
    """Return the sweep that a table describes; errors as of ``sweeps_in``."""
    try:
        return _sweep_from(table, "", Path())
    except Faults as found:
        raise found.together("as given on the command line") from None


def workload_from(value: Any, path: str, folder: Path) -> Workload:
    """Return the workload that a name or a table stands for.

    Args:
        value: From a file, or typed.
        path: Where in the file it stands.
        folder: Where trace files are looked for.

    Raises:
        ConfigError: There is no such workload; or ``Faults``, as of ``structured``.
    """
    try:
        table = _told(value) if isinstance(value, Mapping) else {"source": value}
        workload = structured(table, Workload, path)
        if workload.mix:
            parts = [_found(part, folder) for part in workload.mix]
            workload = attrs.evolve(workload, mix=parts)
        else:
            workload = _found(workload, folder)
        check_source(workload)
    except ConfigError as error:
        raise ConfigError(error.message, path=path) from None
    if workload.mix:
        return attrs.evolve(workload, mix=[_digested(part) for part in workload.mix])
    return _digested(workload)


def _told(table: Table) -> dict[str, Any]:
    """Return the table of a workload in full: a mix has a name, parts are tables.

    Raises:
        ConfigError: A mix is empty, or says also that it is something else.
    """
    mix = table.get("mix")
    if not isinstance(mix, list):
        return dict(table)
    if "source" in table:
        raise ConfigError(
            f"a mix has its sources in its parts: source = {table['source']!r} means "
            "nothing"
        )
    if not mix:
        raise ConfigError("mix: must be a list of one or more: []")
    parts = [part if isinstance(part, Mapping) else {"source": part} for part in mix]
    names = (Path(str(part.get("source"))).name.split(".")[0] for part in parts)
    return {**table, "source": "+".join(names), "mix": parts}


def _found(place: Place, folder: Path) -> Place:
    """Return it with the path of its trace file, if it is one."""
    if place.source in GENERATORS:
        return place
    return attrs.evolve(place, source=str(folder / place.source))


def _digested(place: Place) -> Place:
    """Return it with the digest of its trace file, if it is one."""
    if place.source in GENERATORS:
        return place
    content = Path(place.source).read_bytes()
    return attrs.evolve(place, digest=hashlib.sha256(content).hexdigest()[:12])


def _sweep_from(table: Table, path: str, folder: Path) -> Sweep:
    """Return a sweep.

    Raises:
        ConfigError: A point cannot be; or ``Faults``.
    """
    asked = structured(table, SweepTable, path)
    findings = Findings()
    engine = asked.engine if isinstance(asked.engine, list) else [asked.engine]

    def each(key: str, values: Any, make: _Make[T]) -> list[T]:
        where = f"{path}.{key}" if path else key
        if not isinstance(values, list | tuple) or not values:
            fault = ConfigError(
                f"must be a list of one or more: {values!r}", path=where
            )
            findings.faults.append(fault)
            return []
        made = [
            findings.of(make, value, f"{where}[{index}]")
            for index, value in enumerate(values)
        ]
        return [one for one in made if one is not None]

    workloads = each("workloads", asked.workloads, partial(_workload, folder))
    policies = each("policies", asked.policies, partial(_policy, folder))
    balancers = each("balancers", asked.balancers, _balancer)
    setups = [
        setup
        for engines in asked.engines
        for setup in each("engine", engine, partial(_setup, engines))
    ]
    findings.check()
    loads: Sequence[float | None] = asked.loads or [None]
    try:
        points = [
            Point(
                workload=workload,
                programs=asked.programs,
                arrivals=Arrival(asked.arrivals),
                load=load,
                limit=asked.limit,
                seed=seed,
                policy=policy,
                balancer=balancer,
                setup=setup,
            )
            for seed, load, workload, setup, balancer, policy in product(
                range(asked.seeds),
                loads,
                workloads,
                setups,
                balancers,
                policies,
            )
        ]
    except ValueError as error:
        raise ConfigError(str(error), path=path) from error
    return Sweep(name=asked.name, points=points)


def _workload(folder: Path, value: Any, path: str) -> Workload:
    return workload_from(value, path, folder)


def _setup(engines: int, value: Any, path: str) -> Setup:
    return setup_from(value, engines=engines, path=path)


def _policy(folder: Path, value: Any, path: str) -> Named:
    """Return a policy; one that starts warm has its model in it, not in a file.

    So a point stays what it is wherever it is run, and whatever becomes of the file.
    """
    learns = isinstance(value, Mapping) and value.get("kind") == _LEARNS
    if learns and isinstance(value.get("model"), str):
        value = {**value, "model": str(folder / value["model"])}
    policy = policy_from(value, path)
    if learns and "model" in value and isinstance(policy, Gittins):
        value = {**value, "model": sizes_to_json(policy.model)}
    named: Named = value
    return named


def _balancer(value: Any, path: str) -> Named:
    balancer_from(value, path)
    named: Named = value
    return named
