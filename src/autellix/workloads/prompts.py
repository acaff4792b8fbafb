"""Token ids for the calls of a trace, which knows only lengths and what is shared.

What is shared is shared for real: programs of one prefix group begin with the same ids,
and a prompt that begins with an earlier call's prompt and output is made of that prompt
and of the output that the engine gave. So a prefix cache hits where it would have hit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.runtime.request import TokenIds, plain_ids

if TYPE_CHECKING:
    from autellix.workloads.trace import TraceCall, TraceProgram

VOCABULARY: Final = range(1_000, 32_000)
"""Inside the vocabulary of the models we know of, and away from special tokens."""


@attrs.define(eq=False)
class Words:
    """Draws token ids; the same for the same seed, whoever asks first.

    Attributes:
        seed: Two seeds have no prompt in common.
        vocabulary: Ids to draw from.
    """

    seed: int = 0
    vocabulary: range = VOCABULARY
    # A tuple, not the range, which would make a new int of each token: equal ids that
    # are one object take no memory, and are quicker to compare.
    _ids: tuple[int, ...] = attrs.field(init=False)
    _groups: dict[str, list[int]] = attrs.field(factory=dict, init=False)
    _group_chances: dict[str, random.Random] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """Lay the ids out."""
        self._ids = plain_ids(self.vocabulary)

    def of_group(self, name: str, tokens: int) -> list[int]:
        """Return what the prompts of a prefix group begin with."""
        words = self._groups.setdefault(name, [])
        if name not in self._group_chances:
            self._group_chances[name] = random.Random(f"{self.seed}/group/{name}")
        missing = max(0, tokens - len(words))
        words += self._group_chances[name].choices(self._ids, k=missing)
        return words[:tokens]

    def of_call(self, program_id: str, call_id: int, tokens: int) -> list[int]:
        """Return what is new in the prompt of a call."""
        chance = random.Random(f"{self.seed}/call/{call_id}/{program_id}")
        return chance.choices(self._ids, k=tokens)


@attrs.define(eq=False)
class Prompts:
    """The prompts of one program, as its outputs become known.

    Where a call belongs to a prefix group and shares with an earlier call as well, the
    longer of the two counts.
    """

    program: TraceProgram
    words: Words
    _outputs: dict[int, tuple[int, ...]] = attrs.field(factory=dict, init=False)
    _new: dict[int, tuple[int, ...]] = attrs.field(factory=dict, init=False)

    def learn(self, call_id: int, output: Sequence[int]) -> None:
        """Take note of what the engine answered."""
        self._outputs[call_id] = plain_ids(output)

    def prompt(self, call_id: int) -> TokenIds:
        """Return the prompt of a call whose parents have ended."""
        pieces: list[tuple[int, ...]] = []
        tokens = self.program.calls[call_id].prompt_tokens
        while tokens:  # from the back: each turn finds one more call before
            call = self.program.calls[call_id]
            if tokens > call.prompt_tokens:
                pieces.append(self._outputs[call_id][: tokens - call.prompt_tokens])
                tokens = call.prompt_tokens
            shared = self._shared_tokens(call)
            if tokens > shared:
                pieces.append(self._new_of(call_id)[: tokens - shared])
                tokens = shared
            if call.prefix_call is not None:
                call_id = call.prefix_call
        joined: list[int] = []
        for piece in reversed(pieces):
            joined += piece
        return TokenIds(joined)

    def _shared_tokens(self, call: TraceCall) -> int:
        group = self.program.group_of(call)
        if group is not None and group[1] > call.shared_tokens:
            return 0
        return call.shared_tokens

    def _new_of(self, call_id: int) -> tuple[int, ...]:
        """Return a prompt after what it shares with an earlier call."""
        if call_id not in self._new:
            call, name = self.program.calls[call_id], self.program.program_id
            group = self.program.group_of(call)
            own = call.new_prompt_tokens
            start: list[int] = []
            if group is not None and group[1] > call.shared_tokens:
                own = call.prompt_tokens - group[1]
                start = self.words.of_group(*group)
            new = start + self.words.of_call(name, call_id, own)
            self._new[call_id] = tuple(new)
        return self._new[call_id]
