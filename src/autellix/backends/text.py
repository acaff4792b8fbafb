"""Tokens become text as they come: whole characters, never part of a stop string.

A token may end inside a character, and a stop string may begin in one token and end in
another. What is not certain yet is held back, so that what was handed out never has to
be taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from autellix.backends.protocol import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_WINDOW_TOKENS = 8  # two characters of the most bytes: enough to find a border in


@attrs.define(eq=False)
class TextAssembler:
    """Assembles the text of one call, token by token.

    The deltas together are the text of all tokens, cut before the first stop string.
    *First* is the one that is complete first, the longest of several; so the cut does
    not depend on how the text falls into tokens. A token costs the decoding of a few
    tokens, however long the text is.

    Args:
        tokenizer: Its ``decode`` must be stable: more tokens only add text, but for a
            last character that was incomplete.
        stop: Strings that end the text.

    Attributes:
        is_stopped: Whether a stop string was found; nothing is handed out any more.
    """

    _tokenizer: Tokenizer
    _stop: Sequence[str] = ()
    is_stopped: bool = attrs.field(default=False, init=False)
    # Tokens that are decoded together with new ones because some tokenizers treat the
    # first token of a text differently; then those whose text is not certain yet.
    _context: list[int] = attrs.field(factory=list, init=False)
    _context_chars: int = attrs.field(default=0, init=False)
    _uncertain: list[int] = attrs.field(factory=list, init=False)
    _held: str = attrs.field(default="", init=False)
    """Text that may be the beginning of a stop string."""

    def feed(self, token: int) -> str:
        """Take the next token in; return the text that became certain, if any."""
        if self.is_stopped:
            return ""
        self._uncertain.append(token)
        text = self._decode(self._context + self._uncertain)
        if not text.endswith(_BROKEN):
            return self._release(self._advance(text, len(self._uncertain)))
        if len(self._uncertain) < _WINDOW_TOKENS:
            return ""
        return self._release(self._cut_broken(text))

    def flush(self) -> str:
        """Say that no token follows; return the text that was held back."""
        if self.is_stopped:
            return ""
        text = self._decode(self._context + self._uncertain)
        released = self._release(self._advance(text, len(self._uncertain)))
        held, self._held = self._held, ""
        return released + held

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def _advance(self, text: str, tokens: int) -> str:
        """Make the first ``tokens`` uncertain ones, which end at ``text``, context."""
        fresh = text[self._context_chars :]
        taken, self._uncertain = self._uncertain[:tokens], self._uncertain[tokens:]
        if not fresh:
            return fresh  # special tokens say nothing about what follows them
        if len(self._context) < _WINDOW_TOKENS:
            self._context += taken
            self._context_chars = len(text)
        else:
            self._context = taken
            self._context_chars = len(self._decode(taken))
        return fresh

    def _cut_broken(self, text: str) -> str:
        """Find a border of characters in bytes that go on making none.

        Cutting inside a character makes two broken ones of what decodes to one.
        """
        for tokens in range(len(self._uncertain) - 1, 0, -1):
            head = self._decode(self._context + self._uncertain[:tokens])
            if head + self._decode(self._uncertain[tokens:]) == text:
                return self._advance(head, tokens)
        return ""

    def _release(self, fresh: str) -> str:
        """Return what of held and fresh text cannot belong to a stop string."""
        if not self._stop:
            return fresh
        text = self._held + fresh
        found = [
            (at + len(string), at)
            for string in self._stop
            if (at := text.find(string)) >= 0
        ]
        if found:
            self.is_stopped = True
            self._held = ""
            return text[: min(found)[1]]
        border = len(text) - self._possible_stop_chars(text)
        self._held = text[border:]
        return text[:border]

    def _possible_stop_chars(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that may become a stop."""
        longest = max(map(len, self._stop)) - 1
        for chars in range(min(longest, len(text)), 0, -1):
            end = text[-chars:]
            if any(string.startswith(end) for string in self._stop):
                return chars
        return 0
