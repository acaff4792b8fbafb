"""What must hold of the KV blocks between any two operations (rules K1, K3, K4)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from autellix.core.call import CallState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from autellix.core.call import Call
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.prefix_tree import Node, Slot
    from autellix.core.tier import Tier


def broken_in_blocks(blocks: KVBlocks, calls: Collection[Call]) -> Iterator[str]:
    """Walk both tiers, the index and the leases of all live calls.

    Args:
        blocks: Of the engine.
        calls: All of its live calls.

    Yields:
        What does not hold, in words.
    """
    known = _known_nodes(blocks, calls)
    yield from _in_index(blocks)
    yield from _in_leases(blocks, calls)
    yield from _on_device(blocks, calls, known)
    yield from _in_host(blocks, calls, known)
    yield from _leaves_not_first(blocks.device, "device")
    yield from _leaves_not_first(blocks.host, "host")
    if blocks.shares_blocks:
        yield from _gaps_on_device(blocks)


def _known_nodes(blocks: KVBlocks, calls: Collection[Call]) -> Sequence[Node]:
    """Return each node once that the index, a tier or a lease knows of."""
    known = dict.fromkeys(blocks.tree.nodes())
    for tier in (blocks.device, blocks.host):
        known |= tier.cached | tier.retained
    known |= dict.fromkeys(blocks.host._writing + blocks.host._reading)
    for call in calls:
        known |= dict.fromkeys(call.lease.chain + call.lease.host_chain)
    return list(known)


def _in_index(blocks: KVBlocks) -> Iterator[str]:
    for node in blocks.tree.nodes():
        if not node.is_indexed or node.parent is None:
            yield f"a node under the root says that it is not: {node.key}"
        elif node.parent.children.get(node.key) is not node:
            yield f"the parent of node {node.key} does not know it"
        if node.device is None and node.host is None:
            yield f"node {node.key} is indexed and lies in no tier"


def _in_leases(blocks: KVBlocks, calls: Collection[Call]) -> Iterator[str]:
    for call in calls:
        lease, name = call.lease, f"call {call.call_id}, {call.state.value},"
        computed = blocks.blocks_for(call.computed)
        if call.is_resident and len(lease.blocks) < computed:
            yield f"{name} computed {call.computed} tokens, has {lease.blocks}"
        if not call.is_resident and (lease.blocks or lease.chain):
            yield f"{name} holds device blocks {lease.blocks}"
        swapped = len(lease.host_chain) + len(lease.host_private)
        if swapped != (computed if call.state is CallState.SWAPPED else 0):
            yield f"{name} owns {swapped} host blocks, computed {call.computed} tokens"
        for chain in (lease.chain, lease.host_chain):
            for index, node in enumerate(chain):
                before = chain[index - 1] if index else blocks.tree.root
                start = index * blocks.block_tokens
                wanted = tuple(call.tokens[start : start + blocks.block_tokens])
                if node.key != wanted or node.parent is not before:
                    yield f"{name} holds {node.key} where its tokens are {wanted}"


def _on_device(
    blocks: KVBlocks, calls: Collection[Call], known: Sequence[Node]
) -> Iterator[str]:
    tier = blocks.device
    holders: Counter[Node] = Counter()
    owned = list(tier.free_ids)
    copies = Counter(copy.block for node in known for copy in node.copies)
    for call in calls:
        chain = call.lease.chain
        for index, block in enumerate(call.lease.blocks):
            slot = chain[index].device if index < len(chain) else None
            if slot is not None and slot.block == block:
                holders[chain[index]] += 1
            else:
                owned.append(block)
                if index < len(chain):
                    copies[block] -= 1
    if blocks.shares_blocks and copies:
        yield f"device blocks {list(copies)} are copies of blocks that can be shared"
    if any(copies.values()):
        yield f"device blocks {list(copies)} are copies that are not as they are held"
    yield from _slots(tier, [(n, n.device) for n in known], holders, "device")
    owned += [node.device.block for node in known if node.device is not None]
    yield from _places(tier, owned, "device")


def _in_host(
    blocks: KVBlocks, calls: Collection[Call], known: Sequence[Node]
) -> Iterator[str]:
    tier = blocks.host
    holders: Counter[Node] = Counter(tier._reading)
    owned = [*tier.free_ids, *tier._leaving]
    for call in calls:
        holders.update(call.lease.host_chain)
        owned += call.lease.host_private
    yield from _slots(tier, [(n, n.host) for n in known], holders, "host")
    owned += [node.host.block for node in known if node.host is not None]
    yield from _places(tier, owned, "host")
    moving = Counter(node for node in known if node.host and node.host.is_moving)
    if moving != Counter(tier._writing):
        yield f"{len(moving)} host blocks are moving, {len(tier._writing)} are written"
    private = {block for call in calls for block in call.lease.host_private}
    if not tier._writing_private <= private.union(tier._leaving):
        yield f"host blocks {tier._writing_private} are written for nobody"


def _slots(
    tier: Tier,
    slots: Sequence[tuple[Node, Slot | None]],
    holders: Counter[Node],
    name: str,
) -> Iterator[str]:
    for node, slot in slots:
        if slot is None:
            if tier.is_idle(node) or holders[node]:
                yield f"{name}: node {node.key} is cached or held and has no block"
            continue
        if slot.references != holders[node]:
            yield (
                f"{name} block {slot.block} counts {slot.references} references, "
                f"{holders[node]} hold it"
            )
        is_idle = not (slot.references or slot.is_moving)
        at = (node in tier.cached, node in tier.retained)
        if at != (is_idle and not node.retained, is_idle and bool(node.retained)):
            yield (
                f"{name} block {slot.block} is idle: {is_idle}, retained by "
                f"{node.retained}; it stands in the cache, among those retained: {at}"
            )
        if is_idle and not node.is_indexed:
            yield f"{name} block {slot.block} is idle and cannot be found"


def _places(tier: Tier, owned: Sequence[int], name: str) -> Iterator[str]:
    # Each block of the pool is in exactly one place (rule K1).
    places = Counter(owned)
    if len(places) != tier.total or places.total() != tier.total:
        twice = sorted(block for block, count in places.items() if count > 1)
        lost = sorted(set(range(tier.total)) - set(places))
        yield f"{name} blocks in two places: {twice}, in none: {lost}"


def _leaves_not_first(tier: Tier, name: str) -> Iterator[str]:
    # Where a node and what is above it can be evicted, the node goes first (K3).
    ages = {node: age for age, node in enumerate([*tier.cached, *tier.retained])}
    for node, age in ages.items():
        if node.parent is not None and ages.get(node.parent, age) < age:
            yield f"{name}: {node.parent.key} would be evicted before {node.key} below"


def _gaps_on_device(blocks: KVBlocks) -> Iterator[str]:
    # Chains are bisected for where they are held, idle and absent: never mixed.
    for node in blocks.tree.nodes():
        above = node.parent
        if above is None or above is blocks.tree.root or node.device is None:
            continue
        if above.device is None:
            yield f"node {node.key} is on the engine, {above.key} above it is not"
        elif above.device.references < node.device.references:
            yield f"node {node.key} is held by more than {above.key} above it"
