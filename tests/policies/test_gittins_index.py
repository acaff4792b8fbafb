"""The Gittins index of known sizes, held to brute force in exact arithmetic."""

from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.policies.gittins.index import (
    Objective,
    discrete_index,
    steepest_slopes,
)

OBJECTIVES = list(Objective)

Sizes = dict[int, int]  # how often each size comes
sizes = st.dictionaries(st.integers(1, 60), st.integers(1, 9), min_size=1, max_size=8)


def brute_force(counts: Sizes, objective: Objective) -> list[Fraction]:
    """Return the index at age 0 and at each size but the last, from its definition.

    Of all further ages b the best is a size; the expectations are summed program by
    program.
    """
    found = []
    for age in [0, *sorted(counts)][:-1]:
        left = {size: count for size, count in counts.items() if size > age}
        quotients = []
        for until in left:
            work = sum(count * (min(s, until) - age) for s, count in left.items())
            ended = ((s, count) for s, count in left.items() if s <= until)
            is_plain = objective is Objective.LATENCY
            gains = [Fraction(count, 1 if is_plain else s) for s, count in ended]
            quotients.append(sum(gains, Fraction()) / work)
        found.append(max(quotients))
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(counts=sizes)
def test_the_index_is_exact(counts: Sizes, objective: Objective) -> None:
    """It is the best of all quotients of gain and work, at every age."""
    total = sum(counts.values())
    values = sorted(counts)
    chances = [counts[value] / total for value in values]
    found = discrete_index(values, chances, objective)
    assert found == pytest.approx([float(x) for x in brute_force(counts, objective)])


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12
    )
)
def test_the_steepest_slope_is_the_steepest(steps: list[tuple[int, int]]) -> None:
    """To any later point of a curve, compared with all of them."""
    work = [0, *accumulate(width for width, _ in steps)]
    gain = [0, *accumulate(height for _, height in steps)]
    points = list(zip(work, gain, strict=True))
    expected = [
        max((h - height) / (w - width) for w, h in points[place + 1 :])
        for place, (width, height) in enumerate(points[:-1])
    ]
    assert steepest_slopes(work, gain) == pytest.approx(expected)


@given(size=st.floats(1e-3, 1e3))
def test_the_rank_of_a_certain_size_is_that_size(size: float) -> None:
    """Under both objectives, so that their levels mean the same."""
    for objective in OBJECTIVES:
        (index,) = discrete_index([size], [1.0], objective)
        assert objective.rank_s(index) == pytest.approx(size)


def test_what_is_never_gained_ranks_last() -> None:
    """An index of 0 is an endless size, and no division by it."""
    assert [each.rank_s(0.0) for each in OBJECTIVES] == [float("inf")] * 2


def test_the_nearer_the_only_end_the_better() -> None:
    """Of two programs of one size the older goes first: it will end sooner."""
    far_apart = discrete_index([1.0, 100.0], [0.01, 0.99])
    assert all(young < old for young, old in pairwise(far_apart))


def test_short_programs_weigh_more_in_latency_per_token() -> None:
    """A small chance to be short is worth a try there, and is not for mean latency."""
    ages = [1.0, 50.0, 60.0]
    plain = discrete_index(ages, [0.01, 0.0, 0.99])
    per_token = discrete_index(ages, [0.01, 0.0, 0.99], Objective.LATENCY_PER_TOKEN)
    assert plain[0] < plain[1]
    assert per_token[0] > per_token[1]
