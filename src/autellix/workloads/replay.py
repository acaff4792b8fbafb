"""Programs of a trace, run as real agent code.

Nothing here knows what serves the calls: a simulated engine sees the same load as a
real one. What is taken from the trace is who waits for whom, how long tools take, how
long prompts and outputs are, and which prompts begin alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.runtime.tasks import Tasks
from autellix.workloads.prompts import Prompts, Words

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from autellix.runtime import AutellixRuntime, CallResult, Program, ResultReport
    from autellix.workloads.arrivals import Arrivals
    from autellix.workloads.trace import TraceProgram


@attrs.frozen(kw_only=True)
class ReplayedProgram:
    """How it went with one program; instants are of the event loop's clock.

    Attributes:
        program_id: As in the trace.
        program_class: As in the trace.
        started_s: When it arrived.
        ended_s: When its last call had ended.
        calls: How many it made.
        prompt_tokens: Of all its calls.
        cached_tokens: Of those, found in the engine's cache or its host pool.
        output_tokens: Of all its calls.
        service_s: Service of all its calls.
        wait_s: Wait of all its calls.
    """

    program_id: str
    program_class: str
    started_s: float
    ended_s: float
    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    service_s: float
    wait_s: float

    @property
    def latency_s(self) -> float:
        """From its arrival to its end."""
        return self.ended_s - self.started_s

    @property
    def latency_s_per_token(self) -> float:
        """Latency divided by the tokens generated: the paper's metric."""
        return self.latency_s / self.output_tokens


@attrs.frozen(kw_only=True)
class Replay:
    """How programs of a trace are run.

    Attributes:
        words: Draws the token ids of the prompts.
        unrecorded_tool_s: What tools take where the trace does not say, seconds.
        tells_parents: Whether a call says which calls it follows (rule A6).
        size_s: Total charge of a program, for policies that are told sizes.
    """

    words: Words = attrs.field(factory=Words)
    unrecorded_tool_s: float = attrs.field(
        default=0.0, validator=attrs.validators.ge(0.0)
    )
    tells_parents: bool = False
    size_s: Callable[[TraceProgram], float] | None = None

    async def run(
        self, runtime: AutellixRuntime, program: TraceProgram
    ) -> ReplayedProgram:
        """Run one program, to its end."""
        size_s = None if self.size_s is None else self.size_s(program)
        async with (
            runtime.program(program.program_class, size_s=size_s) as handle,
            Tasks() as branches,
        ):
            agent = _Agent(self, program, handle, branches)
            agent.start()
        return agent.sums.replayed(program)

    async def run_all(
        self,
        runtime: AutellixRuntime,
        programs: Sequence[TraceProgram],
        arrivals: Arrivals,
        *,
        seed: int = 0,
        limit: int | None = None,
    ) -> list[ReplayedProgram]:
        """Run programs as they arrive, until all have ended; in order of arrival.

        Args:
            runtime: Serves them.
            programs: With different ids: what they share is what the trace says.
            arrivals: When each arrives, counted from now.
            seed: Of the arrivals.
            limit: Most programs at once, at least 1; None: any. With ``AllAtOnce`` this
                is a closed loop. One that is held back starts when it is let in.

        Raises:
            ValueError: The limit is below 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1 program: {limit}")
        start_s = anyio.current_time()
        gate = anyio.Semaphore(limit or len(programs), fast_acquire=True)
        replayed: dict[str, ReplayedProgram] = {}

        async def run(program: TraceProgram) -> None:
            replayed[program.program_id] = await self.run(runtime, program)
            gate.release()

        instants_s = arrivals.instants_s(len(programs), seed=seed)
        async with Tasks() as group:
            for program, instant_s in zip(programs, instants_s, strict=True):
                await anyio.sleep_until(start_s + instant_s)
                await gate.acquire()
                group.start_soon(run, program, name=program.program_id)
        return [replayed[program.program_id] for program in programs]


@attrs.define(eq=False)
class _Sums:
    """What is kept of the calls of a program."""

    started_s: float
    ended_s: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    service_s: float = 0.0
    wait_s: float = 0.0

    def add(self, report: ResultReport) -> None:
        """Add a call that has ended."""
        self.ended_s = max(self.ended_s, report.ended_s)
        self.calls += 1
        self.prompt_tokens += report.prompt_tokens
        self.cached_tokens += report.cached_device_tokens + report.cached_host_tokens
        self.output_tokens += report.output_tokens
        self.service_s += report.service_s
        self.wait_s += sum(report.wait_s.values())

    def replayed(self, program: TraceProgram) -> ReplayedProgram:
        """Return the sums, after the end."""
        return ReplayedProgram(
            program_id=program.program_id,
            program_class=program.program_class,
            **attrs.asdict(self),
        )


@attrs.define(eq=False)
class _Agent:
    """One program under way: each branch goes on with what has become possible."""

    replay: Replay
    program: TraceProgram
    handle: Program
    branches: TaskGroup
    sums: _Sums = attrs.field(init=False)
    _results: dict[int, CallResult] = attrs.field(factory=dict, init=False)
    _prompts: Prompts = attrs.field(init=False)
    _missing: list[int] = attrs.field(init=False)
    """Parents of each call that have not ended."""
    _children: list[list[int]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sums = _Sums(anyio.current_time())
        calls = self.program.calls
        self._prompts = Prompts(self.program, self.replay.words)
        self._missing = [len(call.parents) for call in calls]
        self._children = [[] for _ in calls]
        for call_id, call in enumerate(calls):
            for parent in call.parents:
                self._children[parent].append(call_id)

    def start(self) -> None:
        """Send the calls that wait for none."""
        for call_id, missing in enumerate(self._missing):
            if not missing:
                self.branches.start_soon(self._branch, call_id)

    async def _branch(self, call_id: int) -> None:
        while True:
            await self._call(call_id)
            following = list(self._made_possible_by(call_id))
            if not following:
                return
            for other in following[1:]:
                self.branches.start_soon(self._branch, other)
            call_id = following[0]

    def _made_possible_by(self, call_id: int) -> Iterable[int]:
        for child in self._children[call_id]:
            self._missing[child] -= 1
            if not self._missing[child]:
                yield child

    async def _call(self, call_id: int) -> None:
        call = self.program.calls[call_id]
        tool_s = call.tool_seconds_before
        if tool_s is None:
            tool_s = self.replay.unrecorded_tool_s if call.parents else 0.0
        if tool_s:
            await anyio.sleep(tool_s)
        tells = self.replay.tells_parents
        result = await self.handle.generate(
            self._prompts.prompt(call_id),
            max_tokens=call.output_tokens,
            ignore_end=True,
            after=[self._results[parent] for parent in call.parents] if tells else None,
        )
        self._prompts.learn(call_id, result.token_ids)
        self.sums.add(result.report)
        if tells:
            self._results[call_id] = result


def draw(
    programs: Sequence[TraceProgram], count: int, *, seed: int
) -> list[TraceProgram]:
    """Draw programs of a trace, each as likely; one drawn again gets another id.

    A trace is gone through in random order, again and again, so that a run as long as
    the trace has each program once.
    """
    chance = random.Random(f"{seed}/draw")
    drawn: list[TraceProgram] = []
    turn = 0
    while len(drawn) < count:
        turn += 1
        for program in chance.sample(programs, len(programs))[: count - len(drawn)]:
            again = f"{program.program_id}#{turn}" if turn > 1 else program.program_id
            drawn.append(attrs.evolve(program, program_id=again))
    return drawn
