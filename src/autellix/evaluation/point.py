"""One run of a comparison, said in full: what arrives, what serves it, at which load.

A point is made of plain values only, so that it can go to another process, stand in a
line of JSON, and be recognised when a sweep is taken up again: equal points have equal
keys, and equal points of the same code have equal results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from autellix.backends.simulated.presets import PRESETS
from autellix.core.cost_model import CostModel

Named: TypeAlias = "str | Mapping[str, Any]"
"""A policy or balancer as configuration files write it: a name, or a table."""

_SIMULATED: Final = "simulated"
_LONGEST_OPTION: Final = 80
_NOT_GIVEN: Final = ("mix", "program_class")
"""Left out of a point's JSON where they are: keys from before they came stay valid."""
_RETAINS: Final = "retains_prefixes"
_RETAINING: Final = frozenset({_SIMULATED, "torch"})
"""Backends with that option: points from before it came have none, and do not."""


class Arrival(StrEnum):
    """How programs arrive."""

    POISSON = "poisson"
    BURSTS = "bursts"
    """With the gaps of the recording, at the rate of the load."""
    RECORDED = "recorded"
    """When they did."""
    AT_ONCE = "at-once"
    """All at the start; with a limit, a closed loop."""

    @property
    def has_load(self) -> bool:
        """Whether a load sets the rate."""
        return self in {Arrival.POISSON, Arrival.BURSTS}


def _factor(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{field.name} must be a factor above 0: {value!r}")


def _seconds(_: object, field: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0.0 <= value < float("inf"):
        raise ValueError(f"{field.name} must be seconds: {value!r}")


def _count(_: object, field: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{field.name} must be a whole number from 1 on: {value!r}")


@attrs.frozen(kw_only=True)
class Part:
    """One of several places that programs are from.

    Attributes:
        source: Name of a generator, or path of a trace file.
        digest: Of the trace file's content; empty for a generator.
        share: How likely a program is from here, against the shares of the others.
    """

    source: str
    digest: str = ""
    share: float = attrs.field(default=1.0, validator=_factor)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return Path(self.source).name.split(".")[0] if self.digest else self.source

    def without_folder(self) -> Part:
        """Return the same with no more of its path than the file's name."""
        source = Path(self.source).name if self.digest else self.source
        return attrs.evolve(self, source=source)


def _to_parts(parts: Iterable[Part | Mapping[str, Any]]) -> tuple[Part, ...]:
    return tuple(part if isinstance(part, Part) else Part(**part) for part in parts)


@attrs.frozen(kw_only=True)
class Workload:
    """What programs there are.

    Attributes:
        source: Name of a generator, or path of a trace file; of a mix, a name for it.
        digest: Of the trace file's content; empty for a generator.
        longest_call_tokens: Programs with a longer call (prompt and output) are left
            out; None: one that does not fit the engine is an error.
        gaps: Model that gaps not recorded are drawn from; None: they take no time.
        most_gap_s: Longer gaps are cut to that; None: none is.
        prompt_factor: Lengths of what is new in prompts are scaled by that.
        output_factor: Lengths of outputs are.
        tells_parents: Whether calls say which calls they follow (rule A6).
        mix: Where programs are from, each program drawn by the shares; empty: all are
            from ``source``.
        program_class: One name for all programs, so that no policy can tell them
            apart; None: those of their sources.
    """

    source: str
    digest: str = ""
    longest_call_tokens: int | None = attrs.field(default=None, validator=_count)
    gaps: str | None = None
    most_gap_s: float | None = attrs.field(default=None, validator=_seconds)
    prompt_factor: float = attrs.field(default=1.0, validator=_factor)
    output_factor: float = attrs.field(default=1.0, validator=_factor)
    tells_parents: bool = False
    mix: tuple[Part, ...] = attrs.field(default=(), converter=_to_parts)
    program_class: str | None = None

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return Part(source=self.source, digest=self.digest).name

    def without_folders(self) -> Workload:
        """Return the same with no more of paths than the names of files."""
        whole = Part(source=self.source, digest=self.digest).without_folder()
        mix = tuple(part.without_folder() for part in self.mix)
        return attrs.evolve(self, source=whole.source, mix=mix)


@attrs.frozen(kw_only=True)
class Setup:
    """What serves: equal engines.

    Attributes:
        backend: Kind of engine.
        engines: How many.
        options: Of each engine, defaults included, as its backend takes them.
        costs: Fields of the cost model that saturation is computed with; a simulated
            engine's own.
    """

    backend: str = _SIMULATED
    engines: int = attrs.field(default=1, validator=_count)
    options: Mapping[str, Any] = attrs.field(factory=dict)
    costs: Mapping[str, int] = attrs.field()

    @property
    def is_virtual(self) -> bool:
        """Whether runs take place in virtual time."""
        return self.backend == _SIMULATED

    @property
    def cost_model(self) -> CostModel:
        """The costs as a record."""
        return CostModel(**self.costs)

    @property
    def preset(self) -> str:
        """Name of the costs, where they are a preset's."""
        costs = self.cost_model
        return next((name for name, one in PRESETS.items() if one == costs), "custom")


@attrs.frozen(kw_only=True)
class Point:
    """One run.

    Attributes:
        workload: What arrives.
        programs: How many; None: each of the trace once.
        arrivals: How they arrive.
        load: Multiple of the rate at which the engines are just full (see
            ``autellix.workloads.saturation``); None where no load sets the rate.
        limit: Most programs at once; None: any.
        seed: Of programs, arrivals, prompts and gaps.
        policy: Orders the calls.
        balancer: Chooses their engines.
        setup: Serves them.
    """

    workload: Workload
    programs: int | None = attrs.field(validator=_count)
    arrivals: Arrival = attrs.field(default=Arrival.POISSON, converter=Arrival)
    load: float | None = attrs.field(
        default=None, converter=attrs.converters.optional(float)
    )
    limit: int | None = attrs.field(default=None, validator=_count)
    seed: int = 0
    policy: Named
    balancer: Named = "locality-aware"
    setup: Setup

    def __attrs_post_init__(self) -> None:
        """Check the load.

        Raises:
            ValueError: It is not above 0, or is given where it means nothing.
        """
        if not self.arrivals.has_load:
            if self.load is not None:
                raise ValueError(f"{self.arrivals} arrivals have no load: {self.load}")
        elif self.load is None or not 0.0 < self.load < float("inf"):
            raise ValueError(
                f"load must be above 0, as a multiple of saturation: {self.load!r}"
            )

    def without_folders(self) -> Point:
        """Return the same, of the same key, without where files lie on this machine."""
        return attrs.evolve(self, workload=self.workload.without_folders())

    @property
    def key(self) -> str:
        """Stable name of this point: equal points, wherever and whenever, have it."""
        told = self.to_json()
        told["workload"]["source"] = self.workload.name
        for part, told_part in zip(
            self.workload.mix, told["workload"].get("mix", ()), strict=True
        ):
            told_part["source"] = part.name
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        told = attrs.asdict(self, value_serializer=_plain)
        for name in _NOT_GIVEN:
            if not told["workload"][name]:
                del told["workload"][name]
        if told["setup"]["options"].get(_RETAINS) is False:
            del told["setup"]["options"][_RETAINS]
        return told

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Point:
        """Return the point that ``to_json`` was asked of.

        Raises:
            ValueError: It is none.
        """
        try:
            workload = Workload(**value["workload"])
            setup = Setup(**_with_retention(value["setup"]))
            return cls(**{**value, "workload": workload, "setup": setup})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no point: {error}") from error


def _with_retention(setup: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a set-up that says what it left out; see ``_RETAINING``."""
    if setup.get("backend", _SIMULATED) not in _RETAINING:
        return setup
    options = setup.get("options", {})
    return {**setup, "options": {**options, _RETAINS: options.get(_RETAINS, False)}}


def kind_of(named: Named) -> str:
    """Return the name that a policy or balancer is installed under."""
    return named if isinstance(named, str) else str(named["kind"])


def label(named: Named) -> str:
    """Return a policy or balancer as tables name it: ``plas``, ``plas(beta=4)``.

    Of what is too long to be read, there is a digest.
    """
    if isinstance(named, str):
        return named
    options = ", ".join(
        f"{key}={_short(json.dumps(value))}"
        for key, value in named.items()
        if key != "kind"
    )
    return f"{kind_of(named)}({options})" if options else kind_of(named)


def _short(text: str) -> str:
    if len(text) <= _LONGEST_OPTION:
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _plain(_: type, __: attrs.Attribute[Any] | None, value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
