"""The host pool: KV blocks of ended and preempted calls, kept beside the engine (K5).

Evicting a block from the engine then copies nothing, and a later hit is loaded instead
of recomputed. An object of its own, so that engines of one model may one day share it
(K6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from autellix.core.prefix_tree import Node, Slot, held
from autellix.core.tier import Tier

if TYPE_CHECKING:
    from autellix.core.plan import BlockCopy
    from autellix.core.prefix_tree import Lease


class HostTier(Tier):
    """A tier whose blocks are written and read by copies of a plan.

    Args:
        total: Blocks in the pool; 0 is no host tier.
        forget: Called with a node that has lost its last block.
    """

    def __init__(self, total: int, forget: Callable[[Node], None]) -> None:
        super().__init__(total)
        self._forget = forget
        self.writes: list[BlockCopy] = []
        self._writing: list[Node] = []
        self._in_flight = 0
        self._writing_private: set[int] = set()
        self._reading: list[Node] = []
        self._leaving: list[int] = []

    @property
    def moving(self) -> int:
        """Blocks that the plan in flight or the next one writes."""
        return len(self._writing) + len(self._writing_private)

    def take_or_evict(self) -> int:
        """Return a block; where none is free, that of the idle node to go first."""
        block = self.take()
        if block is not None:
            return block
        node = self.pop_idle()
        block = held(node.host).block
        node.host = None
        if node.device is None:
            self._forget(node)
        return block

    def write(self, node: Node, source: int) -> None:
        """Copy device block ``source`` into a block for ``node``."""
        node.host = Slot(self.take_or_evict(), is_moving=True)
        self._writing.append(node)
        self.writes.append((source, node.host.block))

    def write_private(self, source: int) -> int:
        """Copy device block ``source`` into a block that only the caller knows."""
        target = self.take_or_evict()
        self._writing_private.add(target)
        self.writes.append((source, target))
        return target

    def reference(self, node: Node) -> None:
        """Keep the node's block until ``unreference``."""
        held(node.host).references += 1
        if self.is_idle(node):
            self.rouse(node)

    def unreference(self, node: Node) -> None:
        """Undo ``reference``."""
        slot = held(node.host)
        slot.references -= 1
        if slot.references == 0 and not slot.is_moving:
            self._rest(node)

    def read(self, lease: Lease) -> None:
        """Keep what a swapped call owns until its copies back have been made."""
        self._reading.extend(lease.host_chain)
        self._leaving.extend(lease.host_private)
        lease.host_chain, lease.host_private = [], []

    def read_shared(self, node: Node) -> None:
        """Keep the block of a prefix hit until its copy has been made."""
        self.reference(node)
        self._reading.append(node)

    def give_up(self, lease: Lease) -> None:
        """Release what a swapped call owns, without reading it."""
        for node in reversed(lease.host_chain):
            self.unreference(node)
        for block in lease.host_private:
            if block in self._writing_private:
                self._leaving.append(block)
            else:
                self.give(block)
        lease.host_chain, lease.host_private = [], []

    def touch(self, nodes: Sequence[Node]) -> None:
        """Make ``nodes``, a chain from the root, the most recently used."""
        for node in reversed(nodes):
            if self.is_idle(node):
                self.renew(node)

    def take_writes(self) -> list[BlockCopy]:
        """Return the copies into the pool that the next plan makes, once."""
        writes, self.writes = self.writes, []
        self._in_flight = len(self._writing)
        return writes

    def settle(self) -> None:
        """Note that the copies taken last, and those back, have been made.

        What a call that was cancelled meanwhile left to be written waits for the next.
        """
        written = self._writing[: self._in_flight]
        self._writing = self._writing[self._in_flight :]
        self._in_flight, self._writing_private = 0, set()
        for node in reversed(written):
            slot = held(node.host)
            slot.is_moving = False
            if slot.references == 0:
                self._rest(node)
        read, self._reading = self._reading, []
        for node in reversed(read):
            self.unreference(node)
        leaving, self._leaving = self._leaving, []
        for block in leaving:
            self.give(block)

    def _rest(self, node: Node) -> None:
        if not node.is_indexed:
            self.give(held(node.host).block)
            node.host = None
            return
        self.rest(node)
        above = node.parent
        while above is not None and self.is_idle(above):
            self.renew(above)  # stays younger: leaves go first
            above = above.parent


def count_with_host(nodes: Iterable[Node]) -> int:
    """Return how many of ``nodes`` have a block in the host pool."""
    return sum(1 for node in nodes if node.host is not None)
