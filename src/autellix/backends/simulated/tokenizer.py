"""A tokenizer without a vocabulary file, so that chat works on the simulated engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_SPECIAL: Final = {"<|im_start|>": 256, "<|im_end|>": 257}
_END_IDS: Final = frozenset({_SPECIAL["<|im_end|>"]})
_PIECES: Final = re.compile(f"({'|'.join(map(re.escape, _SPECIAL))})")
_FIRST_PRINTABLE: Final = 32
_PRINTABLE: Final = 95
_VOCABULARY: Final = 256 + len(_SPECIAL)


class ByteTokenizer:
    """One token a byte of UTF-8, and two special ones that frame chat messages.

    Ids past the vocabulary, as made-up prompts have them, decode to some printable
    character each, so that whatever is shown can be read.
    """

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        return _END_IDS

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``; special tokens in it are recognised."""
        ids: list[int] = []
        for piece in _PIECES.split(text):
            if piece in _SPECIAL:
                ids.append(_SPECIAL[piece])
            else:
                ids.extend(piece.encode())
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens; broken ones as U+FFFD."""
        try:
            # Most are: what the simulated engine itself says. Of an array, bytes would
            # take the memory and not the numbers.
            told = bytes(list(ids))
        except ValueError:
            told = bytes(_byte(i) for i in ids if not 256 <= i < _VOCABULARY)
        return told.decode(errors="replace")

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return ``messages`` as one text that asks for the assistant's reply."""
        told = "".join(
            f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
            for message in messages
        )
        return f"{told}<|im_start|>assistant\n"


def _byte(token: int) -> int:
    if token < 256:
        return token
    return _FIRST_PRINTABLE + token % _PRINTABLE
