"""What a simulated model says: letters that depend on the call alone."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import attrs

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall

_LETTERS = b"etaoinshrdlu     "
_PERIOD = 4096
_TAIL_TOKENS = 16


@attrs.define(eq=False)
class Babble:
    """Deterministic output: a place in one long random text.

    The place depends on the seed, the end of the prompt and, where the temperature is
    not 0, on the call's own seed; the token on how many the call produced before. So
    the output is the same whether the call was preempted or not, and greedy calls of
    one prompt say the same.
    """

    seed: int = 0
    _text: Sequence[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        chance = random.Random(self.seed)
        self._text = chance.choices(_LETTERS, k=_PERIOD)

    def tokens(self, call: EngineCall, start: int, count: int) -> list[int]:
        """Return ``count`` tokens of ``call`` after the first ``start``."""
        tail = array("q", call.spec.prompt[-_TAIL_TOKENS:])
        sampling = call.sampling
        own_seed = (sampling.seed or 0) if sampling.temperature else 0
        at = (crc32(tail, own_seed & 0xFFFF_FFFF) + start) % _PERIOD
        tokens = list(self._text[at : at + count])
        while len(tokens) < count:
            tokens += self._text[: count - len(tokens)]
        return tokens
