"""Laws of fitting a ladder to what is seen (rule Q4)."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.core.ranking import ChargeSample
from autellix.core.records import Charge
from autellix.policies import Ladder, SingleLevel
from autellix.policies.calibration import (
    MIN_CALLS,
    MIN_PROGRAMS,
    censored_quantile,
    default_ladder,
    fitted_to_calls,
    fitted_to_programs,
    quantile,
)

MS = 1_000_000
sizes = st.integers(1, 10**12)
shares = st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=100)
samples = st.builds(
    ChargeSample,
    calls_ns=st.lists(sizes, min_size=MIN_CALLS, max_size=MIN_CALLS + 20),
    programs_ns=st.lists(sizes, min_size=MIN_PROGRAMS, max_size=MIN_PROGRAMS + 20),
    running_programs_ns=st.lists(sizes, max_size=20),
)
ladders = st.builds(
    Ladder.geometric, st.floats(1e-5, 100), st.floats(1.3, 4), st.integers(1, 8)
)


@given(st.lists(sizes, min_size=1), shares)
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(
    values: list[int], share: Fraction
) -> None:
    """It is one of the values; the next smaller one would not do."""
    found = quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


@given(st.lists(sizes, min_size=1), shares)
def test_with_nothing_running_the_censored_quantile_is_the_plain_one(
    values: list[int], share: Fraction
) -> None:
    """Exactly, not nearly."""
    assert censored_quantile(values, [], share) == quantile(values, share)


@given(st.lists(sizes, min_size=1), st.lists(sizes), sizes, shares)
def test_what_still_runs_never_makes_sizes_look_smaller(
    ended: list[int], running: list[int], another: int, share: Fraction
) -> None:
    """One more running program leaves the quantile or raises it."""
    without = censored_quantile(ended, running, share)
    assert censored_quantile(ended, [*running, another], share) >= without


def test_the_censored_quantile_of_a_textbook_case() -> None:
    """Ends at 1 and 3, running at 2 and 4: 3/4 go on after 1, 3/8 after 3."""
    assert censored_quantile([1, 3], [2, 4], Fraction(1, 4)) == 1
    assert censored_quantile([1, 3], [2, 4], Fraction(5, 8)) == 3
    assert censored_quantile([1, 3], [2, 4], Fraction(3, 4)) == 4
    # What has reached the size of an end and runs on was at risk there: 2/3 go on.
    assert censored_quantile([2, 4], [2], Fraction(1, 2)) == 4


@given(samples, ladders)
def test_levels_stay_as_many_and_bounds_rise(seen: ChargeSample, old: Ladder) -> None:
    """Whatever was seen, the fitted ladder is a ladder with the same K."""
    for fitted in (fitted_to_programs(old, seen), fitted_to_calls(old, seen)):
        if fitted is not None:
            assert fitted.levels == old.levels
            assert all(a < b for a, b in pairwise(fitted.bounds_ns))


@given(samples, ladders)
def test_a_ladder_changes_only_when_a_bound_moves_by_more_than_half(
    seen: ChargeSample, old: Ladder
) -> None:
    """What is kept is kept for good: fitting the fitted ladder again keeps it."""
    fitted = fitted_to_programs(old, seen)
    if fitted is None:
        return
    bounds = zip(old.bounds_ns, fitted.bounds_ns, strict=True)
    assert any(not 0.5 <= new / was <= 1.5 for was, new in bounds)
    assert fitted_to_programs(fitted, seen) is None


@pytest.mark.parametrize(
    ("first_s", "moves"),
    [(0.0046, True), (0.0047, False), (0.0139, False), (0.0141, True)],
)
def test_a_bound_that_moves_by_less_than_half_moves_nothing(
    first_s: float, moves: bool
) -> None:
    """Of what it was, upwards and downwards: here to 7 ms."""
    seen = ChargeSample(
        calls_ns=[7 * MS] * MIN_CALLS, programs_ns=[7 * MS] * MIN_PROGRAMS
    )
    fitted = fitted_to_programs(Ladder.geometric(first_s, 2.0, 2), seen)
    assert (fitted is not None) == moves


def spread(first_ns: int, last_ns: int, count: int) -> list[int]:
    """Return sizes spread evenly, ends included."""
    step = (last_ns - first_ns) / (count - 1)
    return [round(first_ns + step * i) for i in range(count)]


def test_the_first_bound_follows_calls_and_the_last_follows_programs() -> None:
    """25th percentile of the one, 95th of the other, a constant ratio between."""
    seen = ChargeSample(
        calls_ns=spread(1 * MS, 100 * MS, 100), programs_ns=spread(MS, 1000 * MS, 1000)
    )
    fitted = fitted_to_programs(Ladder.geometric(5.0, 2.0, 5), seen)
    assert fitted is not None
    assert fitted.bounds_ns[0] == 25 * MS
    assert fitted.bounds_ns[-1] == pytest.approx(950 * MS, abs=3)
    ratios = [b / a for a, b in pairwise(fitted.bounds_ns)]
    assert ratios == pytest.approx([ratios[0]] * 3)


def test_running_programs_push_the_last_bound_out() -> None:
    """The short ones end first; alone they put the bound 20 times too low."""
    ended, running = spread(MS, 50 * MS, 50), [1000 * MS] * 50
    calls = [MS] * MIN_CALLS
    seen = ChargeSample(calls_ns=calls, programs_ns=ended, running_programs_ns=running)
    fitted = fitted_to_programs(Ladder.geometric(5.0, 2.0, 5), seen)
    assert fitted is not None
    assert fitted.bounds_ns[-1] == pytest.approx(1000 * MS, abs=3)


def test_calls_alone_fit_the_ladder_of_one_that_knows_no_programs() -> None:
    """Its last bound is the 95th percentile of calls, whatever programs reach."""
    seen = ChargeSample(calls_ns=spread(1 * MS, 100 * MS, 100), programs_ns=())
    fitted = fitted_to_calls(Ladder.geometric(5.0, 2.0, 5), seen)
    assert fitted is not None
    assert fitted.bounds_ns[-1] == pytest.approx(95 * MS, abs=3)


@pytest.mark.parametrize(
    ("calls", "programs"),
    [(MIN_CALLS - 1, MIN_PROGRAMS), (MIN_CALLS, MIN_PROGRAMS - 1)],
)
def test_too_little_seen_changes_nothing(calls: int, programs: int) -> None:
    """Early samples are of what is short."""
    seen = ChargeSample(calls_ns=[MS] * calls, programs_ns=[MS] * programs)
    old = Ladder.geometric(5.0, 2.0, 5)
    assert fitted_to_programs(old, seen) is None
    assert (fitted_to_calls(old, seen) is None) == (calls < MIN_CALLS)


def test_equal_sizes_still_give_a_ladder() -> None:
    """Where the percentiles meet, the bounds rise by the least ratio."""
    seen = ChargeSample(
        calls_ns=[7 * MS] * MIN_CALLS, programs_ns=[7 * MS] * MIN_PROGRAMS
    )
    fitted = fitted_to_programs(Ladder.geometric(5.0, 2.0, 4), seen)
    assert fitted is not None
    assert fitted.bounds_s == pytest.approx([0.007, 0.00875, 0.0109375])


@pytest.mark.parametrize("levels", [1, 2])
def test_ladders_with_no_room_between_the_bounds_are_fitted_too(levels: int) -> None:
    """One level has no bound to move; the one bound of two follows calls."""
    seen = ChargeSample(
        calls_ns=[7 * MS] * MIN_CALLS, programs_ns=[70 * MS] * MIN_PROGRAMS
    )
    fitted = fitted_to_programs(Ladder.geometric(5.0, 2.0, levels), seen)
    assert (fitted.bounds_ns if fitted else None) == {1: None, 2: (7 * MS,)}[levels]


def test_only_a_ladder_can_be_fitted() -> None:
    """Another ranking is refused, by name."""
    seen = ChargeSample(calls_ns=[MS] * MIN_CALLS, programs_ns=[MS] * MIN_PROGRAMS)
    with pytest.raises(TypeError, match="SingleLevel"):
        fitted_to_programs(SingleLevel(), seen)


@given(st.integers(0, 10**10), st.sampled_from(Charge))
def test_a_default_ladder_scales_with_the_step(step_ns: int, charge: Charge) -> None:
    """Any engine gets one, also one whose steps take no time."""
    ladder = default_ladder(step_ns, charge)
    sharers = 1 if charge is Charge.SERVICE else 16
    assert ladder.levels == 8
    assert ladder.bounds_s[0] == pytest.approx(32 * max(step_ns, 1000) / sharers / 1e9)
