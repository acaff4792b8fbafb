"""One call between its engine and its consumer: tokens in, chunks and the end out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from autellix.backends.protocol import Chunk
from autellix.backends.stream import FinishReason
from autellix.backends.text import TextAssembler

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall, Tokenizer, TokenLogprob
    from autellix.backends.stream import CallStream
    from autellix.core.records import CallReport
    from autellix.errors import PolicyFault


@attrs.frozen(kw_only=True)
class TokenSample:
    """A token that the model chose, with its log-probability where asked for."""

    token: int
    logprob: TokenLogprob | None = None


@attrs.define(eq=False)
class LiveCall:
    """What a step loop keeps of a call until it has ended.

    The end-of-text token ends a call and is neither in its text nor in its token ids
    (the scheduler counts it as produced). The tokens of a stop string are in the ids,
    because streaming has handed some of them over before they could be known as such.

    Attributes:
        call: As it was submitted.
        stream: Where its consumer waits.
        ended: To be called with the report.
        is_plain: Whether nobody looks at its text before it has ended.
        is_left: The consumer is gone; nothing is to be handed over any more.
        fault: Why it is being ended, where that is for the policy's fault.
    """

    call: EngineCall
    stream: CallStream
    ended: Callable[[CallReport], None]
    _tokenizer: Tokenizer
    is_plain: bool = attrs.field(init=False)
    is_left: bool = attrs.field(default=False, init=False)
    fault: PolicyFault | None = attrs.field(default=None, init=False)
    _assembler: TextAssembler | None = attrs.field(init=False)
    _ids: list[int] = attrs.field(factory=list, init=False)
    _logprobs: list[TokenLogprob] = attrs.field(factory=list, init=False)
    _text: str = attrs.field(default="", init=False)
    _reason: FinishReason = attrs.field(default=FinishReason.LENGTH, init=False)

    def __attrs_post_init__(self) -> None:
        stop = self.call.sampling.stop
        needs_text = self.call.is_streamed or stop
        self._assembler = TextAssembler(self._tokenizer, stop) if needs_text else None
        self.is_plain = self._assembler is None  # asked in every step

    def take(self, sample: TokenSample) -> bool:
        """Take the next token in; return whether it ends the call."""
        if self.is_left:
            return False
        ends_text = sample.token in self._tokenizer.end_ids
        if ends_text and not self.call.sampling.ignore_end:
            self._reason = FinishReason.STOP
            return True
        self._ids.append(sample.token)
        if sample.logprob is not None:
            self._logprobs.append(sample.logprob)
        if self._assembler is None:
            return False
        self._text += self._assembler.feed(sample.token)
        if self._assembler.is_stopped:
            self._reason = FinishReason.STOP
        return self._assembler.is_stopped

    def take_plain(self, tokens: Sequence[int]) -> None:
        """Take tokens in of which none ends the call, and whose text can wait."""
        if not self.is_left:
            self._ids.extend(tokens)

    def push(self) -> None:
        """Hand over what came since the last time, if the consumer looks at it."""
        if self.call.is_streamed and not self.is_left:
            self._push()

    def finish(self) -> None:
        """Hand over all that is left, and say that the call ended well."""
        if self.is_left:
            return
        if self._assembler is None:
            self._text = self._tokenizer.decode(self._ids)
        else:
            self._text += self._assembler.flush()
        self._push()
        self.stream.finish(self._reason)

    def fail(self, error: Exception) -> None:
        """Say that the call ended otherwise; what came before stays readable."""
        if not self.is_left:
            self.stream.fail(error)

    def _push(self) -> None:
        if self._ids or self._text:
            self.stream.push(
                Chunk(token_ids=self._ids, text=self._text, logprobs=self._logprobs)
            )
            self._ids, self._text, self._logprobs = [], "", []
