"""Laws of programs: rows, placements and promotions against the ledger."""

from collections.abc import Mapping, Sequence

from autellix.core.books import Books
from autellix.core.call import Call, CallState
from autellix.core.program_row import ProgramView
from autellix.core.ranking import Placement
from autellix.core.starvation import is_starving, most_promoted
from tests.laws.ledger import Ledger

Placed = tuple[Call, Placement]


def check_row(
    view: ProgramView, ledger: Ledger, paths_ns: Mapping[int, int], now_ns: int
) -> None:
    """A row is the sum, or the longest chain, of what its ended calls used (A5, A7)."""
    lives = ledger.ended(view.program_id)
    assert view.service_ns == sum(life.service_ns for life in lives)
    assert view.work_ns == sum(life.work_ns for life in lives)
    paths = [paths_ns[life.spec.call_id] for life in lives]
    assert view.critical_path_ns == max(paths, default=0)
    if not view.live_calls:
        brute = ledger.lifetime(view.program_id, now_ns)
        assert (view.ran_ns, view.waited_ns) == (brute.ran_ns, brute.waited_ns)


def check_windows(books: Books, ledger: Ledger) -> None:
    """The fairness window of a live program is what the ledger adds up to (A7)."""
    for program_id in {call.spec.program_id for call in books.calls.values()}:
        clock = books.fairness.clock(program_id)
        assert clock.window == ledger.window(program_id, clock.settled_ns)


def check_placed(books: Books, ledger: Ledger, before: Sequence[Placed]) -> None:
    """Calls that ran and did not end were placed anew if they had expired (Q1)."""
    for call, was in before:
        if call.state is CallState.ENDED:
            continue
        age_ns = ledger.lives[call.call_id].age_ns(books.policy.charge)
        assert placement_of(call) == (
            books.places.ranking.expire(call.spec.job, age_ns, was.level)
            if was.expires_at_ns is not None and age_ns >= was.expires_at_ns
            else was
        )


def starving(books: Books, ledger: Ledger, now_ns: int) -> set[int]:
    """Return the calls that a round promotes now, worked out from the ledger (Q3)."""
    beta, floor_ns = books.policy.beta, books.places.ranking.first_quantum_ns
    if beta is None:
        return set()
    found = [
        (call.spec.program_id, call.order, call.call_id)
        for call in books.calls.values()
        if call.state is not CallState.RUNNING and call.level
        if is_starving(ledger.window(call.spec.program_id, now_ns), beta, floor_ns)
    ]
    there = len(ledger.promoted & books.calls.keys())
    room = most_promoted(len(books.running), beta) - there
    return {call_id for _, _, call_id in sorted(found)[: max(0, room)]}


def placement_of(call: Call) -> Placement:
    """Return where a call stands."""
    return Placement(call.level, call.expires_at_ns)
