"""The consumer's side of a call: its chunks as they come, its result at the end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import attrs

from autellix.errors import CallFailed, EngineLost, InvariantError
from autellix.runtime.result import CallResult, result_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from autellix.backends.protocol import Chunk, TokenLogprob
    from autellix.backends.stream import CallStream
    from autellix.runtime.dispatch import Dispatch
    from autellix.runtime.request import Request
    from autellix.runtime.session import OpenCall, Session


@attrs.define(eq=False)
class Chunks:
    """Chunks of one call, in order; entering makes the call, leaving cancels it.

    A call cancelled is given up at once; what it used is booked when the step it is in
    has ended. Made by ``Program.stream``; entered once.
    """

    _dispatch: Dispatch
    _request: Request
    _session: Callable[[], Session]
    _owns_session: bool = False
    _call: OpenCall | None = attrs.field(default=None, init=False)
    _result: CallResult | None = attrs.field(default=None, init=False)
    _texts: list[str] = attrs.field(factory=list, init=False)
    _logprobs: list[TokenLogprob] = attrs.field(factory=list, init=False)

    @property
    def result(self) -> CallResult:
        """The result, once all chunks have come.

        Raises:
            RuntimeError: They have not.
        """
        if self._result is None:
            raise RuntimeError("the call has not ended: take its chunks first")
        return self._result

    async def __aenter__(self) -> Self:
        """Make the call.

        Raises:
            RuntimeError: It has been made already.
        """
        if self._call is not None:
            raise RuntimeError("a stream is one call: ask for another one")
        session = self._session()
        try:
            self._call = self._dispatch.submit(session, self._request)
        finally:
            if self._call is None and self._owns_session:
                self._dispatch.close_program(session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel the call if it has not ended; waits for nothing."""
        call = self._entered()
        if call.stream is not None:
            await call.stream.__aexit__(kind, error, traceback)
        else:
            self._dispatch.withdraw(call)
        if self._owns_session:
            self._dispatch.close_program(call.session)

    def __aiter__(self) -> Self:
        """Iterate over chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """Return the next chunk.

        ``ProgramClosed`` or ``RuntimeClosed`` if that block has ended meanwhile.

        Raises:
            StopAsyncIteration: All have come.
            CallFailed: The engine failed; its own error is the cause.
            EngineLost: No engine is left for a call that waited for one.
        """
        if self._result is not None:
            raise StopAsyncIteration
        call = self._entered()
        while True:
            stream = await self._stream_of(call)
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                await self._finish(call, stream)
                raise
            except (CallFailed, EngineLost) as error:
                if self._dispatch.retry(call, error):
                    continue
                if isinstance(error, CallFailed):
                    raise
                raise CallFailed(str(error), engine=error.engine) from error
            call.has_delivered = True
            call.output.extend(chunk.token_ids)
            self._texts.append(chunk.text)
            self._logprobs.extend(chunk.logprobs)
            return chunk

    async def _stream_of(self, call: OpenCall) -> CallStream:
        """Wait until the call has an engine."""
        while call.stream is None:
            if call.error is not None:
                raise call.error
            await call.news()
        return call.stream

    async def _finish(self, call: OpenCall, stream: CallStream) -> None:
        """Wait for the report, and put the result together.

        ``PolicyFault`` where the call could not be booked for that.

        Raises:
            InvariantError: The engine did not say why the call ended.
        """
        while call.report is None:
            await call.news()
        if call.error is not None:
            raise call.error
        if stream.finish_reason is None or call.engine is None:
            raise InvariantError("a call ended well without a reason or an engine")
        self._result = CallResult(
            text="".join(self._texts),
            token_ids=tuple(call.output),
            finish_reason=stream.finish_reason,
            logprobs=tuple(self._logprobs),
            report=result_report(
                call.report,
                engine=call.engine.name,
                submitted_ns=call.submitted_ns,
                intake_ns=call.intake_ns,
            ),
            path_ns=call.path_ns,
            call_id=call.call_id,
        )
        tokenizer = self._dispatch.fleet.tokenizer(call.model)
        call.session.remember(call, self._result, tokenizer)

    def _entered(self) -> OpenCall:
        if self._call is None:
            raise RuntimeError("enter the stream first: async with ….stream(…)")
        return self._call
