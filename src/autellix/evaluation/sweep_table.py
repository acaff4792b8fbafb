"""One table of a file of sweeps: what may stand there, before names are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from autellix.evaluation.point import Arrival

ENGINE: Final[Mapping[str, Any]] = {"backend": "simulated"}


@attrs.frozen(kw_only=True)
class SweepTable:
    """One table of a file, before its names are looked up.

    Attributes:
        name: Heads its tables and pictures.
        workloads: Names, trace files, or tables of the fields of ``Workload``; parts of
            a mix are names, trace files, or tables of the fields of ``Part``.
        policies: Names or tables; the first is the baseline.
        balancers: Names or tables; if there is one policy, the first is the baseline.
        arrivals: See ``Arrival``.
        loads: Multiples of saturation; none where no load sets the rate.
        seeds: How many repeats, with the seeds 0, 1, …
        programs: In each run; None: each of the trace once.
        engines: How many engines, each number for itself.
        engine: One table of an engine, or several to be compared.
        limit: Most programs at once; None: any.
    """

    name: str = "sweep"
    workloads: Any
    policies: Any
    balancers: Any = ("locality-aware",)
    arrivals: str = attrs.field(default=Arrival.POISSON.value)
    loads: Sequence[float] = attrs.field(default=())
    seeds: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    programs: int | None = None
    engines: Sequence[int] = attrs.field(
        default=(1,),
        validator=attrs.validators.deep_iterable(attrs.validators.ge(1)),
    )
    engine: Any = ENGINE
    limit: int | None = None

    @arrivals.validator
    def _check_arrivals(self, _: object, value: str) -> None:
        if value not in list(Arrival):
            known = ", ".join(Arrival)
            raise ValueError(f"arrivals must be one of {known}: {value!r}")

    @loads.validator
    def _check_loads(self, _: object, value: Sequence[float]) -> None:
        if value and not Arrival(self.arrivals).has_load:
            raise ValueError(f"loads mean nothing: arrivals are {self.arrivals}")
        if not value and Arrival(self.arrivals).has_load:
            raise ValueError("loads are needed, one or more multiples of saturation")
