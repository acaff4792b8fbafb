"""The runtime: engines, programs and calls under one roof, in one task group."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, TypeVarTuple

from autellix.balancers import LocalityAware
from autellix.core.process_table import ProcessTable
from autellix.policies import ATLAS
from autellix.policies.checked import CheckedPolicy
from autellix.runtime.calibration import Calibration
from autellix.runtime.caller import Caller
from autellix.runtime.chunks import Chunks
from autellix.runtime.clock import NS_PER_S, now_ns
from autellix.runtime.context import current_program, set_current
from autellix.runtime.dispatch import Dispatch
from autellix.runtime.events import Events, EventStream, Listener
from autellix.runtime.fleet import Fleet, check_instance
from autellix.runtime.late_binding import LateBinding
from autellix.runtime.learning import learned_by
from autellix.runtime.ledger import Ledger
from autellix.runtime.mapping import Outcomes
from autellix.runtime.program import Program
from autellix.runtime.statistics import Cut, Statistics, Totals
from autellix.runtime.tasks import Tasks
from autellix.runtime.telling import Telling

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from autellix.backends.protocol import Engine
    from autellix.balancers import Balancer
    from autellix.core.ranking import Policy
    from autellix.runtime.request import Request
    from autellix.runtime.session import Session

_logger = logging.getLogger(__name__)

InputT = TypeVar("InputT")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_ANONYMOUS = "anonymous"


class AutellixRuntime(Caller):
    """Serves the calls of many programs on local engines.

    ``async with AutellixRuntime(engines=[…]) as runtime``: engines load, several at
    once, and serve until the block ends. Leaving it cancels what still runs. Calls made
    from the runtime itself belong to the current program; outside of any, each is a
    program of its own.

    Args:
        engines: At least one, each with a name of its own. Where they run several
            models, calls name theirs.
        policy: Orders the calls on the engines.
        balancer: Chooses the engine of a call.
        shutdown_s: How long engines may take to give everything back at the end; what
            they then still await is cancelled. Only a step under way is completed, as
            leaving frees the memory it uses: a warning says which engine is at one.

    Attributes:
        cut: What was still under way when the block ended; None before that.

    Raises:
        ValueError: A negative time; no engine (``NoEngine``), or two of one name
            (``EngineNameTaken``).
        TypeError: Something else than an engine, a policy or a balancer.
    """

    def __init__(
        self,
        *,
        engines: Sequence[Engine],
        policy: Policy | None = None,
        balancer: Balancer | None = None,
        shutdown_s: float = 10.0,
    ) -> None:
        policy = ATLAS() if policy is None else policy
        balancer = LocalityAware() if balancer is None else balancer
        check_instance(policy, "policy", ("ranking", "inherited_ns"))
        check_instance(balancer, "balancer", ("choose",))
        if not shutdown_s >= 0:
            raise ValueError(f"shutdown_s must not be negative: {shutdown_s}")
        self.cut: Cut | None = None
        self._policy = policy
        self._table = ProcessTable(CheckedPolicy(policy))
        self._fleet = Fleet(engines, shutdown_s)
        self._totals = Totals()
        self._events = Events()
        self._telling = Telling(self._events, self._table)
        ledger = Ledger(self._table, self._totals, self._telling)
        self._dispatch = Dispatch(self._fleet, ledger, balancer, self._telling)
        self._calibration: Calibration | None = None
        self._late: LateBinding | None = None
        self._block = AsyncExitStack()
        self._is_used = False
        self._last: Statistics | None = None

    @classmethod
    def from_config(cls, path: str | PathLike[str]) -> AutellixRuntime:
        """Make a runtime as a TOML file says; ``ConfigError`` where that cannot be."""
        # By name: the configuration stands above the runtime, and needs an extra.
        config = importlib.import_module("autellix.config")
        runtime: AutellixRuntime = config.load_runtime(path)
        return runtime

    # -- life --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Load all engines; return once every one of them takes calls.

        Where one cannot be loaded, its ``EngineError`` comes out, and the others are
        given back.

        Raises:
            RuntimeError: It has been entered before.
        """
        if self._is_used:
            raise RuntimeError("a runtime is entered once: make another one")
        self._is_used = True
        # What the runtime starts must not belong to the program it was started in.
        outer = set_current(None)
        try:
            async with AsyncExitStack() as loading:
                group = await loading.enter_async_context(Tasks())
                loading.callback(self._fleet.stop, group)
                await self._fleet.load(
                    group, self._policy, self._telling.fact, self._dispatch.lost
                )
                self._begin(group)
                self._block = loading.pop_all()
        finally:
            set_current(outer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Cancel what runs, and wait until the engines have given everything back.

        An error of the block comes out as it is, not in a group.
        """
        programs, calls = self._dispatch.close()
        self._fleet.note_leaving()
        try:
            return await self._block.__aexit__(kind, error, traceback)
        finally:
            self._events.close()
            self._last = self._snapshot()
            slow = tuple(handle.name for handle in self._fleet if handle.was_cut)
            self.cut = Cut(programs=programs, calls=calls, engines=slow)
            if self.cut != Cut():
                _logger.warning("runtime left with work under way: %s", self.cut)

    def _begin(self, group: TaskGroup) -> None:
        self._calibration = Calibration(self._policy, self._table, self._fleet)
        if any(handle.intake_limit is not None for handle in self._fleet):
            self._late = LateBinding(
                self._policy,
                self._calibration.ranking,
                table=self._table,
                fleet=self._fleet,
                taken=self._dispatch.taken,
                gave_up=self._dispatch.give_up,
            )
            group.start_soon(self._late.watch, name="late binding")
        self._dispatch.begin(self._calibration, self._late)

    # -- programs and calls ------------------------------------------------------

    def program(self, name: str, *, size_s: float | None = None) -> Program:
        """Return a program, to be entered: ``async with runtime.program("chat") as p``.

        Args:
            name: Class of the program; what is learned is learned per class.
            size_s: Total charge it will need, seconds, where an oracle knows it: for
                clairvoyant policies, as baselines.

        Raises:
            TypeError: The name is not a string.
            ValueError: The name is empty, or the size negative.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a program is a string: got {name!r}")
        if not name:
            raise ValueError(f"a program needs a name: got {name!r}")
        if size_s is not None and size_s < 0:
            raise ValueError(f"size_s must not be negative: {size_s}")
        size_ns = None if size_s is None else round(size_s * NS_PER_S)
        return Program(name, self._dispatch, size_ns)

    async def run(
        self,
        agent: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        name: str | None = None,
    ) -> T:
        """Run ``agent(*args)`` as a program and return what it returns.

        Args:
            agent: Makes its calls from ``autellix.current_program()`` or this runtime.
            *args: For the agent.
            name: Class of the program; the agent's own name when not given.
        """
        async with self.program(name or _name_of(agent)):
            return await agent(*args)

    def map(
        self,
        agent: Callable[[InputT], Awaitable[T]],
        inputs: Iterable[InputT],
        *,
        limit: int | None = None,
        name: str | None = None,
    ) -> Outcomes[InputT, T]:
        """Run ``agent`` on every input, each run a program; outcomes as they end.

        ``async with runtime.map(…) as outcomes: async for outcome in outcomes: …``. One
        that fails does not take the others down; leaving the block cancels the rest.

        Args:
            agent: As for ``run``, of one argument.
            inputs: May be endless; is advanced as runs begin.
            limit: Most runs at a time, at least 1; None: all.
            name: Class of the programs; the agent's own name when not given.
        """
        program_class = name or _name_of(agent)

        async def run(given: InputT) -> T:
            return await self.run(agent, given, name=program_class)

        return Outcomes(run, inputs, limit)

    def call(self, request: Request) -> Chunks:
        """Return a call of the current program, or of one of its own."""
        program = current_program()
        if program is not None and program.is_of(self._dispatch):
            return program.call(request)
        return Chunks(self._dispatch, request, self._anonymous, owns_session=True)

    def _anonymous(self) -> Session:
        session = self._dispatch.open_program(_ANONYMOUS)
        self._totals.anonymous_calls += 1
        return session

    # -- what can be seen --------------------------------------------------------

    def statistics(self) -> Statistics:
        """Return a snapshot of programs, calls and engines.

        After the block it is the last one, with the calls that leaving has cancelled.
        ``RuntimeClosed`` before the block.
        """
        if self._last is not None:
            return self._last
        self._dispatch.check_open()
        return self._snapshot()

    def _snapshot(self) -> Statistics:
        calibration = self._calibration
        return self._totals.snapshot(
            self._fleet,
            at_ns=now_ns(),
            in_intake=0 if self._late is None else len(self._late),
            ranking_version=calibration.version if calibration else 0,
            learned=learned_by(calibration.ranking) if calibration else None,
        )

    def listen(self, listener: Listener) -> AbstractContextManager[None]:
        """Call ``listener`` with every event while the block runs.

        It is called where things happen, so it must be quick and must not wait. One
        that raises is logged and not called again.
        """
        return self._events.listen(listener)

    def events(self) -> EventStream:
        """Return events to be iterated: ``async with runtime.events() as stream``."""
        return EventStream(self._events)


def _name_of(agent: Callable[..., object]) -> str:
    name = getattr(agent, "__name__", None)
    return name if isinstance(name, str) else type(agent).__name__
