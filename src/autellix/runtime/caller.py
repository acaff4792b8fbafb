"""The three ways to make a call, the same of a program and of a runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from autellix.runtime.request import (
    CallOptions,
    Message,
    Prompt,
    Request,
    checked_messages,
    checked_prompt,
    checked_text_or_ids,
)

if TYPE_CHECKING:
    from autellix.runtime.chunks import Chunks
    from autellix.runtime.result import CallResult


class Caller(ABC):
    """Something that calls can be made from. For the options see ``CallOptions``."""

    __slots__ = ()

    async def generate(
        self, prompt: str | Sequence[int], **options: Unpack[CallOptions]
    ) -> CallResult:
        """Return the continuation of a text, or of token ids.

        Cancelling this cancels the call. ``CallRejected`` if it can never fit,
        ``UnknownToken`` if an id is past the model's vocabulary, ``CallFailed`` with
        the cause if its engine failed.

        Args:
            prompt: Text as the model reads it, special tokens and all; or token ids.
            **options: How the call is to be made.
        """
        checked = checked_text_or_ids(prompt)
        return await self._ask(Request.of(checked, is_streamed=False, **options))

    async def chat(
        self, messages: Sequence[Message], **options: Unpack[CallOptions]
    ) -> CallResult:
        """Return the reply to a conversation, by the model's own template.

        Where a message is a reply this program got before, its token ids are used as
        they were, so that the engine finds it in its cache (rule K2). Otherwise as
        ``generate``.

        Args:
            messages: Each with ``role`` and ``content``.
            **options: How the call is to be made.
        """
        checked = checked_messages(messages)
        return await self._ask(Request.of(checked, is_streamed=False, **options))

    def stream(self, prompt: Prompt, **options: Unpack[CallOptions]) -> Chunks:
        """Make a call whose tokens are looked at as they come.

        ``async with program.stream(…) as chunks: async for chunk in chunks: …``; then
        ``chunks.result``. Leaving the block early cancels the call.

        Args:
            prompt: Text, token ids, or messages.
            **options: How the call is to be made.
        """
        checked = checked_prompt(prompt)
        return self.call(Request.of(checked, is_streamed=True, **options))

    async def _ask(self, request: Request) -> CallResult:
        async with self.call(request) as chunks:
            async for _ in chunks:
                pass
        return chunks.result

    @abstractmethod
    def call(self, request: Request) -> Chunks:
        """Return a call that is made when it is entered."""
