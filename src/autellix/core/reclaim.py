"""What preempting calls would free for another one, before anybody is preempted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autellix.core.prefix_tree import Node, held

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.kv_blocks import Found, KVBlocks


class Reclaim:
    """Counts what preempting one call after another would free, for one candidate."""

    def __init__(self, blocks: KVBlocks, found: Found) -> None:
        self._shares = blocks.shares_blocks
        self._wanted = set(found.nodes[: found.device]) if self._shares else set()
        self._released: dict[Node, int] = {}
        self.gained = 0

    def add(self, call: Call) -> None:
        """Count ``call`` as preempted."""
        lease = call.lease
        if not self._shares:
            self.gained += len(lease.blocks)
            return
        self.gained += len(lease.blocks) - len(lease.chain)
        for node in lease.chain:
            released = self._released[node] = self._released.get(node, 0) + 1
            if held(node.device).references == released and node not in self._wanted:
                self.gained += 1
