"""What was learned goes into a line, and comes out of it good for another run."""

import json

import pytest

from autellix.evaluation.lessons import Lessons
from autellix.policies.gittins import (
    ClassSizes,
    IndexTable,
    Objective,
    SizeModel,
    Sizes,
)

MODEL = SizeModel(
    classes={
        "chat": ClassSizes(
            ended=[Sizes(0.123456789, 1.0), Sizes(2.0, 3.5)], running=[Sizes(7.0, 1.0)]
        )
    }
)
TABLE = IndexTable(model=MODEL, first_s=0.001, objective=Objective.LATENCY_PER_TOKEN)


def test_the_curves_follow_again_from_what_is_kept() -> None:
    """To the digits that are kept."""
    kept = json.loads(json.dumps(Lessons.of(TABLE).to_json()))
    table = Lessons.from_json(kept).table()
    row, before = table.rows["chat"], TABLE.rows["chat"]
    assert row.ends == before.ends
    assert row.survival == pytest.approx(before.survival, rel=1e-5)
    assert row.rank_s == pytest.approx(before.rank_s, rel=1e-5)
    assert table.objective is TABLE.objective


def test_what_is_kept_is_small() -> None:
    """Six digits a number."""
    assert Lessons.of(TABLE).model.classes["chat"].ended[0].size_s == 0.123457


def test_sizes_that_six_digits_do_not_tell_apart_are_one() -> None:
    """Two on either side of a bound between cells; a finished run is not lost."""
    near = ClassSizes(ended=[Sizes(0.69388938, 1.0), Sizes(0.69388940, 2.0)])
    table = IndexTable(model=SizeModel(shared=near), first_s=0.001)
    kept = Lessons.of(table)
    assert kept.model.shared.ended == (Sizes(0.693889, 3.0),)
    assert Lessons.from_json(kept.to_json()) == kept


def test_nonsense_is_refused() -> None:
    """It came from a file."""
    with pytest.raises(ValueError, match="schema None"):
        Lessons.from_json({"model": {}, "objective": "latency", "first_s": 1.0})
