"""Laws of what programs retain: who is turned away, and what goes first (K7)."""

from collections.abc import Mapping

from autellix.core.call import CallState
from autellix.core.waiting import Order
from tests.laws.picture import Picture, freed_by, in_pool, room_in
from tests.laws.prefixes import start_of


def check_retention(picture: Picture) -> None:
    """Check a plan against what was retained before it."""
    _check_lost(picture)
    _check_evictions(picture)
    has_lost = picture.retention.losses > picture.losses
    is_plain = not (picture.preempted or picture.may_be_forced or has_lost)
    if picture.is_round and is_plain and picture.blocks.retains_prefixes:
        for call_id in picture.passed_over:
            _check_turned_away(picture, call_id)
        if picture.turned_away is not None:
            _check_turned_away(picture, picture.turned_away)
        _check_newcomers(picture)
    elif not picture.blocks.retains_prefixes:
        assert picture.turned_away is None
        assert not picture.passed_over


def _lost(picture: Picture) -> set[tuple[int, ...]]:
    """Return the places of calls that wait on, and have lost what they retained."""
    in_line = {call.order for call in picture.calls.values()} & set(picture.line.all)
    return (set(picture.retained) - set(picture.retention.held)) & in_line


def _check_lost(picture: Picture) -> None:
    """The last in the order lose what they retain, but those who free nothing by it."""
    lost = _lost(picture)
    frees = freed_by(picture.blocks, picture.retention.held)
    kept = {order for order, n in frees.items() if n and picture.frees.get(order)}
    picture.kinds["retention lost"] += len(lost)
    if lost and kept:
        assert max(kept) < min(lost), f"{min(lost)} lost it, {max(kept)} did not"


def _check_evictions(picture: Picture) -> None:
    """Nothing that is retained throughout is evicted from the pool."""
    for order, nodes in picture.retained.items():
        is_held = picture.retention.held.get(order) is nodes  # not lost and regained
        for node in nodes:
            if is_held and node in picture.pooled:
                assert in_pool(picture.blocks, node), f"{order} retains {node.key}"


def _check_turned_away(picture: Picture, call_id: int) -> None:
    """Who is turned away is a newcomer, and what is left is too little for it."""
    call, before = picture.calls[call_id], picture.seen[call_id]
    picture.kinds["passed over" if call.is_promoted else "turned away"] += 1
    if start_of(picture.blocks, call) != before.start:
        return  # running calls grew into what it would have found
    if any(picture.is_ahead(call.call_id, i) for i in picture.admitted):
        return  # what these retained is retained no more
    assert call.state is before.state is CallState.WAITING
    assert not call.is_reserved
    assert 2 * before.start.tokens < len(call.tokens)
    frees = freed_by(picture.blocks, picture.retention.held)
    left = room_in(picture.blocks) + _below(picture, call_id, frees)
    needed = _need(picture, call_id)
    assert left < needed, f"{left} blocks are left, it needs {needed}"


def _check_newcomers(picture: Picture) -> None:
    """Who is let in and has nothing here had room, or the engine to itself."""
    has_run = any(before.is_running for before in picture.seen.values())
    admitted = sorted(picture.admitted, key=picture.order.__getitem__)
    for place, call_id in enumerate(admitted):
        before, call = picture.seen[call_id], picture.calls[call_id]
        is_exempt = call_id in picture.reserved or before.is_reserved
        if before.state is not CallState.WAITING or is_exempt:
            continue
        if before.is_returning or 2 * before.start.tokens >= len(call.tokens):
            continue
        if picture.turned_away is not None:
            assert picture.is_ahead(call_id, picture.turned_away), "admitted after it"
        if has_run and not place:  # later ones found less room than there was
            picture.kinds["newcomer"] += 1
            there = picture.room + _below(picture, call_id, picture.frees)
            assert there >= _need(picture, call_id)


def _below(picture: Picture, call_id: int, frees: Mapping[Order, int]) -> int:
    """Return how many blocks only those retain, or hold, who are much worse.

    To one that is promoted nobody is.
    """
    if picture.calls[call_id].is_promoted:
        return 0
    least = picture.calls[call_id].level + picture.limits.hysteresis_levels
    residents = [
        before.blocks
        for other_id, before in picture.seen.items()
        if picture.blocks.pool is picture.blocks.device
        and before.is_resident
        and before.level >= least
        and picture.is_ahead(call_id, other_id)
    ]
    return sum(n for o, n in frees.items() if o[0] >= least) + sum(residents)


def _need(picture: Picture, call_id: int) -> int:
    """Return how many blocks a call needs beside those it finds and keeps."""
    blocks, call = picture.blocks, picture.calls[call_id]
    start = picture.seen[call_id].start
    known = start.tokens // blocks.block_tokens
    return blocks.blocks_for(len(call.tokens)) - known + start.unretained
