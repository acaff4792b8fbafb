"""What a policy had learned when a run ended: kept small, and enough to go on from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs

from autellix.policies.gittins import (
    ClassSizes,
    IndexTable,
    Objective,
    SizeModel,
    Sizes,
)
from autellix.runtime.learning import sizes_from_json, sizes_to_json


@attrs.frozen(kw_only=True)
class Lessons:
    """The size model of a run; distributions and index curves follow from it.

    Attributes:
        model: What is known of each class, to start the next run from.
        objective: What the policy wants small.
        first_s: Work of one step, seconds.
    """

    model: SizeModel
    objective: Objective = attrs.field(converter=Objective)
    first_s: float

    @classmethod
    def of(cls, table: IndexTable) -> Self:
        """Return what a table rests on, with the digits that matter."""
        classes = table.model.classes.items()
        return cls(
            model=SizeModel(
                classes={name: _rounded(sizes) for name, sizes in classes},
                shared=_rounded(table.model.shared),
            ),
            objective=table.objective,
            first_s=table.first_s,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` made a table of; ``ValueError`` for anything else."""
        return cls(**{**value, "model": sizes_from_json(value["model"])})

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a few kB."""
        return {
            "model": sizes_to_json(self.model),
            "objective": self.objective.value,
            "first_s": self.first_s,
        }

    def table(self) -> IndexTable:
        """Return the table again: distributions, ranks and levels by class."""
        return IndexTable(
            model=self.model, objective=self.objective, first_s=self.first_s
        )


def _rounded(sizes: ClassSizes) -> ClassSizes:
    return ClassSizes(
        ended=_rounded_sizes(sizes.ended), running=_rounded_sizes(sizes.running)
    )


def _rounded_sizes(sizes: Iterable[Sizes]) -> list[Sizes]:
    """Return six digits of each: more than an estimate is good for.

    Two on either side of a bound between cells may then be one.
    """
    weights: dict[float, float] = {}
    for each in sizes:
        size_s = float(f"{each.size_s:.6g}")
        weights[size_s] = weights.get(size_s, 0.0) + each.weight
    return [Sizes(s, float(f"{weight:.6g}")) for s, weight in weights.items()]
