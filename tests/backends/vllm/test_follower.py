"""Books follow what another scheduler decides, and still add up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from autellix.backends.vllm.admission import Admitted
from autellix.backends.vllm.follower import Follower
from autellix.backends.vllm.wire import CallTicket, facts_from_wire, facts_to_wire
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended, Preempted
from autellix.core.plan import Plan, Sampled
from autellix.core.records import CallReport, CallSpec, Job, Outcome, WaitReason
from autellix.errors import InvariantError
from autellix.policies import PLAS, Ladder

if TYPE_CHECKING:
    from autellix.core.call import Call

COSTS = CostModel(step_ns=10, prefill_ns=1, decode_ns=1)
POLICY = PLAS(ladder=Ladder(bounds_s=[1e-7], quanta_s=[1e-7, math.inf]), beta=2.0)


def follower() -> Follower:
    """Return books of an engine with two slots."""
    ranking = POLICY.ranking(10)
    return Follower(slots=2, policy=POLICY, ranking=ranking, costs=COSTS)


def spec(call_id: int, inherited_ns: int = 0, max_tokens: int = 9) -> CallSpec:
    """Return a call of a program of its own with three prompt tokens."""
    return CallSpec(
        call_id=call_id,
        program_id=call_id,
        job=Job(program_class="test", program_arrival=call_id),
        inherited_ns=inherited_ns,
        prompt=[1, 2, 3],
        max_tokens=max_tokens,
    )


def begin(books: Follower, calls: list[Call], now_ns: int) -> Plan:
    """Begin a step; who is in the line comes in."""
    line = books.books.line
    new = [c for c in calls if c.order in line]
    admitted = [Admitted(call=c, device_tokens=0, host_tokens=0) for c in new]
    parts = [(c, len(c.tokens) if c in new else 1) for c in calls]
    return books.follow(parts, admitted, WaitReason.SLOTS, now_ns)


def commit(books: Follower, plan: Plan, ended_ns: int, *, last: int = -1) -> None:
    """End a step that began when it was planned; ``last`` is the call that ends."""
    samples = {c.call_id: Sampled(7, c.call_id == last) for c, _ in plan.calls}
    books.commit(plan, samples, forward_at_ns=plan.at_ns, ended_ns=ended_ns)


def reports(books: Follower) -> dict[int, CallReport]:
    """Return the reports written since this was last asked, by call."""
    ended = [fact for fact in books.take_facts() if isinstance(fact, Ended)]
    return {fact.call_id: fact.report for fact in ended}


def check_sum(report: CallReport) -> None:
    """Fail unless service and wait are the time in the engine (A7)."""
    took_ns = report.ended_ns - report.submitted_ns
    assert report.service_ns + sum(report.wait_ns.values()) == took_ns


def test_time_before_the_front_heard_of_a_call_is_wait() -> None:
    """A call is submitted when the runtime says so, not when vLLM took it in (A7)."""
    books = follower()
    call = books.take_in(spec(1), submitted_ns=100, now_ns=130)
    commit(books, begin(books, [call], 150), 170, last=1)
    report = reports(books)[1]
    check_sum(report)
    assert (report.submitted_ns, report.service_ns) == (100, 20)
    assert report.wait_ns[WaitReason.ROUND] >= 30


def test_a_preempted_call_waits_and_is_computed_again() -> None:
    """It waits for a slot, keeps its tokens, and pays for the work twice (A7)."""
    books = follower()
    worse = books.take_in(spec(1), 0, 0)
    commit(books, begin(books, [worse], 0), 200)
    assert worse.level == 1
    better = books.take_in(spec(2), 200, 200)
    books.preempted(worse, better, WaitReason.SLOTS, 210)
    commit(books, begin(books, [better], 210), 300, last=2)
    commit(books, begin(books, [worse], 300), 350, last=1)
    facts = books.take_facts()
    assert [f.by for f in facts if isinstance(f, Preempted)] == [2]
    report = {f.call_id: f.report for f in facts if isinstance(f, Ended)}[1]
    check_sum(report)
    assert report.service_ns == 250
    assert report.wait_ns[WaitReason.SLOTS] == 90
    assert report.computed_tokens == 3 + 4
    assert report.output_tokens == 2


def test_a_call_cancelled_in_a_step_is_charged_for_it() -> None:
    """It ends when the step comes back (A4)."""
    books = follower()
    call = books.take_in(spec(1), 0, 0)
    plan = begin(books, [call], 0)
    books.end(call, Outcome.CANCELLED, 10)
    assert reports(books) == {}
    commit(books, plan, 40)
    report = reports(books)[1]
    assert (report.outcome, report.service_ns) == (Outcome.CANCELLED, 40)
    check_sum(report)


def test_overlapping_steps_charge_no_time_twice() -> None:
    """A step begun before the last came back counts from when that did."""
    books = follower()
    call = books.take_in(spec(1), 0, 0)
    first = begin(books, [call], 0)
    second = begin(books, [call], 10)
    commit(books, first, 100)
    commit(books, second, 150, last=1)
    report = reports(books)[1]
    assert report.service_ns == 150
    check_sum(report)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_call_that_ends_leaves_the_steps_under_way(is_cancelled: bool) -> None:
    """It ends once, with the first that comes back; others go on as they were (A4)."""
    books = follower()
    call, other = books.take_in(spec(1), 0, 0), books.take_in(spec(2), 0, 0)
    first = begin(books, [call, other], 0)
    second = begin(books, [call, other], 10)
    if is_cancelled:
        books.end(call, Outcome.CANCELLED, 50)
    commit(books, first, 100, last=1)
    report = reports(books)[1]
    assert report.service_ns == 100
    assert report.outcome is (Outcome.CANCELLED if is_cancelled else Outcome.FINISHED)
    commit(books, second, 150, last=2)
    ended = reports(books)
    assert ended.keys() == {2}
    assert ended[2].service_ns == 150
    check_sum(ended[2])


def test_a_call_preempted_in_flight_is_charged_until_then() -> None:
    """What a step still computes for it after that is nobody's (A1, A7)."""
    books = follower()
    call, other = books.take_in(spec(1), 0, 0), books.take_in(spec(2), 0, 0)
    plan = begin(books, [call, other], 0)
    books.preempted(call, other, WaitReason.SLOTS, 30)
    commit(books, plan, 100)
    commit(books, begin(books, [call], 110), 150, last=1)
    report = reports(books)[1]
    assert report.service_ns == 30 + 40
    assert report.wait_ns[WaitReason.SLOTS] == 80
    check_sum(report)


def test_steps_come_back_in_order() -> None:
    """Anything else is a bug, and said so."""
    books = follower()
    call = books.take_in(spec(1), 0, 0)
    begin(books, [call], 0)
    second = begin(books, [call], 10)
    with pytest.raises(InvariantError, match="order"):
        commit(books, second, 20)


def test_starving_programs_are_promoted_and_named() -> None:
    """After W >= beta * max(T, q) a waiting call goes to level 0 (Q3)."""
    books = follower()
    call = books.take_in(spec(1, inherited_ns=500), 0, 0)
    assert call.level == 1
    assert books.promote(199) == []
    assert books.promote(200) == [call]
    assert call.level == 0


def test_what_travels_arrives_as_it_was() -> None:
    """Tickets, facts and reports survive the way through plain data (Q6)."""
    wanted = spec(4, inherited_ns=17)
    extra = CallTicket.of(wanted, 33).extra_args()
    ticket = CallTicket(**extra["autellix"])
    assert ticket.spec(wanted.prompt, wanted.max_tokens) == wanted
    books = follower()
    call = books.take_in(wanted, 0, 5)
    commit(books, begin(books, [call], 10), 20, last=4)
    facts = books.take_facts()
    assert facts_from_wire(facts_to_wire(facts)) == facts
