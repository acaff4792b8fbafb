"""Token ids of a program's own replies, put back where their text comes again (K2).

Sampled text does not always re-tokenise to itself. If turn n+1 were encoded anew, its
ids could differ from those of turn n inside the reply, and from there on nothing of it
would be found in the prefix cache. So a program keeps text and ids of what it asked and
got, and a new prompt that begins with such text begins with exactly those ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

if TYPE_CHECKING:
    from autellix.backends.protocol import Tokenizer

_MAX_BRANCHES: Final = 16
_MAX_STOP_TOKENS: Final = 32  # ids that may lie behind the cut of a stop string


class _Cut(NamedTuple):
    """A place where text and ids of a branch are known to agree: the end of a reply."""

    chars: int
    tokens: int


@attrs.define
class _Branch:
    """A chain of calls: its text, its ids, and where replies end, in order."""

    text: str
    ids: array[int]
    cuts: list[_Cut]

    def cuts_in(self, text: str) -> list[_Cut]:
        """Return the cuts up to which ``text`` is this branch's own."""
        for count in range(len(self.cuts), 0, -1):
            if text.startswith(self.text[: self.cuts[count - 1].chars]):
                return self.cuts[:count]
        return []


class TokenSplice:
    """What one program knows of one model's tokens.

    Bounded: a chain of calls is one branch, of many branches the latest used are kept.
    """

    __slots__ = ("_branches",)

    def __init__(self) -> None:
        self._branches: list[_Branch] = []

    def encode(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Return ids of ``text`` that begin with the longest known ones."""
        best, cut = None, _Cut(0, 0)
        for branch in self._branches:
            cuts = branch.cuts_in(text)
            if cuts and cuts[-1].chars >= cut.chars:
                best, cut = branch, cuts[-1]
        if best is None:
            return tokenizer.encode(text)
        self._branches.remove(best)
        self._branches.append(best)
        rest = text[cut.chars :]
        return [*best.ids[: cut.tokens], *(tokenizer.encode(rest) if rest else ())]

    def remember(
        self, prompt: str, prompt_ids: Sequence[int], reply: str, ids: Sequence[int]
    ) -> None:
        """Note that ``prompt`` was sent as its ids, and answered as ``ids``."""
        text = prompt + reply
        known = array("I", (*prompt_ids, *ids))
        shared: list[_Cut] = []
        kept: list[_Branch] = []
        for branch in self._branches:
            cuts = branch.cuts_in(text)
            while cuts and branch.ids[: cuts[-1].tokens] != known[: cuts[-1].tokens]:
                cuts = cuts[:-1]
            if len(cuts) < len(branch.cuts):
                kept.append(branch)
            if len(cuts) > len(shared):
                shared = cuts
        end = _Cut(len(text), len(known))
        cuts = shared if shared and shared[-1] == end else [*shared, end]
        kept.append(_Branch(text, known, cuts))
        self._branches = kept[-_MAX_BRANCHES:]


def certain_part(
    reply: str, ids: Sequence[int], tokenizer: Tokenizer
) -> tuple[str, Sequence[int]]:
    """Return the beginning of a reply cut by a stop string, with exactly its ids.

    The ids of such a reply go on past its text; empty where no beginning is found.
    """
    for tokens in range(len(ids), max(0, len(ids) - _MAX_STOP_TOKENS), -1):
        part = tokenizer.decode(ids[:tokens])
        if reply.startswith(part):
            return part, ids[:tokens]
    return "", ()
