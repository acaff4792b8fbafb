"""What the token ids of a program's calls have in common at their start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

_CHUNK: Final = 32


class Start(NamedTuple):
    """The start of (prompt + output) of a call.

    Attributes:
        call: Whose.
        tokens: How many of them.
    """

    call: int
    tokens: int


@attrs.define(eq=False)
class _Node:
    """A place in the tree; the path to it is tokens that calls begin with."""

    call: int
    nexts: dict[tuple[int, ...], _Node] = attrs.field(factory=dict)


@attrs.define(eq=False)
class SharedTokens:
    """A tree of all that the calls of a program began with, in chunks of tokens.

    Chunks that are shared are kept once, so that a conversation takes as much room as
    its last prompt.
    """

    _root: _Node = attrs.field(factory=lambda: _Node(-1), init=False)
    _ends: dict[int, tuple[_Node, Sequence[int]]] = attrs.field(
        factory=dict, init=False
    )
    """Where the full chunks of a prompt end, and what comes after them."""

    def add(self, call: int, prompt: Sequence[int]) -> Start | None:
        """Take a prompt in.

        Returns:
            The longest start it shares with what is known, of the latest call that has
            it.
        """
        node, place, found = self._root, 0, None
        while place < len(prompt):
            chunk = tuple(prompt[place : place + _CHUNK])
            following = node.nexts.get(chunk)
            if following is None:
                found = _longest(node, chunk, place) or found
                break
            found = Start(following.call, place + len(chunk))
            if len(chunk) < _CHUNK:
                break
            following.call, node = call, following
            place += _CHUNK
        self._ends[call] = self._lay(call, node, prompt[place:])
        return found

    def extend(self, call: int, output: Sequence[int]) -> None:
        """Take in how a call went on after its prompt."""
        node, rest = self._ends.pop(call)
        self._lay(call, node, (*rest, *output))

    def _lay(
        self, call: int, node: _Node, tokens: Sequence[int]
    ) -> tuple[_Node, Sequence[int]]:
        """Add tokens after a node; return the node of the last full chunk, and rest."""
        for place in range(0, len(tokens), _CHUNK):
            chunk = tuple(tokens[place : place + _CHUNK])
            following = node.nexts.setdefault(chunk, _Node(call))
            following.call = call
            if len(chunk) < _CHUNK:
                return node, chunk
            node = following
        return node, ()


def alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences of one type have in common at the start."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # slices are compared much faster than tokens one by one
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _longest(node: _Node, chunk: tuple[int, ...], place: int) -> Start | None:
    """Return what is shared with one of a node's chunks in part."""
    starts = [
        Start(following.call, place + alike(chunk, other))
        for other, following in node.nexts.items()
    ]
    best = max(starts, key=lambda start: (start.tokens, start.call), default=None)
    return best if best is not None and best.tokens > place else None
