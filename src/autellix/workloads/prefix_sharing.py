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

    Chunks that are shared are kept once, so that a conversation costs as much as its
    last prompt, and a look-up costs the prompt that is looked up.
    """

    _root: _Node = attrs.field(factory=lambda: _Node(-1), init=False)

    def add(self, call: int, tokens: Sequence[int]) -> None:
        """Take in that (prompt + output) of a call begins like this."""
        node = self._root
        for place in range(0, len(tokens), _CHUNK):
            chunk = tuple(tokens[place : place + _CHUNK])
            following = node.nexts.get(chunk)
            if following is None:
                following = node.nexts[chunk] = _Node(call)
            following.call = call
            node = following

    def find(self, tokens: Sequence[int]) -> Start | None:
        """Return the longest start there is, of the latest call that has it."""
        node, found, place = self._root, None, 0
        while place < len(tokens):
            chunk = tuple(tokens[place : place + _CHUNK])
            following = node.nexts.get(chunk)
            if following is None:
                return _longest(node, chunk, place) or found
            place += len(chunk)
            node, found = following, Start(following.call, place)
        return found


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
