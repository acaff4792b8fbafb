"""Runs the demo's workload under one policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.cli.demo.agents import kind_of, run_agent
from autellix.cli.interruption import serve_noting_interrupts
from autellix.errors import AutellixError
from autellix.runtime import AutellixRuntime
from autellix.runtime.recording import Recording

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.cli.demo.workload import Task
    from autellix.core.ranking import Policy
    from autellix.runtime import CallResult, Statistics


@attrs.define(eq=False, kw_only=True)
class Trial:
    """The workload under one policy, while it runs and afterwards.

    Attributes:
        policy: Its name, as shown.
        programs: How many there are to run.
        recording: What became of each program.
        calls: What each program's calls used, by program; of those that ended well.
        errors: What the others ended with.
        statistics: What the runtime said at the end; None if it did not come to that.
    """

    policy: str
    programs: int
    recording: Recording = attrs.field(factory=Recording)
    calls: dict[int, list[CallResult]] = attrs.field(factory=dict)
    errors: list[AutellixError] = attrs.field(factory=list)
    statistics: Statistics | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every program ended well."""
        return self.statistics is not None and len(self.calls) == self.programs


async def run_trial(
    trial: Trial,
    policy: Policy,
    tasks: Sequence[Task],
    engines: Sequence[Engine],
    watch: Callable[[], AbstractAsyncContextManager[None]],
) -> None:
    """Run all tasks, each from its arrival on; ``trial`` holds what came of it.

    Args:
        trial: Empty.
        policy: Orders the calls.
        tasks: Each becomes a program.
        engines: Not entered yet; they are left again at the end.
        watch: Shows the trial while its block runs.
    """
    async with AutellixRuntime(engines=engines, policy=policy) as runtime:
        with runtime.listen(trial.recording):
            async with watch():
                serve = partial(_serve, runtime, trial, tasks)
                await serve_noting_interrupts(serve, trial.recording)
        trial.statistics = runtime.statistics()


async def _serve(runtime: AutellixRuntime, trial: Trial, tasks: Sequence[Task]) -> None:
    async with anyio.create_task_group() as arrivals:
        began_s = anyio.current_time()
        for task in tasks:
            arrives_s = began_s + task.arrives_s
            arrivals.start_soon(_run_task, runtime, trial, task, arrives_s)


async def _run_task(
    runtime: AutellixRuntime, trial: Trial, task: Task, arrives_s: float
) -> None:
    await anyio.sleep_until(arrives_s)
    async with runtime.program(kind_of(task)) as program:
        try:
            trial.calls[program.id] = await run_agent(program, task)
        except AutellixError as error:
            trial.errors.append(error)
