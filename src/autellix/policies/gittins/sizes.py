"""What is known of the sizes of programs, class by class: the size model.

A program that ended tells its size; one that still runs tells that its size is more
than its age (right-censored). Both are kept with a weight that halves with every
``HALF_LIFE`` programs of the class that came later, so that the model follows a load
that changes; with as many as are open at a time, where those are more, or programs that
can have ended would weigh nothing. What was learned in an earlier run counts as having
come before all else.

Weights go by arrival, not by end: of programs that came together the short ones end
first, so a window over ends would take a queue that drains for a load that grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs

from autellix.policies.seconds import NS_PER_S

if TYPE_CHECKING:
    from autellix.core.ranking import ChargeSample, ProgramCharge

HALF_LIFE: Final = 256
"""Programs of a class after which what one of them showed counts half."""
LEAST_PROGRAMS: Final = 8
"""Programs from which a class has sizes of its own; rarer ones share one model."""
MOST_CLASSES: Final = 32
"""Classes that have sizes of their own: each costs some milliseconds a table."""
LEAST_WEIGHT: Final = 1e-6
"""What counts for less is forgotten, before it is too small for arithmetic."""
MOST: Final = 1e12
"""Of a size in seconds, thirty thousand years, and of a weight: sums stay numbers."""
_IN_RANGE: Final = (attrs.validators.gt(0.0), attrs.validators.le(MOST))


@attrs.frozen
class Sizes:
    """Sizes, or ages, of about equal length.

    Attributes:
        size_s: Their mean, seconds of work.
        weight: How many they count for.
    """

    size_s: float = attrs.field(validator=_IN_RANGE)
    weight: float = attrs.field(validator=_IN_RANGE)


def _to_sizes(values: Iterable[Sizes]) -> tuple[Sizes, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class ClassSizes:
    """What is known of one class.

    Attributes:
        ended: Sizes of programs that ended.
        running: Ages of programs that had not ended.
    """

    ended: tuple[Sizes, ...] = attrs.field(default=(), converter=_to_sizes)
    running: tuple[Sizes, ...] = attrs.field(default=(), converter=_to_sizes)

    @property
    def ends(self) -> float:
        """How many ends the model of this class rests on, old ones counting less."""
        return sum(each.weight for each in self.ended)

    @property
    def weight(self) -> float:
        """How many programs it rests on, ended or not, old ones counting less."""
        return self.ends + sum(each.weight for each in self.running)

    def aged(self, programs: float, half_life: float = HALF_LIFE) -> ClassSizes:
        """Return what this counts for after so many later programs."""
        share = 0.5 ** (programs / half_life)
        return ClassSizes(
            ended=_scaled(self.ended, share), running=_scaled(self.running, share)
        )


def _to_classes(classes: Mapping[str, ClassSizes]) -> dict[str, ClassSizes]:
    return dict(classes)


@attrs.frozen(kw_only=True)
class SizeModel:
    """What is known of all classes.

    Attributes:
        classes: By the name given to ``runtime.program(name)``.
        shared: Of all classes too rare to have a model of their own.
    """

    classes: Mapping[str, ClassSizes] = attrs.field(
        factory=dict, converter=_to_classes, hash=False
    )
    shared: ClassSizes = attrs.field(factory=ClassSizes)

    def median_s(self) -> float:
        """Return the median size of all programs, seconds; 0 with nothing seen.

        Those that run count (Kaplan-Meier); where so many run and so few have ended
        that there is no median, it is the largest age or size seen.
        """
        ended = [(each, 1.0) for sizes in self._all() for each in sizes.ended]
        running = [(each, 0.0) for sizes in self._all() for each in sizes.running]
        programs = sorted(ended + running, key=lambda pair: (pair[0].size_s, -pair[1]))
        # Summed from the largest down: what is left of a difference may be 0.
        at_risk = list(accumulate(each.weight for each, _ in reversed(programs)))
        goes_on, size_s = 1.0, 0.0
        for (each, ends), risk in zip(programs, reversed(at_risk), strict=True):
            size_s = each.size_s
            goes_on *= 1.0 - ends * each.weight / risk
            if goes_on <= 0.5:
                break
        return size_s

    def _all(self) -> Iterable[ClassSizes]:
        return (self.shared, *self.classes.values())


def learned(
    seen: ChargeSample, before: SizeModel, last: SizeModel, edges_s: Sequence[float]
) -> SizeModel:
    """Return the model that follows from programs seen and from what was known before.

    Args:
        seen: Programs of this run.
        before: From an earlier run; counts as older than all of them.
        last: What this gave last; ``before`` at first. Classes that are no longer among
            the programs seen are kept as they were then.
        edges_s: Ages at which cells begin, rising from 0: what lies in one cell is kept
            as one, so that a model stays small whatever was seen.
    """
    by_class: defaultdict[str, list[ProgramCharge]] = defaultdict(list)
    for program in seen.programs:
        by_class[program.program_class].append(program)
    kept = sum(program.has_ended for program in seen.programs)
    unseen = max(1.0, seen.programs_ended / kept) if kept else 1.0
    rare: list[ProgramCharge] = []
    classes = {name: was for name, was in last.classes.items() if name not in by_class}
    for name, programs in by_class.items():
        if name in before.classes or len(programs) >= LEAST_PROGRAMS:
            was = before.classes.get(name, ClassSizes())
            classes[name] = _summed(programs, was, unseen, edges_s)
    # The same whatever order they come in.
    order = sorted(classes, key=lambda name: (-classes[name].weight, name))
    classes = {name: classes[name] for name in order[:MOST_CLASSES]}
    for name, programs in by_class.items():
        if name not in classes:
            rare += programs
    return SizeModel(
        classes=classes, shared=_summed(rare, before.shared, unseen, edges_s)
    )


def _summed(
    programs: list[ProgramCharge],
    was: ClassSizes,
    unseen: float,
    edges_s: Sequence[float],
) -> ClassSizes:
    """Return what is known of a class, with what was known before its programs.

    Args:
        programs: All that are known, put into the order of arrival.
        was: What was known before.
        unseen: How many programs stand behind each that ended: only the last are known.
        edges_s: Ages at which cells begin.
    """
    programs.sort(key=attrgetter("arrival"), reverse=True)
    open_now = sum(not program.has_ended for program in programs)
    half_life = max(HALF_LIFE, open_now)
    ended = _Cells(edges_s)
    running = _Cells(edges_s)
    weight, fades = 1.0, 0.5 ** (1 / half_life)
    for program in programs:
        cells = ended if program.has_ended else running
        cells.add(program.charge_ns / NS_PER_S, weight)
        weight *= fades
    older = was.aged(unseen * (len(programs) - open_now) + open_now, half_life)
    for each in older.ended:
        ended.add(each.size_s, each.weight)
    for each in older.running:
        running.add(each.size_s, each.weight)
    return ClassSizes(ended=ended.sizes(), running=running.sizes())


def _scaled(sizes: Iterable[Sizes], share: float) -> list[Sizes]:
    return [
        Sizes(each.size_s, each.weight * share)
        for each in sizes
        if each.weight * share >= LEAST_WEIGHT
    ]


class _Cells:
    """Sums of sizes by the cell they lie in; a cell is open below and closed above."""

    def __init__(self, edges_s: Sequence[float]) -> None:
        self._edges_s = edges_s
        self._weights = [0.0] * (len(edges_s) + 1)
        self._sums_s = [0.0] * (len(edges_s) + 1)

    def add(self, size_s: float, weight: float) -> None:
        cell = bisect_left(self._edges_s, size_s)
        self._weights[cell] += weight
        self._sums_s[cell] += weight * size_s

    def sizes(self) -> list[Sizes]:
        pairs = zip(self._sums_s, self._weights, strict=True)
        return [
            Sizes(total_s / weight, weight)
            for total_s, weight in pairs
            if weight >= LEAST_WEIGHT
        ]
