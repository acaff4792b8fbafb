"""What the runtime keeps of a program beside its row, and of a call until its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.backends.stream import FinishReason
from autellix.errors import InvariantError
from autellix.runtime.splice import TokenSplice, certain_part

if TYPE_CHECKING:
    from autellix.backends.protocol import Tokenizer
    from autellix.backends.stream import CallStream
    from autellix.core.records import CallReport, CallSpec
    from autellix.runtime.engine_handle import EngineHandle
    from autellix.runtime.request import Request
    from autellix.runtime.result import CallResult


@attrs.define(eq=False)
class Session:
    """An open program, or a closed one with live calls.

    Attributes:
        program_id: Of its row in the process table.
        name: Its class.
        calls: Its live calls by id, in order of submission.
        is_closed: Whether its block has ended.
    """

    program_id: int
    name: str
    calls: dict[int, OpenCall] = attrs.field(factory=dict, init=False)
    is_closed: bool = attrs.field(default=False, init=False)
    _splices: dict[str, TokenSplice] = attrs.field(factory=dict, init=False)

    def read(
        self, request: Request, model: str, tokenizer: Tokenizer
    ) -> tuple[Sequence[int], str | None]:
        """Return a prompt's token ids, and its text where it came as text."""
        prompt = request.prompt
        if isinstance(prompt, str):
            text = prompt
        elif isinstance(prompt[0], int):
            return prompt, None
        else:
            text = tokenizer.render(prompt)
        splice = self._splices.get(model)
        ids = splice.encode(text, tokenizer) if splice else tokenizer.encode(text)
        return ids, text

    def remember(
        self, call: OpenCall, result: CallResult, tokenizer: Tokenizer
    ) -> None:
        """Keep the token ids of a result, for the prompts it will be part of (K2)."""
        if call.text is None:
            return
        reply, ids = result.text, result.token_ids
        if call.request.sampling.stop and result.finish_reason is FinishReason.STOP:
            reply, ids = certain_part(reply, ids, tokenizer)
        splice = self._splices.setdefault(call.model, TokenSplice())
        splice.remember(call.text, call.prompt, reply, ids)


@attrs.define(eq=False, kw_only=True)
class OpenCall:
    """A call from its submission until its consumer has its result.

    Attributes:
        session: Of its program.
        request: What was asked for.
        model: Which model answers.
        prompt: Token ids.
        text: Text of the prompt, where it came as text.
        spec: What was submitted last; a retry has a spec, and an id, of its own.
        submitted_ns: When that was.
        engine: Where it was sent; None while it waits in the runtime.
        stream: What comes from there.
        intake_ns: How long it waited in the runtime.
        has_delivered: Whether any token has come.
        output: Token ids that its consumer has taken.
        is_retry: Whether it was sent again after its engine was lost.
        report: What it used, once it has ended.
        path_ns: Its path, once it has ended well.
        error: Why it ended without an engine.
    """

    session: Session
    request: Request
    model: str
    prompt: Sequence[int]
    text: str | None
    spec: CallSpec | None = None
    submitted_ns: int = 0
    engine: EngineHandle | None = None
    stream: CallStream | None = None
    intake_ns: int = 0
    has_delivered: bool = False
    output: list[int] = attrs.field(factory=list)
    is_retry: bool = False
    report: CallReport | None = None
    path_ns: int = 0
    error: Exception | None = None
    _news: anyio.Event | None = attrs.field(default=None, init=False)

    @property
    def the_spec(self) -> CallSpec:
        """What was submitted last.

        Raises:
            InvariantError: Nothing was.
        """
        if self.spec is None:
            raise InvariantError("a call was used before it was submitted")
        return self.spec

    @property
    def call_id(self) -> int:
        """Id it was submitted with last."""
        return self.the_spec.call_id

    @property
    def tokens(self) -> int:
        """Most tokens of prompt and output."""
        return len(self.prompt) + self.request.max_tokens

    def wake(self) -> None:
        """Tell the consumer that there is something new about the call."""
        if self._news is not None:
            self._news.set()
            self._news = None

    async def news(self) -> None:
        """Wait until ``wake`` is called."""
        self._news = anyio.Event()
        await self._news.wait()
