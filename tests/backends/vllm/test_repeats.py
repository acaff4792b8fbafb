"""Steps booked together leave the books as if each had been booked by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autellix.backends.vllm.follower import Follower
from autellix.core.facts import Demoted
from autellix.core.plan import Sampled
from autellix.core.records import Charge, Outcome, WaitReason
from autellix.policies import PLAS, Ladder
from tests.backends.vllm.test_follower import COSTS, begin, commit, spec

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.facts import Fact

LADDER = Ladder(bounds_s=[3e-7, 9e-7], quanta_s=[3e-7, 6e-7, 5e-6])


def follower(charge: Charge) -> Follower:
    """Return books of an engine with three slots, whose calls move every few steps."""
    policy = PLAS(ladder=LADDER, charge=charge, beta=2.0)
    return Follower(slots=3, policy=policy, ranking=policy.ranking(10), costs=COSTS)


class Engine:
    """Takes steps, those like the one before as such or one by one."""

    def __init__(self, charge: Charge, *, repeats: bool) -> None:
        self.books = follower(charge)
        self.repeated = 0
        self._repeats = repeats
        self._last: list[Call] = []
        self.facts: list[Fact] = []

    def step(self, slots: int, at_ns: int, ended_ns: int, last: int) -> None:
        """Run the calls with a slot and the first that wait; ``last`` may end."""
        books = self.books
        books.promote(at_ns)
        line = books.books.line
        room = slots - len(books.books.running)
        new = [line[place] for place in line.all[: max(0, room)]]
        calls = [*books.books.running, *new]
        is_same = bool(calls) and calls == self._last and self._repeats
        self._last = calls
        ends = any(call.call_id == last for call in calls)
        if is_same and books.follow_again(WaitReason.SLOTS, at_ns):
            plan = books.land_again(ended_ns, has_ended=ends)
            if plan is None:
                self.repeated += 1
                return
            samples = {c.call_id: Sampled(7, c.call_id == last) for c, _ in plan.calls}
            books.commit(plan, samples, forward_at_ns=at_ns, ended_ns=ended_ns)
            return
        if calls:
            commit(books, begin(books, calls, at_ns), ended_ns, last=last)


def run(
    charge: Charge, happenings: list[tuple[str, int, int]], *, repeats: bool
) -> tuple[list[Fact], int]:
    """Let things happen; return all facts, reports included, and the repeated steps."""
    engine = Engine(charge, repeats=repeats)
    books, now_ns, call_id = engine.books, 0, 0
    for what, number, spent_ns in happenings:
        now_ns += 1 + number
        live = sorted(books.books.calls)
        if what == "submit":
            call_id += 1
            sent = attrs.evolve(
                spec(call_id, inherited_ns=100 * number, max_tokens=400),
                program_id=number % 3,  # several calls of a program, too
            )
            books.take_in(sent, now_ns - number, now_ns)
        elif what == "cancel" and live:
            call = books.books.calls[live[number % len(live)]]
            books.end(call, Outcome.CANCELLED, now_ns)
        elif what == "look":
            books.statistics_with(books.statistics().device)
        else:
            ends = what == "end" and live
            last = live[number % len(live)] if ends else -1
            for _ in range(1 if ends else 1 + number):
                engine.step(3, now_ns, now_ns + spent_ns, last)
                now_ns += spent_ns + number % 3
        engine.facts += books.take_facts()
    books.end_all(Outcome.FAILED, now_ns)
    return engine.facts + books.take_facts(), engine.repeated


HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "steps", "steps", "end", "cancel", "look"]),
        st.integers(0, 12),
        st.integers(1, 40),
    ),
    max_size=40,
)


ONE_PROGRAM_RUNS_AND_WAITS = [
    *[("submit", 0, 1)] * 3,
    *[("steps", 12, 40)] * 2,
    ("submit", 12, 1),
    *[("steps", 12, 40)] * 6,
]


@example(charge=Charge.SERVICE, happenings=ONE_PROGRAM_RUNS_AND_WAITS)
@given(charge=st.sampled_from(Charge), happenings=HAPPENINGS)
def test_books_do_not_tell_whether_steps_were_repeated(
    charge: Charge, happenings: list[tuple[str, int, int]]
) -> None:
    """Every fact and every number in every report is the same (A2, A7, Q1, Q3)."""
    together, _ = run(charge, happenings, repeats=True)
    one_by_one, _ = run(charge, happenings, repeats=False)
    assert together == one_by_one


@pytest.mark.parametrize("charge", list(Charge))
def test_most_steps_of_a_full_batch_are_repeated(charge: Charge) -> None:
    """Also where calls change level now and then."""
    happenings = [("submit", 0, 1)] * 4 + [("steps", 12, 10)] * 29
    facts, repeated = run(charge, happenings, repeats=True)
    assert any(isinstance(fact, Demoted) for fact in facts)
    assert repeated > 13 * 29 / 2
