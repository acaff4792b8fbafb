"""What is measured: steps of known shape, from one call to a full batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from autellix.errors import ConfigError

if TYPE_CHECKING:
    from autellix.backends.protocol import Capabilities

DECODE_STEPS: Final = 6
"""Steps that a batch is watched for, each time."""
SPARE_TOKENS: Final = 64
"""Room for what the calls of a batch produce while they are watched."""
_LEAST_TOKENS: Final = 32


class Kind(StrEnum):
    """Kinds of steps."""

    DECODE = "decode"
    """A batch, a token each."""
    PREFILL = "prefill"
    """A prompt alone, in as many chunks as the engine makes of it."""
    MIXED = "mixed"
    """A prompt that comes in while a batch decodes."""


@attrs.frozen(kw_only=True)
class Shape:
    """One point of the grid.

    Attributes:
        kind: Of its steps.
        batch: Calls that decode.
        context_tokens: Prompt of each of them.
        prompt_tokens: To be prefilled.
        is_held_out: Whether it is only predicted, not fitted to.
    """

    kind: Kind
    batch: int = 0
    context_tokens: int = 0
    prompt_tokens: int = 0
    is_held_out: bool = False

    @property
    def weight(self) -> float:
        """How long it takes next to others, roughly: steps of a small batch."""
        steps = 0 if self.kind is Kind.PREFILL else DECODE_STEPS + 1
        return steps * (1 + self.batch / 16) + 1 + self.prompt_tokens / 32


def grid(capabilities: Capabilities, longest_tokens: int) -> Sequence[Shape]:
    """Return the shapes to measure an engine with; a fifth or so is held out.

    Batches up to all slots, contexts and prompts up to ``longest_tokens``, or to what
    the engine takes.

    Raises:
        ConfigError: It takes too little to tell anything.
    """
    most = min(longest_tokens, capabilities.max_call_tokens - SPARE_TOKENS)
    if most < _LEAST_TOKENS:
        raise ConfigError(
            f"an engine with calls of {capabilities.max_call_tokens} tokens, measured "
            f"up to {longest_tokens}, cannot be measured: contexts would be of {most} "
            f"tokens, and {_LEAST_TOKENS} are the least that tells anything"
        )
    slots = capabilities.max_batch_calls
    return [
        *_decodes(slots, most),
        *_prefills(most),
        *(_mixed(slots, most) if slots > 1 else ()),
    ]


def _decodes(slots: int, most: int) -> Iterator[Shape]:
    batches = sorted({1, max(1, slots // 4), max(1, slots // 2), slots})
    for batch in batches:
        for context in (most // 32, most // 4, most):
            yield Shape(kind=Kind.DECODE, batch=batch, context_tokens=context)
    held_out = (
        (max(1, 3 * slots // 4), most // 2),
        (max(1, slots // 2), most // 8),
        (slots, 3 * most // 4),
    )
    for batch, context in dict.fromkeys(held_out):
        yield Shape(
            kind=Kind.DECODE, batch=batch, context_tokens=context, is_held_out=True
        )


def _prefills(most: int) -> Iterator[Shape]:
    for prompt in (most // 32, most // 8, most // 4, most // 2, most):
        yield Shape(kind=Kind.PREFILL, prompt_tokens=prompt)
    for prompt in (3 * most // 16, 3 * most // 4):
        yield Shape(kind=Kind.PREFILL, prompt_tokens=prompt, is_held_out=True)


def _mixed(slots: int, most: int) -> Iterator[Shape]:
    rest = slots - 1  # one slot is for the prompt that comes in
    for batch, context, prompt, is_held_out in (
        (rest, most // 4, most // 8, False),
        (rest, most // 32, most // 4, False),
        (max(1, slots // 2), most // 2, 3 * most // 16, True),
    ):
        yield Shape(
            kind=Kind.MIXED,
            batch=batch,
            context_tokens=context,
            prompt_tokens=prompt,
            is_held_out=is_held_out,
        )
