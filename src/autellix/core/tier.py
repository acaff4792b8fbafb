"""A pool of KV blocks: on the engine, or beside it (rules K1, K3, K7)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autellix.core.prefix_tree import Node


class Tier:
    """A pool of equal blocks: free, cached, referenced or moving (rule K1).

    Attributes:
        total: Blocks in the pool.
        cached: Nodes whose block nobody references, least recently used first.
        retained: Of these, the ones that somebody retains (rule K7); not in ``cached``.
        make_way: Lets go of some of them; None: they go as the others do, after them.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.cached: OrderedDict[Node, None] = OrderedDict()
        self.retained: OrderedDict[Node, None] = OrderedDict()
        self.make_way: Callable[[], None] | None = None
        self._free = list(range(total - 1, -1, -1))

    @property
    def free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def free_ids(self) -> Sequence[int]:
        """Ids of the free blocks; a live view."""
        return self._free

    @property
    def available(self) -> int:
        """Blocks that can be had without preempting anybody."""
        return len(self._free) + self.idle

    @property
    def idle(self) -> int:
        """Blocks that nobody references and that can be found."""
        return len(self.cached) + len(self.retained)

    def take(self) -> int | None:
        """Return a free block, None when there is none."""
        return self._free.pop() if self._free else None

    def take_free(self, most: int) -> list[int]:
        """Return up to so many free blocks."""
        if most <= 0:
            return []
        taken = self._free[-most:]
        del self._free[-most:]
        taken.reverse()
        return taken

    def give(self, block: int) -> None:
        """Put a block back."""
        self._free.append(block)

    def is_idle(self, node: Node) -> bool:
        """Say whether nobody references the node's block."""
        return node in (self.retained if node.retained else self.cached)

    def rest(self, node: Node) -> None:
        """Keep a node's block that nobody references any more."""
        (self.retained if node.retained else self.cached)[node] = None

    def renew(self, node: Node) -> None:
        """Make an idle node the most recently used."""
        (self.retained if node.retained else self.cached).move_to_end(node)

    def rouse(self, node: Node) -> None:
        """Take an idle node that is referenced again."""
        del (self.retained if node.retained else self.cached)[node]

    def retain(self, node: Node) -> None:
        """Count a node as retained, if it is idle: the most recently used of them."""
        if node.retained:
            if node in self.retained:
                self.retained.move_to_end(node)
        elif node in self.cached:
            del self.cached[node]
            self.retained[node] = None

    def let_go(self, node: Node) -> None:
        """Undo ``retain``: nobody retains the node any more."""
        if node in self.retained:
            del self.retained[node]
            self.cached[node] = None

    def pop_idle(self) -> Node:
        """Take the idle node that goes first."""
        if not self.cached and self.make_way is not None:
            self.make_way()
        return (self.cached or self.retained).popitem(last=False)[0]
