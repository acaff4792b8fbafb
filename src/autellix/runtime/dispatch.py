"""The way of a call: placed, sent, sent again where need be, taken back.

Everything here is synchronous: between a change of the books and what follows from it
nothing else runs, so there are no locks. A call costs no task; it lives in its
consumer's, and what its engine says comes back through ``_ended``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from autellix.backends.protocol import EngineCall
from autellix.balancers import Placing
from autellix.core.records import Outcome
from autellix.errors import (
    CallFailed,
    CallRejected,
    EngineLost,
    ProgramClosed,
    RuntimeClosed,
    UnknownToken,
)
from autellix.runtime.session import OpenCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autellix.balancers import Balancer, Choice
    from autellix.core.records import CallReport
    from autellix.runtime.calibration import Calibration
    from autellix.runtime.engine_handle import EngineHandle
    from autellix.runtime.fleet import Fleet
    from autellix.runtime.late_binding import LateBinding
    from autellix.runtime.ledger import Ledger
    from autellix.runtime.request import Request
    from autellix.runtime.session import Session
    from autellix.runtime.telling import Telling

_NOT_ENTERED = "enter the runtime first: async with AutellixRuntime(…) as runtime"
_LEFT = "the runtime has been left"


class Dispatch:
    """Programs and calls of a runtime, from their beginning to their end.

    Attributes:
        fleet: The engines.
    """

    def __init__(
        self, fleet: Fleet, ledger: Ledger, balancer: Balancer, telling: Telling
    ) -> None:
        self.fleet = fleet
        self._ledger = ledger
        self._balancer = balancer
        self._telling = telling
        self._calibration: Calibration | None = None
        self._late: LateBinding | None = None
        self._closed: str | None = _NOT_ENTERED
        self._choices = 0

    # -- the runtime and its engines ---------------------------------------------

    def begin(self, calibration: Calibration, late: LateBinding | None) -> None:
        """Take programs and calls from now on; all engines are up.

        Args:
            calibration: Fits the ranking.
            late: The queue in front of engines with an intake limit, if there are any.
        """
        self._calibration = calibration
        self._late = late
        self._closed = None

    def close(self) -> tuple[int, int]:
        """Take nothing more, cancel what lives; return how many programs and calls."""
        self._closed = _LEFT
        programs = calls = 0
        for session in self._ledger:
            programs += not session.is_closed
            calls += len(session.calls)
            self._cancel_calls(session, partial(RuntimeClosed, _LEFT))
        return programs, calls

    def check_open(self) -> None:
        """Refuse to work outside of the runtime's block.

        Raises:
            RuntimeClosed: It has not begun, or it has ended.
        """
        if self._closed is not None:
            raise RuntimeClosed(self._closed)

    def lost(self, handle: EngineHandle, error: EngineLost) -> None:
        """Take note that an engine is lost (rules B3, B5)."""
        if not handle.is_up:
            return
        handle.is_up = False
        handle.loss = error
        self._telling.engine_lost(handle.name, error)
        self._ledger.unbind_all(handle.name)
        if self._late is not None:
            for call in self._late.drop(handle):
                self._place_again(call)

    # -- programs ----------------------------------------------------------------

    def open_program(self, name: str, size_ns: int | None = None) -> Session:
        """Give a program its row (rule A8)."""
        self.check_open()
        return self._ledger.open(name, size_ns)

    def close_program(self, session: Session) -> None:
        """End a program and cancel its calls (rule A8)."""
        session.is_closed = True
        self._cancel_calls(session, partial(ProgramClosed, session.name))
        self._ledger.close(session)
        self.fleet.forget(session.program_id)

    def _cancel_calls(self, session: Session, why: Callable[[], Exception]) -> None:
        for call in list(session.calls.values()):
            if call.stream is not None:
                call.stream.abort(why())
            else:
                self.withdraw(call)
                call.error = why()

    # -- calls -------------------------------------------------------------------

    def submit(self, session: Session, request: Request) -> OpenCall:
        """Send a call to an engine, or let it wait for one.

        ``RuntimeClosed`` outside of the runtime's block, ``UnknownModel`` where no
        engine runs the model, ``UnknownToken`` where an id of the prompt is not in its
        vocabulary, ``CallRejected`` if none can ever take the call (rule S9),
        ``EngineLost`` if all that could are lost.

        Raises:
            ProgramClosed: The program's block has ended.
        """
        self.check_open()
        if session.is_closed:
            raise ProgramClosed(session.name)
        model = self.fleet.model(request.model)
        prompt, text = session.read(request, model, self.fleet.tokenizer(model))
        self.fleet.check_prompt(model, prompt)
        call = OpenCall(
            session=session, request=request, model=model, prompt=prompt, text=text
        )
        if not self.fleet.eligible(model, call.tokens):
            raise self.fleet.refusal(model, call.tokens)
        self._submit(call)
        return call

    def retry(self, call: OpenCall, failure: CallFailed | EngineLost) -> bool:
        """Send a call once more whose engine was lost, if that may be (rule B5).

        ``CallFailed`` if it could not be submitted again; the cause says why.

        Args:
            call: Which has ended.
            failure: What its consumer got, and handles while this runs.
        """
        was_lost = call.engine is not None and not call.engine.is_up
        if not was_lost or call.has_delivered or call.is_retry:
            return False
        if call.session.is_closed or self._closed is not None:
            return False
        if not self.fleet.eligible(call.model, call.tokens):
            return False
        call.is_retry = True
        call.stream = call.engine = call.report = None
        call.intake_ns = 0
        try:
            self._submit(call)
        except Exception as error:  # whatever it is, the call failed
            words = f"{failure}; it could not be sent again: {error}"
            call.error = CallFailed(words, engine=failure.engine)
            raise call.error from error
        return True

    def withdraw(self, call: OpenCall) -> None:
        """End a call as cancelled, if it waits for an engine."""
        if self._late is not None and call in self._late:
            self._late.withdraw(call)
            self._ledger.end_unsent(call, Outcome.CANCELLED)

    def _submit(self, call: OpenCall) -> None:
        self._ledger.submit(call)
        try:
            self._place(call)
        except Exception:  # undone, and raised
            self._ledger.refuse(call)
            raise

    def _place(self, call: OpenCall) -> None:
        """Choose an engine, and send the call or let it wait for one."""
        while True:
            eligible = self.fleet.eligible(call.model, call.tokens)
            if not eligible:
                raise self.fleet.refusal(call.model, call.tokens)
            bound = self._ledger.bound_engine(call.session)
            choice = self._choose(call, eligible, bound)
            handle = self.fleet[choice.engine]
            if self._late is not None and self._late.stands_before(handle):
                is_bound = handle.name == bound
                self._late.add(call, handle, eligible, is_bound=is_bound)
                return
            if self._send(call, handle, binds=choice.binds):
                if self._late is not None:
                    self._late.sent(call.session.program_id)
                return

    def _choose(
        self, call: OpenCall, eligible: Sequence[EngineHandle], bound: str | None
    ) -> Choice:
        placing = Placing(
            prompt_tokens=len(call.prompt),
            max_tokens=call.request.max_tokens,
            bound_engine=bound,
        )
        views = [handle.view() for handle in eligible]
        choice = self._balancer.choose(placing, views, turn=self._choices)
        self._choices += 1
        if all(view.name != choice.engine for view in views):
            names = ", ".join(repr(view.name) for view in views)
            raise ValueError(
                f"{self._balancer!r} chose engine {choice.engine!r} out of {names}"
            )
        return choice

    def _send(self, call: OpenCall, handle: EngineHandle, *, binds: bool) -> bool:
        """Hand a call to an engine; False: the engine turned out to be lost."""
        engine_call = EngineCall(
            spec=call.the_spec,
            sampling=call.request.sampling,
            is_streamed=call.request.is_streamed,
        )
        handle.calls += 1  # now: submitting may end other calls, which let more in
        try:
            stream = handle.engine.submit(engine_call, partial(self._ended, call))
        except EngineLost as error:
            handle.calls -= 1
            self.lost(handle, error)
            return False
        except Exception:  # undone, and raised
            handle.calls -= 1
            raise
        call.stream = stream
        call.engine = handle
        self._ledger.sent(call, binds=binds)
        call.wake()
        return True

    def taken(self, call: OpenCall, handle: EngineHandle) -> bool:
        """Send a call that an engine has taken from the queue (rule B4).

        Returns:
            Whether the engine kept it; else it waits again, or has ended.
        """
        try:
            bound = self._ledger.bound_engine(call.session)
            choice = self._choose(call, [handle], bound)
            if self._send(call, handle, binds=choice.binds):
                return True
        except Exception as error:  # noqa: BLE001 - the call's consumer gets it
            self.give_up(call, error)
        else:
            self._place_again(call)
        return False

    def _place_again(self, call: OpenCall) -> None:
        """Place a call that waited for an engine which was lost."""
        try:
            self._place(call)
        except Exception as error:  # noqa: BLE001 - the call's consumer gets it
            self.give_up(call, error)

    def give_up(self, call: OpenCall, error: Exception) -> None:
        """End a call that its consumer waits for and no engine has."""
        call.error = error
        if isinstance(error, CallRejected | UnknownToken):
            self._ledger.refuse(call)
        else:
            self._ledger.end_unsent(call, Outcome.FAILED)

    def _ended(self, call: OpenCall, report: CallReport) -> None:
        """Book what an engine reports, maybe long after the consumer has left."""
        handle = call.engine
        self._ledger.end(call, report)
        if handle is not None:
            handle.calls -= 1
            if call.session.is_closed and handle.is_up:
                handle.engine.forget(call.session.program_id)
        new = self._calibration.ended(report.level) if self._calibration else None
        if self._late is None:
            return
        if new is not None:
            self._late.update_ranking(new)
        if handle is not None:
            self._late.ended(report, handle)
