"""The engine's own KV blocks: who holds which, and what is evicted (rules K1, K3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autellix.core.prefix_tree import Node, Slot, held
from autellix.core.tier import Tier

if TYPE_CHECKING:
    from autellix.core.plan import BlockCopy
    from autellix.core.prefix_tree import Lease


class DeviceTier(Tier):
    """A tier whose blocks are leased to calls.

    Args:
        total: Blocks on the engine.
        forget: Called with a node that has lost its last block.
    """

    def __init__(self, total: int, forget: Callable[[Node], None]) -> None:
        super().__init__(total)
        self._forget = forget
        self._arriving: list[Slot] = []

    def settle(self) -> None:
        """Note that the copies taken last have been made."""
        for copy in self._arriving:
            copy.is_moving = False
        self._arriving = []

    def copies_into(self, lease: Lease, sources: Sequence[int]) -> list[BlockCopy]:
        """Give ``lease`` new blocks, into which ``sources`` are to be copied."""
        targets = [self.take_or_evict() for _ in sources]
        lease.blocks += targets
        return list(zip(sources, targets, strict=True))

    def copy_hits(self, lease: Lease, hits: Sequence[Node]) -> list[BlockCopy]:
        """Give ``lease`` copies of its hits; taking them may evict the hits."""
        for node in reversed(hits):
            if self.is_idle(node):
                self.renew(node)
        sources = [held(node.device).block for node in hits]
        slots = [Slot(block, references=1, is_moving=True) for block in sources]
        for node, slot in zip(hits, slots, strict=True):
            node.copies += (slot,)
        copies = self.copies_into(lease, sources)
        for slot, (_, target) in zip(slots, copies, strict=True):
            slot.block = target
        self._arriving += slots
        return copies

    def hold(self, lease: Lease, nodes: Sequence[Node]) -> None:
        """Give ``lease`` a share in the blocks of ``nodes``."""
        blocks = lease.blocks
        for node in nodes:
            slot = node.device or held(None)
            if not slot.references:
                self.rouse(node)
            slot.references += 1
            blocks.append(slot.block)

    def take_or_evict(self) -> int:
        """Return a block; where none is free, that of the idle node to go first."""
        block = self.take()
        if block is not None:
            return block
        node = self.pop_idle()
        block = held(node.device).block
        if node.copies:  # or what its holder has below could not be found again
            *others, node.device = node.copies
            node.copies = tuple(others)
            return block
        node.device = None
        if node.host is None:
            self._forget(node)
        return block

    def release(self, lease: Lease) -> None:
        """Take all blocks of ``lease`` back; full ones stay findable."""
        for block in lease.blocks[len(lease.chain) :]:
            self.give(block)
        known = lease.blocks[: len(lease.chain)]
        for node, block in zip(reversed(lease.chain), reversed(known), strict=True):
            slot = node.device or held(None)
            if slot.block != block:  # a copy of its own (K1)
                node.copies = tuple(c for c in node.copies if c.block != block)
                self.give(block)
                if self.is_idle(node):
                    self.renew(node)
                continue
            slot.references -= 1
            if slot.references:
                continue
            if node.is_indexed:
                self.rest(node)
            else:
                node.device = None
                self.give(block)
        lease.blocks, lease.chain = [], []
