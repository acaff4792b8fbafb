"""What a policy had learned when a run ended: kept small, and enough to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from autellix.policies.gittins import IndexTable, Objective
from autellix.runtime.learning import sizes_from_json, sizes_to_json

if TYPE_CHECKING:
    from autellix.policies.gittins import SizeModel


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
        rounded = _rounded(sizes_to_json(table.model))
        return cls(
            model=sizes_from_json(rounded),
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


def _rounded(value: Any) -> Any:
    """Return six digits of each number: more than any estimate is good for."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
