"""Laws of one plan: rules of DESIGN section 6, checked the plain way."""

from autellix.core.call import CallState
from autellix.core.facts import Preempted
from autellix.core.records import PreemptionKind
from tests.laws.conservation import fits, pays
from tests.laws.picture import Picture


def check_plan(picture: Picture) -> None:
    """Check a plan against what was there before it."""
    _check_places(picture)
    _check_step(picture)
    _check_growth(picture)
    _check_preemptions(picture)
    if picture.kinds["forced progress"]:
        _check_forced(picture)
    if not picture.may_be_forced:
        assert set(picture.admitted) <= set(picture.reached()), "admitted out of turn"
    if not picture.is_round:
        _check_between_rounds(picture)
    elif not (picture.growing or picture.may_be_forced):
        for call_id in picture.reached():
            assert not fits(picture, call_id), f"call {call_id} fits, it was passed by"


def _check_places(picture: Picture) -> None:
    """Only a promotion changes level or place; a preempted call keeps both (Q2)."""
    for call_id, call in picture.calls.items():
        before = picture.seen[call_id]
        if call_id in picture.promoted:
            assert picture.is_round
            assert call.level == 0 < before.level
            assert not before.is_running
        else:
            assert (call.level, call.inner) == (before.level, before.inner)
    assert picture.is_round or not picture.reserved
    for call_id in picture.reserved:
        assert not picture.seen[call_id].is_resident


def _check_step(picture: Picture) -> None:
    """Decoders have their token, tokens are what is new, somebody advances (S5)."""
    step = picture.step
    assert step or not picture.calls, "calls live and nothing is computed"
    assert list(step) == [i for i in picture.ranked if i in step]
    assert set(step) <= set(picture.running)
    assert set(picture.admitted) <= set(step), "a call was admitted for nothing"
    for call_id in picture.running:
        call = picture.calls[call_id]
        if picture.seen[call_id].decodes:
            assert step.get(call_id) == 1, f"decoder {call_id} has no token"
        assert step.get(call_id, 0) <= len(call.tokens) - call.computed
    first = next((i for i in picture.ranked if i in picture.running), None)
    assert first is None or first in step, f"{first}, the first, has no token"
    was_first = next((i for i in picture.ranked if picture.seen[i].is_running), None)
    if was_first is not None and was_first not in step:
        better = [i for i in picture.admitted if picture.is_ahead(i, was_first)]
        assert better, f"{was_first} ran as the first and nobody better came"


def _check_forced(picture: Picture) -> None:
    """Where nobody could enter, the first resident does, or the first of all (S5)."""
    yielded = {fact.call_id for fact in picture.growing}
    rest = [i for i in picture.ranked if i not in yielded]
    residents = [i for i in rest if picture.seen[i].is_resident]
    whole = [i for i in residents if picture.seen[i].is_recomputing]
    assert picture.running == (whole or residents or rest)[:1]


def _check_growth(picture: Picture) -> None:
    """Who cannot grow makes the last resident behind it yield, or itself (S3).

    One that recomputes what it lost yields where there is no other.
    """
    stayed = [
        call_id
        for call_id, call in picture.calls.items()
        if call.is_resident and picture.seen[call_id].is_resident
    ]
    for fact in picture.growing:
        victim = picture.seen[fact.call_id]
        assert picture.seen[fact.by].is_running
        assert fact.kind is not PreemptionKind.PAUSE
        picture.kinds["recomputation undone"] += victim.is_recomputing
        for call_id in stayed:
            if not picture.is_ahead(fact.by, call_id):
                continue
            assert fact.by != fact.call_id, f"{call_id} is behind, {fact.by} yields"
            is_kept = picture.seen[call_id].is_recomputing
            if is_kept == victim.is_recomputing:
                is_last = picture.is_ahead(call_id, fact.call_id)
                assert is_last, f"call {call_id} is behind the one of {fact}"
            else:
                assert is_kept, f"{fact} undoes what was being recomputed"
                picture.kinds["recomputation spared"] += 1
        if fact.by == fact.call_id:
            picture.kinds["self-yield"] += 1
        else:
            picture.kinds["growth yield"] += 1
            assert picture.is_ahead(fact.by, fact.call_id)


def _check_preemptions(picture: Picture) -> None:
    """No preemption inside a level, nor one that does not pay (S2, S3)."""
    for fact in picture.preempted:
        victim = picture.seen[fact.call_id]
        if fact.kind is not PreemptionKind.PAUSE and fact not in picture.growing:
            assert not victim.is_recomputing, f"{fact} undoes what was being recomputed"
        if fact.kind is PreemptionKind.SWAP:
            assert victim.computed
            assert picture.costs.is_swap_cheaper(victim.blocks, victim.computed)
        if fact.kind is PreemptionKind.PAUSE:
            assert victim.is_running
            assert picture.slots_taken_at(fact.by) == picture.limits.slots
        if fact not in picture.growing and not picture.may_be_forced:
            _check_by_rule(picture, fact)


def _check_by_rule(picture: Picture, fact: Preempted) -> None:
    assert picture.is_ahead(fact.by, fact.call_id)
    assert picture.is_much_better(fact.by, fact.call_id), f"{fact} is not much better"
    if fact.kind is not PreemptionKind.PAUSE:
        victim = picture.seen[fact.call_id]
        assert pays(picture.costs, victim, fact.kind), f"{fact} does not pay"


def _check_between_rounds(picture: Picture) -> None:
    """Nobody is preempted for a candidate; only paused calls go on (S6)."""
    if picture.may_be_forced:
        return
    assert picture.preempted == picture.growing
    for call_id in picture.admitted:
        assert picture.seen[call_id].state is CallState.PAUSED
        picture.kinds["reserve"] += 1
