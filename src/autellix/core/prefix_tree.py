"""Which KV blocks can be found again: a tree over the token ids they hold (rule K2).

A node stands for one full block *after* the blocks of its ancestors; its key is the
token ids themselves, so two different prefixes can never be taken for one another. A
node exists while its block lies in at least one tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import attrs

from autellix.errors import InvariantError


@attrs.define(eq=False)
class Slot:
    """A node's block in one tier.

    Attributes:
        block: Id in the tier's pool.
        references: Calls that hold it; 0: cached, may be evicted.
        is_moving: It is being written by the plan in flight: not readable yet.
    """

    block: int
    references: int = 0
    is_moving: bool = False


_NO_CHILDREN: dict[tuple[int, ...], Node] = {}  # of all leaves, and never written to


@attrs.define(eq=False)
class Node:
    """One full block in its context.

    Attributes:
        copies: Where calls cannot share blocks: those of calls that hold the same
            content beside ``device``.
        retained: How many calls and programs retain it (rule K7).
    """

    parent: Node | None
    key: tuple[int, ...]
    children: dict[tuple[int, ...], Node] = attrs.field(default=_NO_CHILDREN)
    device: Slot | None = None
    host: Slot | None = None
    is_indexed: bool = True
    copies: tuple[Slot, ...] = ()
    retained: int = 0

    @property
    def is_readable(self) -> bool:
        """Whether some tier holds the block's content now."""
        device, host = self.device, self.host
        if device is not None and not device.is_moving:
            return True
        return host is not None and not host.is_moving

    @property
    def is_end_of_one(self) -> bool:
        """Whether one call alone holds it on the engine, and nothing follows it."""
        device = self.device
        is_held_once = device is not None and device.references == 1
        return is_held_once and not self.children and not self.copies


class PrefixTree:
    """The index over all tiers, for one model (rule K2).

    Args:
        fingerprint: Of the model: weights, adapter, dtype, block size. Trees of
            different fingerprints share nothing (the seam for K6).
        block_tokens: Tokens a block holds.
    """

    def __init__(self, *, fingerprint: str, block_tokens: int) -> None:
        self.fingerprint = fingerprint
        self.block_tokens = block_tokens
        self.root = Node(None, ())

    def keys(
        self, tokens: Sequence[int], first: int, end: int
    ) -> Iterator[tuple[int, ...]]:
        """Return the keys of the full blocks ``first`` to ``end - 1`` of ``tokens``."""
        size = self.block_tokens
        part = iter(tokens[first * size :] if first else tokens)
        return islice(zip(*[part] * size, strict=False), end - first)

    def extend_match(
        self, found: list[Node], tokens: Sequence[int], limit_blocks: int
    ) -> None:
        """Bring ``found`` up to the longest readable chain for ``tokens``.

        ``found`` is what an earlier look-up of the same tokens gave: what was evicted
        since is cut off, what was added is appended. Cost is O(what changed).
        """
        while found and not (found[-1].is_indexed and found[-1].is_readable):
            found.pop()
        del found[limit_blocks:]
        node = found[-1] if found else self.root
        if not node.children:
            return
        append = found.append
        for key in self.keys(tokens, len(found), limit_blocks):
            child = node.children.get(key)
            if child is None:
                return
            device = child.device  # most are there: asked of every block of a prompt
            if (device is None or device.is_moving) and not child.is_readable:
                return
            append(child)
            node = child

    def child(self, parent: Node, key: tuple[int, ...]) -> Node:
        """Return the node of ``key`` after ``parent``, made if it is not there."""
        node = parent.children.get(key)
        if node is None:
            if not parent.children:
                parent.children = {}
            node = parent.children[key] = Node(parent, key)
        return node

    def cut(self, node: Node) -> None:
        """Take ``node``, without what is below it, out of the index."""
        if node.parent is not None and node.is_indexed:
            del node.parent.children[node.key]
        node.is_indexed = False

    def detach(self, node: Node) -> Iterator[Node]:
        """Take ``node`` and all below it out of the index.

        Yields:
            Each of them, parents first.
        """
        self.cut(node)
        pending = [node]
        while pending:
            gone = pending.pop()
            gone.is_indexed = False
            pending.extend(gone.children.values())
            gone.children = _NO_CHILDREN
            yield gone

    def nodes(self) -> Iterator[Node]:
        """Walk the index.

        Yields:
            Each node, parents first.
        """
        pending = list(self.root.children.values())
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())


@attrs.define(eq=False)
class Lease:
    """The blocks one call holds.

    Attributes:
        blocks: Device blocks in the order of their tokens.
        chain: Index nodes of its first ``len(chain)`` full blocks. Where the layout
            shares blocks, ``chain[i].device.block == blocks[i]``.
        found: What the index held for its tokens when last asked.
        host_chain: While swapped: nodes whose host blocks it references.
        host_private: While swapped: host blocks nobody else can find.
    """

    blocks: list[int] = attrs.field(factory=list)
    chain: list[Node] = attrs.field(factory=list)
    found: list[Node] = attrs.field(factory=list)
    host_chain: list[Node] = attrs.field(factory=list)
    host_private: list[int] = attrs.field(factory=list)


def held(slot: Slot | None) -> Slot:
    """Return ``slot``, which the books say is there.

    Raises:
        InvariantError: It is not: a bug of ours.
    """
    if slot is None:
        raise InvariantError("a block that is held has no slot")
    return slot
