"""From a few sizes to who goes on past which age."""

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.policies.gittins import ClassSizes, Sizes
from autellix.policies.gittins.survival import (
    CELLS,
    edges_s,
    end_chances,
    life_table,
)

EDGES_S = edges_s(0.001)


def known(ended: list[float], running: list[float] | None = None) -> ClassSizes:
    """Return a class of programs that count for one each."""
    return ClassSizes(
        ended=[Sizes(size_s, 1.0) for size_s in sorted(ended)],
        running=[Sizes(size_s, 1.0) for size_s in sorted(running or [])],
    )


def survival(sizes: ClassSizes) -> list[float]:
    """Return the share of programs that reach each edge."""
    chances = end_chances(life_table(sizes, EDGES_S))
    return list(accumulate((1 - chance for chance in chances), lambda a, b: a * b))


def share_beyond(sizes: ClassSizes, age_s: float) -> float:
    """Return the share that goes on past the first edge at or after an age."""
    shares = zip(EDGES_S[1:], survival(sizes), strict=True)
    return next(share for edge_s, share in shares if edge_s >= age_s)


lists = st.lists(st.floats(1e-4, 1e6), max_size=30)


@given(ended=lists, running=lists)
def test_everybody_can_go_on_and_everybody_can_end(
    ended: list[float], running: list[float]
) -> None:
    """Chances lie strictly between 0 and 1, so every age has an index."""
    chances = end_chances(life_table(known(ended, running), EDGES_S))
    assert len(chances) == CELLS
    assert all(0.0 < chance < 1.0 for chance in chances)


@given(ended=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30))
def test_with_nothing_running_the_table_counts(ended: list[float]) -> None:
    """Each program ends once, and was at risk in every cell it came to."""
    cells = life_table(known(ended), EDGES_S)
    assert sum(cell.ends for cell in cells) == len(ended)
    for edge_s, cell in zip(EDGES_S, cells, strict=False):
        assert cell.at_risk == sum(size_s > edge_s for size_s in ended)


def test_one_seen_inside_a_cell_was_at_risk_for_part_of_it() -> None:
    """For as much of the cell as it was seen to cross, and wholly in those before."""
    low, high = EDGES_S[10], EDGES_S[11]
    cells = life_table(known([], [low + 0.25 * (high - low)]), EDGES_S)
    assert [cell.at_risk for cell in cells[9:12]] == [1.0, pytest.approx(0.25), 0.0]


@pytest.mark.parametrize("quartile", [0.25, 0.5, 0.75])
def test_many_sizes_are_believed(quartile: float) -> None:
    """With a thousand ends the model has their quartiles."""
    chance = random.Random(3)
    sizes = sorted(chance.gauss(10, 2) for _ in range(1_000))
    at = sizes[int(quartile * 1_000)]
    # Between the edges before and after the quartile, shares run past it.
    grown = share_beyond(known(sizes), at)
    before = share_beyond(known(sizes), at / 1.25)
    assert grown - 0.06 <= 1 - quartile <= before + 0.06


def test_long_runs_without_an_end_move_the_scale_past_them() -> None:
    """Cold start: what all programs have done already, nobody is thought to fail at."""
    few = known([], [5.0] * 20)
    assert share_beyond(few, 5.0) > 0.9
    assert share_beyond(known([]), 5.0) < 0.6


def test_those_that_still_run_make_programs_look_longer() -> None:
    """Without them, only the short ones would have been seen."""
    ended = [1.0, 1.5, 2.0]
    without = share_beyond(known(ended), 2.0)
    assert share_beyond(known(ended, [4.0] * 12), 2.0) > 2 * without


def test_far_beyond_all_that_was_seen_the_tail_is_heavy() -> None:
    """Sizes of one kind say nothing of a program a hundred times as large."""
    chances = end_chances(life_table(known([10.0] * 100), EDGES_S))
    seen_s, far_s = (min(e for e in EDGES_S if e > x) for x in (10.0, 1_000.0))
    by_edge = dict(zip(EDGES_S[1:], chances, strict=True))
    assert by_edge[seen_s] > 0.9
    assert by_edge[far_s] < 0.5
