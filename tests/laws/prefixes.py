"""What a call can start from, found without the tree: every prefix by its tokens."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from autellix.core.call import Call, CallState
from autellix.core.kv_blocks import KVBlocks
from autellix.core.prefix_tree import Node


class Start(NamedTuple):
    """What a call without device blocks could start from."""

    tokens: int
    hits: tuple[Node, ...]
    unretained: int = 0
    """How many blocks of the pool are found that nobody else keeps there."""


def start_of(blocks: KVBlocks, call: Call) -> Start:
    """Return how many tokens of a call need not be computed, and its device hits."""
    if call.is_resident:
        return Start(call.computed, ())
    if call.state is CallState.SWAPPED:
        return Start(call.computed, tuple(_while_on_device(call.lease.host_chain)))
    if not blocks.caches_prefixes:
        return Start(0, ())
    return longest_prefix(blocks, call.tokens[:-1])


def _while_on_device(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        if node.device is None or node.device.is_moving:
            return
        yield node


def indexed_prefixes(blocks: KVBlocks) -> Mapping[tuple[int, ...], Node]:
    """Return every node of the index by all the tokens up to its end."""
    found: dict[tuple[int, ...], Node] = {}
    pending: list[tuple[tuple[int, ...], Node]] = [((), blocks.tree.root)]
    while pending:
        tokens, node = pending.pop()
        for child in node.children.values():
            found[tokens + child.key] = child
            pending.append((tokens + child.key, child))
    return found


def longest_prefix(blocks: KVBlocks, tokens: Sequence[int]) -> Start:
    """Return the longest start of ``tokens`` that can be had: device, then host."""
    index, size = indexed_prefixes(blocks), blocks.block_tokens
    hits: list[Node] = []
    loads = unretained = 0
    for end in range(size, len(tokens) + 1, size):
        node = index.get(tuple(tokens[:end]))
        if node is None:
            break
        if node.device is not None and not node.device.is_moving and not loads:
            hits.append(node)
        elif node.host is not None and not node.host.is_moving:
            loads += 1
        else:
            break
        unretained += node in blocks.pool.cached
    return Start((len(hits) + loads) * size, tuple(hits), unretained)
