"""The rule of starvation and the instant at which it comes to hold (rule Q3)."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.core.records import FairnessWindow
from autellix.core.starvation import due_ns, is_starving, most_promoted

durations = st.integers(0, 10**15)
quanta = st.integers(1, 10**12)
betas = st.floats(1e-3, 1e6)


def holds(waited_ns: int, ran_ns: int, beta: float, first_quantum_ns: int) -> bool:
    """Say the rule as it is written, in fractions."""
    return Fraction(waited_ns) >= Fraction(beta) * max(ran_ns, first_quantum_ns)


@given(durations, durations, betas, quanta, durations)
def test_due_is_the_first_instant_at_which_the_rule_holds(
    ran_ns: int, waited_ns: int, beta: float, quantum_ns: int, now_ns: int
) -> None:
    """It holds at the instant given, and not a nanosecond earlier, nor before now."""
    window = FairnessWindow(ran_ns=ran_ns, waited_ns=waited_ns)
    due = due_ns(window, beta, quantum_ns, now_ns)
    waits = due - now_ns
    assert waits >= 0
    assert holds(waited_ns + waits, ran_ns, beta, quantum_ns)
    assert waits == 0 or not holds(waited_ns + waits - 1, ran_ns, beta, quantum_ns)


@given(durations, durations, betas, quanta)
def test_a_program_starves_when_it_is_due_now(
    ran_ns: int, waited_ns: int, beta: float, quantum_ns: int
) -> None:
    """The two ways of asking agree."""
    window = FairnessWindow(ran_ns=ran_ns, waited_ns=waited_ns)
    starves = is_starving(window, beta, quantum_ns)
    assert starves == (due_ns(window, beta, quantum_ns, 7) == 7)


@given(st.integers(1, 1_000), betas)
def test_who_starves_has_the_share_that_beta_grants_a_program(
    slots: int, beta: float
) -> None:
    """1/(1 + beta) of the slots, rounded down; but one, or nobody would be promoted."""
    most = most_promoted(slots, beta)
    share = slots / (1 + Fraction(beta))
    assert most == max(1, share.__floor__())
    assert most <= slots


@pytest.mark.parametrize(
    ("ran_ns", "waited_ns", "due"), [(0, 0, 80), (10, 30, 50), (50, 100, 300)]
)
def test_what_ran_little_is_counted_as_one_quantum(
    ran_ns: int, waited_ns: int, due: int
) -> None:
    """T counts as the first quantum at least, so nobody starves by merely arriving."""
    window = FairnessWindow(ran_ns=ran_ns, waited_ns=waited_ns)
    assert due_ns(window, beta=8, first_quantum_ns=10, now_ns=0) == due
