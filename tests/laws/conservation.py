"""Work conservation: whether a call that was tried and missed fits after all (S2, S4).

A call fits with what the plan left when it would have fitted when it was tried: until
then slots and blocks only get scarcer. Only its share of the token budget has to be
taken as it was: with fewer tokens its first chunk would need fewer blocks.
"""

from collections import Counter
from collections.abc import Sequence

from autellix.core.call import Call
from autellix.core.cost_model import CostModel
from autellix.core.prefix_tree import Node
from autellix.core.records import PreemptionKind
from tests.laws.picture import Picture, Seen
from tests.laws.prefixes import start_of


def fits(picture: Picture, call_id: int) -> bool:
    """Say whether a call could be admitted; not after growth has freed anything."""
    before, call = picture.seen[call_id], picture.calls[call_id]
    if call_id in picture.admitted or start_of(picture.blocks, call) != before.start:
        return False  # what it can start from, and so what it needs, has changed
    giver = None
    if len(picture.running) >= picture.limits.slots:
        behind = [i for i in picture.running if _may_take(picture, call_id, i)]
        giver = max(behind, key=picture.order.__getitem__, default=None)
        if giver is None:
            return False
    spare = int(giver is not None and picture.seen[giver].decodes)
    new = len(call.tokens) - before.start.tokens
    tokens = min(new, _budget_at(picture, call_id) + spare)
    if tokens < 1:
        return False
    if before.start.tokens and new == 1:
        tokens = min(picture.limits.round_steps, before.remaining)
    end = before.start.tokens + tokens
    if before.is_recomputing:
        end = len(call.tokens)
    need = picture.blocks.blocks_for(end) - before.blocks
    return _has_blocks(picture, call_id, need, giver)


def pays(costs: CostModel, call: Seen, kind: PreemptionKind) -> bool:
    """Say whether preempting costs less than the call has left to run (S2)."""
    if kind is PreemptionKind.SWAP:
        cost = 2 * costs.transfer_time_ns(call.blocks)
    else:
        cost = costs.recompute_ns(call.computed)
    return cost < call.remaining * (costs.step_ns + costs.decode_ns)


def _budget_at(picture: Picture, call_id: int) -> int:
    """Return the tokens that were left when the pass came to a call."""
    decoders = {i for i, before in picture.seen.items() if before.decodes}
    gone = {f.call_id for f in picture.preempted if picture.is_ahead(f.by, call_id)}
    used = sum(
        tokens
        for i, tokens in picture.step.items()
        if i not in decoders and picture.is_ahead(i, call_id)
    )
    return picture.limits.token_budget - len(decoders - gone) - used


def _has_blocks(picture: Picture, call_id: int, need: int, giver: int | None) -> bool:
    """Say whether blocks are there, or come free from calls it may preempt."""
    blocks, costs = picture.blocks, picture.costs
    wanted = picture.seen[call_id].start.hits if blocks.shares_blocks else ()
    free = blocks.device.available - sum(map(blocks.device.is_idle, wanted))
    need -= len(wanted)
    victims = [i for i in picture.ranked[::-1] if _may_take(picture, call_id, i)]
    victims.sort(key=lambda i: i != giver)
    room, gone = blocks.host.available, list[Call]()
    for i in victims:
        if free + _freed(gone, wanted, shares=blocks.shares_blocks) >= need:
            return True
        victim, before = picture.calls[i], picture.seen[i]
        hosted = blocks.host_blocks_needed(victim)
        swaps = hosted <= room and costs.is_swap_cheaper(before.blocks, victim.computed)
        kind = PreemptionKind.SWAP if swaps else PreemptionKind.DROP
        if pays(costs, before, kind) and not before.is_recomputing:
            gone.append(victim)
            room -= hosted if swaps else 0
    return free + _freed(gone, wanted, shares=blocks.shares_blocks) >= need


def _may_take(picture: Picture, call_id: int, other_id: int) -> bool:
    """Say whether a call may preempt another that was there and still is."""
    return (
        other_id not in picture.admitted
        and picture.calls[other_id].is_resident
        and picture.is_ahead(call_id, other_id)
        and picture.is_much_better(call_id, other_id)
    )


def _freed(victims: Sequence[Call], wanted: Sequence[Node], *, shares: bool) -> int:
    """Return how many blocks come free when all of these calls lose theirs."""
    holders: Counter[Node] = Counter()
    private = 0
    for victim in victims:
        lease = victim.lease
        if shares:
            holders.update(lease.chain)
            private += len(lease.blocks) - len(lease.chain)
        else:
            private += len(lease.blocks)
    return private + sum(
        node.device is not None and node.device.references == count
        for node, count in holders.items()
        if node not in wanted
    )
