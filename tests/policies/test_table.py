"""Laws of rankings that look the age up (rule Q1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.core.ranking import Placement
from autellix.core.records import Job
from autellix.policies import AgeRow, RemainingTable, Table

S = 1_000_000_000
ages = st.integers(0, 2 * 10**13)


@st.composite
def age_rows(draw: st.DrawFn) -> AgeRow:
    """Draw a row whose levels go up and down."""
    later = draw(st.lists(st.integers(1, 10**13), max_size=6, unique=True))
    starts = [0, *sorted(later)]
    levels = draw(
        st.lists(st.integers(0, 5), min_size=len(starts), max_size=len(starts))
    )
    return AgeRow(starts_s=[start / S for start in starts], levels=levels)


def job(program_class: str, size_ns: int | None = None) -> Job:
    """Return a job of a class, with its size where it is known."""
    return Job(program_class=program_class, program_arrival=0, size_ns=size_ns)


def linear_level(row: AgeRow, age_ns: int) -> int:
    """Look an age up by going through the row from the end."""
    pairs = reversed(list(zip(row.starts_ns, row.levels, strict=True)))
    return next(level for start, level in pairs if start <= age_ns)


@given(age_rows(), age_rows(), ages)
def test_each_class_is_looked_up_in_its_own_row(
    own: AgeRow, default: AgeRow, age_ns: int
) -> None:
    """A class without a row uses the default one."""
    table = Table(rows={"react": own}, default=default)
    assert table.enter(job("react"), age_ns).level == linear_level(own, age_ns)
    assert table.enter(job("chat"), age_ns).level == linear_level(default, age_ns)


@given(age_rows(), ages)
def test_a_placement_lasts_until_the_next_break_point(row: AgeRow, age_ns: int) -> None:
    """Until it expires the level is the same, and it expires after the age."""
    placed = Table(default=row).enter(job("chat"), age_ns)
    later = [start for start in row.starts_ns if start > age_ns]
    assert placed.expires_at_ns == min(later, default=None)


@given(age_rows(), ages, st.integers(0, 5))
def test_expiry_looks_the_age_up_again(row: AgeRow, age_ns: int, level: int) -> None:
    """Where the call was makes no difference."""
    table = Table(default=row)
    assert table.expire(job("chat"), age_ns, level) == table.enter(job("chat"), age_ns)


@given(age_rows(), ages, st.floats(1e-6, 100))
def test_a_promoted_call_stays_on_level_0(
    row: AgeRow, age_ns: int, first_quantum_s: float
) -> None:
    """Whatever the table says for that age."""
    table = Table(default=row, first_quantum_s=first_quantum_s)
    assert table.promote(job("chat"), age_ns) == Placement(0, None)
    assert table.first_quantum_ns == round(first_quantum_s * S)


@given(st.dictionaries(st.text(max_size=3), age_rows(), max_size=3), age_rows(), ages)
def test_every_level_is_below_the_number_of_levels(
    rows: dict[str, AgeRow], default: AgeRow, age_ns: int
) -> None:
    """And the last one is used by some row."""
    table = Table(rows=rows, default=default)
    every = [level for row in (default, *rows.values()) for level in row.levels]
    assert table.levels == max(every) + 1


def test_a_level_may_rise_with_age() -> None:
    """That is what a ladder cannot say."""
    row = AgeRow(starts_s=(0, 1, 2), levels=(2, 3, 0))
    table = Table(default=row)
    chat = job("chat")
    assert [table.enter(chat, s * S).level for s in (0, 1, 2, 3)] == [2, 3, 0, 0]
    assert table.enter(chat, 2 * S).expires_at_ns is None


@pytest.mark.parametrize(
    ("starts_s", "levels", "message"),
    [
        ((), (), r"starts_s must begin with 0 and rise, by 1 ns: \(\)"),
        ((1.0,), (0,), r"starts_s must begin with 0 .*\(1.0,\)"),
        ((0.0, 2.0, 1.0), (0, 1, 2), r"starts_s must begin with 0 and rise"),
        ((0.0,), (0, 1), r"one for each of starts_s: got \(0, 1\)"),
        ((0.0,), (-1,), r"levels must not be negative: \(-1,\)"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_values(
    starts_s: tuple[float, ...], levels: tuple[int, ...], message: str
) -> None:
    """The message says which field, the rule and what was given."""
    with pytest.raises(ValueError, match=message):
        AgeRow(starts_s=starts_s, levels=levels)


BOUNDS = RemainingTable(bounds_s=(1, 2, 4))


@given(st.integers(0, 10 * S), st.integers(0, 12 * S))
def test_what_has_less_left_is_never_on_a_worse_level(
    size_ns: int, age_ns: int
) -> None:
    """Level i is for what has at most bound i left, and more than the bound before."""
    placed = BOUNDS.enter(job("chat", size_ns), age_ns)
    left = size_ns - age_ns
    assert placed.level == sum(left > bound for bound in BOUNDS.bounds_ns)


@given(st.integers(0, 10 * S), st.integers(0, 12 * S))
def test_a_call_rises_as_soon_as_little_enough_is_left(
    size_ns: int, age_ns: int
) -> None:
    """At its expiry, and not a nanosecond before, a better level holds."""
    chat = job("chat", size_ns)
    placed = BOUNDS.enter(chat, age_ns)
    if placed.expires_at_ns is None:
        assert placed.level == 0
        return
    assert placed.expires_at_ns > age_ns
    assert BOUNDS.enter(chat, placed.expires_at_ns - 1).level == placed.level
    risen = BOUNDS.expire(chat, placed.expires_at_ns, placed.level)
    assert risen.level == placed.level - 1


def test_a_job_without_size_is_refused_with_its_class() -> None:
    """An oracle that knows nothing is no oracle."""
    with pytest.raises(ValueError, match="class 'react' has no size"):
        BOUNDS.enter(job("react"), 0)


def test_remaining_bounds_must_rise() -> None:
    """The message shows them."""
    with pytest.raises(ValueError, match=r"bounds_s must rise .*\(2.0, 1.0\)"):
        RemainingTable(bounds_s=(2, 1))
