"""Laws of the paper's ranking (rule Q1)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.core.ranking import Placement
from autellix.core.records import Job
from autellix.policies import Ladder

JOB = Job(program_class="chat", program_arrival=0)
S = 1_000_000_000
ages = st.integers(0, 10**14)


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    """Draw a valid ladder of one to six levels."""
    bounds = draw(st.lists(st.integers(1, 10**13), max_size=5, unique=True))
    levels = len(bounds) + 1
    quanta = draw(st.lists(st.integers(1, 10**13), min_size=levels, max_size=levels))
    return Ladder(
        bounds_s=[bound / S for bound in sorted(bounds)],
        quanta_s=[quantum / S for quantum in quanta],
    )


@given(ladders(), ages)
def test_a_call_enters_where_the_half_open_range_holds_it(
    ladder: Ladder, age_ns: int
) -> None:
    """A bound belongs to the level it begins; the quantum is that level's, in full."""
    placed = ladder.enter(JOB, age_ns)
    starts = (0, *ladder.bounds_ns)
    assert starts[placed.level] <= age_ns
    assert placed.level == ladder.levels - 1 or age_ns < starts[placed.level + 1]
    assert placed.expires_at_ns == age_ns + (ladder.quanta_ns[placed.level] or 0)


@given(ladders(), ages, st.data())
def test_an_expired_call_goes_one_level_down_and_no_further_than_the_last(
    ladder: Ladder, age_ns: int, data: st.DataObject
) -> None:
    """The last level sends to itself, with a fresh quantum."""
    level = data.draw(st.integers(0, ladder.levels - 1))
    placed = ladder.expire(JOB, age_ns, level)
    assert placed.level == (level + 1 if level + 1 < ladder.levels else level)
    assert placed.expires_at_ns == age_ns + (ladder.quanta_ns[placed.level] or 0)


@given(ladders(), ages)
def test_a_promoted_call_stays_on_level_0(ladder: Ladder, age_ns: int) -> None:
    """Whatever its age: a quantum can be worth less than what it costs to come back."""
    assert ladder.promote(JOB, age_ns) == Placement(0, None)


@given(ladders(), ages, ages)
def test_more_inherited_service_is_never_a_better_level(
    ladder: Ladder, one_ns: int, other_ns: int
) -> None:
    """Entry is monotone in age."""
    young, old = sorted((one_ns, other_ns))
    assert ladder.enter(JOB, young).level <= ladder.enter(JOB, old).level


@given(ladders())
def test_seconds_come_back_as_the_nanoseconds_they_were(ladder: Ladder) -> None:
    """A ladder that is written in seconds and read again is the same ladder."""
    again = Ladder(
        bounds_s=[bound / S for bound in ladder.bounds_ns],
        quanta_s=[(quantum or 0) / S for quantum in ladder.quanta_ns],
    )
    assert (again.bounds_ns, again.quanta_ns) == (ladder.bounds_ns, ladder.quanta_ns)


@given(st.floats(1e-4, 10), st.floats(1.2, 8), st.integers(1, 8))
def test_geometric_quanta_are_the_ranges_between_the_bounds(
    first_s: float, ratio: float, levels: int
) -> None:
    """So a call that enters at the start of a level leaves it at its end."""
    ladder = Ladder.geometric(first_s, ratio, levels)
    assert ladder.levels == levels
    for level, bound_ns in enumerate(ladder.bounds_ns):
        start_ns = ladder.bounds_ns[level - 1] if level else 0
        expires = ladder.enter(JOB, start_ns).expires_at_ns
        assert expires == pytest.approx(bound_ns, abs=2)
        assert bound_ns == pytest.approx(first_s * S * ratio**level, abs=1)


def test_a_last_level_without_end_never_expires() -> None:
    """With one such level a ladder is FCFS."""
    ladder = Ladder(bounds_s=(), quanta_s=(math.inf,))
    assert ladder.enter(JOB, 5).expires_at_ns is None
    assert ladder.levels == 1


@pytest.mark.parametrize(
    ("bounds_s", "quanta_s", "message"),
    [
        ((2.0, 1.0), (1, 1, 1), r"bounds_s must rise .*\(2.0, 1.0\)"),
        ((1.0, 1.0), (1, 1, 1), r"bounds_s must rise .*\(1.0, 1.0\)"),
        ((1.0, 1.0 + 1e-12), (1, 1, 1), "bounds_s must rise"),
        ((0.0,), (1, 1), r"bounds_s must rise from above 0.*\(0.0,\)"),
        ((-1.0,), (1, 1), r"bounds_s must rise from above 0.*\(-1.0,\)"),
        ((math.inf,), (1, 1), r"bounds_s must be finite: \(inf,\)"),
        ((math.nan,), (1, 1), r"bounds_s must be finite: \(nan,\)"),
        ((1.0,), (1,), r"one more than bounds_s: got \(1.0,\) for bounds_s \(1.0,\)"),
        ((1.0,), (1, 1, 1), "one more than bounds_s"),
        ((1.0,), (0, 1), r"at least 1 ns each: \(0.0, 1.0\)"),
        ((1.0,), (1, -1), r"at least 1 ns each: \(1.0, -1.0\)"),
        ((1.0,), (1e-12, 1), "at least 1 ns each"),
        ((1.0,), (math.inf, 1), r"finite, but for the last: \(inf, 1.0\)"),
        ((1.0,), (1, math.nan), "finite, but for the last"),
        ((1.0,), (1, -math.inf), "at least 1 ns each"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused_with_its_values(
    bounds_s: tuple[float, ...], quanta_s: tuple[float, ...], message: str
) -> None:
    """The message says which field, the rule and what was given."""
    with pytest.raises(ValueError, match=message):
        Ladder(bounds_s=bounds_s, quanta_s=quanta_s)


@pytest.mark.parametrize(
    ("first_s", "ratio", "levels", "message"),
    [
        (0.0, 2.0, 3, "first_s must be positive and finite: 0.0"),
        (math.nan, 2.0, 3, "first_s must be positive and finite: nan"),
        (1.0, 1.0, 3, "ratio must be more than 1 and finite: 1.0"),
        (1.0, math.inf, 3, "ratio must be more than 1 and finite: inf"),
        (1.0, 2.0, 0, "levels must be at least 1: 0"),
    ],
)
def test_a_geometric_ladder_that_cannot_be_is_refused(
    first_s: float, ratio: float, levels: int, message: str
) -> None:
    """Each argument has its range."""
    with pytest.raises(ValueError, match=message):
        Ladder.geometric(first_s, ratio, levels)
