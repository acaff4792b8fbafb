"""What came of a point: numbers of every program, sums of the run, a line of JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs

from autellix.evaluation.lessons import Lessons
from autellix.evaluation.point import Point, kind_of
from autellix.evaluation.timeline import Timeline

SCHEMA: Final = "autellix-result/2"
"""Changes when old lines cannot be read any more, or mean something else."""

_DIGITS: Final = 6  # microseconds
_SHOWN: Final[Mapping[str, type[Timeline | Lessons]]] = {
    "timeline": Timeline,
    "lessons": Lessons,
}


class ProgramRow(NamedTuple):
    """One program; durations in seconds.

    ``service_s`` and ``wait_s`` are sums over its calls, so branches that run side by
    side count each; ``alone_s`` is what it would take on an engine of its own (see
    ``autellix.evaluation.alone``).
    """

    program_class: str
    started_s: float
    latency_s: float
    alone_s: float
    service_s: float
    wait_s: float
    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def latency_s_per_token(self) -> float:
        """Latency divided by the tokens generated: the paper's metric."""
        return self.latency_s / self.output_tokens

    @property
    def slowdown(self) -> float:
        """Latency as a multiple of what it would be alone."""
        return self.latency_s / self.alone_s if self.alone_s else 1.0


@attrs.frozen(kw_only=True)
class Result:
    """A point that was run to its end.

    Attributes:
        point: What was run.
        code: Digest of the code that decides; equal code, equal results.
        policy_code: Of the code that only this policy has; empty: it has none.
        saturation_per_s: Programs a second at which the engines are just full.
        rows: The programs, in order of arrival.
        wait_s: What the calls waited in sum, by reason (rule A9).
        counts: Steps, tokens and decisions, in sum over the engines.
        cpu_s: CPU time of the run without loading engines, seconds. The one thing here
            that differs when a simulated point is run again.
        timeline: What programs did when, of runs with seed 0; else None.
        lessons: What the policy learned, where it learns; else None.
    """

    point: Point
    code: str
    policy_code: str = ""
    saturation_per_s: float
    rows: Sequence[ProgramRow]
    wait_s: Mapping[str, float]
    counts: Mapping[str, int]
    cpu_s: float
    timeline: Timeline | None = None
    lessons: Lessons | None = None

    def to_line(self) -> str:
        """Return one line of JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "key": self.point.key,
                **self._told(),
                **self._shown(),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_line(cls, line: str) -> Result:
        """Return the result that a line tells.

        Raises:
            ValueError: It is of another schema, or tells none.
        """
        try:
            value = json.loads(line)
            schema = value.pop("schema")
            key = value.pop("key")
            if schema != SCHEMA:
                raise ValueError(f"schema {schema!r} is unknown; known: {SCHEMA!r}")
            rows = _rows_from(value.pop("programs"))
            point = Point.from_json(value["point"])
            shown = {
                name: kind.from_json(value[name])
                for name, kind in _SHOWN.items()
                if name in value
            }
            result = cls(**{**value, **shown, "point": point, "rows": rows})
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"no result: {error!r}") from error
        if point.key != key:
            raise ValueError(f"the key {key!r} is of another point: {point.key!r}")
        return result

    def _told(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "policy_code": self.policy_code,
            "point": self.point.to_json(),
            "saturation_per_s": self.saturation_per_s,
            "cpu_s": round(self.cpu_s, 3),
            "wait_s": {why: round(s, _DIGITS) for why, s in self.wait_s.items()},
            "counts": dict(self.counts),
            "programs": _columns(self.rows),
        }

    def _shown(self) -> dict[str, Any]:
        """Return what pictures are made of, where there is any."""
        told: dict[str, Any] = {}
        if self.timeline is not None:
            told["timeline"] = attrs.asdict(self.timeline)
        if self.lessons is not None:
            told["lessons"] = self.lessons.to_json()
        return told

    def outcome(self) -> str:
        """Return what a repetition must give again, as text; pictures aside."""
        told = self._told() | {"point": self.point.without_folders().to_json()}
        del told["cpu_s"], told["code"], told["policy_code"]
        return json.dumps(told, sort_keys=True)


def version_of(results: Iterable[Result]) -> str:
    """Return a short name of results: the same for the same results in any order."""
    digest = hashlib.sha256()
    for outcome in sorted(result.outcome() for result in results):
        digest.update(outcome.encode())
    return digest.hexdigest()[:12]


def codes_of(results: Iterable[Result]) -> tuple[str, bool]:
    """Return the code that results come from, as told, and whether it is of one kind.

    It is not where two results differ in the code that both have.
    """
    codes: set[tuple[str, str]] = set()
    for result in results:
        codes.add((result.point.setup.backend, result.code))
        if result.policy_code:
            codes.add((kind_of(result.point.policy), result.policy_code))
    told = ", ".join(f"`{code}` ({whose})" for whose, code in sorted(codes))
    return told, len(codes) == len({whose for whose, _ in codes})


def _columns(rows: Sequence[ProgramRow]) -> dict[str, Any]:
    """Return rows as columns; many are those of other runs too, so files pack well."""
    names = sorted({row.program_class for row in rows})
    classes, *others = zip(*rows, strict=True)
    told = [[names.index(name) for name in classes]]
    told += [[_rounded(value) for value in column] for column in others]
    return {"classes": names, **dict(zip(ProgramRow._fields, told, strict=True))}


def _rows_from(columns: Mapping[str, Any]) -> list[ProgramRow]:
    """Return the rows.

    Raises:
        KeyError: There are others, or fewer; or, as of what is there, ``ValueError``,
            ``IndexError`` or ``TypeError``.
    """
    names, first, *others = (columns[key] for key in ("classes", *ProgramRow._fields))
    if len(columns) != 1 + len(ProgramRow._fields) or min(first, default=0) < 0:
        raise KeyError(f"columns {sorted(columns)}, classes {first}")
    classes = [names[index] for index in first]
    return [ProgramRow(*row) for row in zip(classes, *others, strict=True)]


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value
