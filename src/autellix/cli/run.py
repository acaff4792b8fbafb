"""``autellix run``: a user's own agents on engines from a configuration file."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractAsyncContextManager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from autellix import config
from autellix.cli.agent_file import AgentFile, load_agent_file
from autellix.cli.exit_codes import ExitCode
from autellix.cli.interruption import serve_noting_interrupts
from autellix.cli.progress import Watched, loading_shown, progress, say
from autellix.cli.run_report import Ran, print_failures, print_text, told
from autellix.errors import ConfigError
from autellix.runtime import current_program
from autellix.testing import DeadlockError, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from autellix.runtime import AutellixRuntime


@attrs.frozen(kw_only=True)
class RunOptions:
    """What can be asked of a run.

    Attributes:
        agent_file: The user's file.
        config: A configuration file.
        agents: How many programs, where the file defines an agent; None: one.
        limit: Most of them at a time; None: all.
        is_virtual: Let sleeping and simulated engines take no real time.
        as_json: Print one JSON object instead of text.
        is_plain: Say progress in lines, also on a terminal.
    """

    agent_file: Path
    config: Path
    agents: int | None = None
    limit: int | None = None
    is_virtual: bool = False
    as_json: bool = False
    is_plain: bool = False


def run(options: RunOptions) -> ExitCode:
    """Run the file's agents; print what they returned and how they were served.

    Interrupted, it prints what has been done so far.
    """
    settings = config.load(options.config)
    if options.is_virtual:
        _check_simulated(settings)
    ran = Ran()
    file = None
    stdout = redirect_stdout(sys.stderr) if options.as_json else nullcontext()
    try:
        with stdout, loading_shown():
            file = load_agent_file(options.agent_file)
            _check_counts(file, options)
            go = partial(_go, ran, settings.runtime(), file, options)
            if options.is_virtual:
                _run_virtual(go, ran)
            else:
                anyio.run(go)
    except KeyboardInterrupt:
        ran.is_interrupted = True
        say("interrupted")
    except DeadlockError as error:
        ran.deadlock = error
    if options.as_json:
        print(json.dumps(told(ran), indent=2, default=str))
    else:
        print_text(ran)
    if file is not None:
        print_failures(ran, file)
    if ran.is_interrupted:
        return ExitCode.INTERRUPTED
    is_failed = ran.error or ran.deadlock or any(one.error for one in ran.outcomes)
    return ExitCode.FAILED if is_failed else ExitCode.OK


def _run_virtual(go: Callable[[], Awaitable[None]], ran: Ran) -> None:
    """Run under a virtual clock; ``DeadlockError`` where that can go no further.

    What waits then is cancelled on the way out: it has to be seen before.
    """

    class Loop(VirtualTimeLoop):
        def run_forever(self) -> None:
            try:
                super().run_forever()
            except DeadlockError:
                ran.recording.interrupt()
                raise

    anyio.run(go, backend="asyncio", backend_options={"loop_factory": Loop})


def _check_counts(file: AgentFile, options: RunOptions) -> None:
    """Refuse to count the runs of a file that is run once.

    Raises:
        ConfigError: So it was asked.
    """
    for option, value in (("--agents", options.agents), ("--limit", options.limit)):
        if file.main is not None and value is not None:
            raise ConfigError(
                f"{option} {value} is for files that define 'agent(program, index)'; "
                f"{file.path} defines 'main(runtime)', which runs once and opens "
                "programs itself"
            )


def _check_simulated(settings: config.Config) -> None:
    """Refuse engines that live in real time.

    Raises:
        ConfigError: There is one.
    """
    for index, engine in enumerate(settings.engines):
        if engine.backend != "simulated":
            raise ConfigError(
                f"virtual time is for simulated engines: {engine.backend!r}",
                path=f"engines[{index}].backend",
            )


async def _go(
    ran: Ran, runtime: AutellixRuntime, file: AgentFile, options: RunOptions
) -> None:
    programs = (options.agents or 1) if file.agent else None
    watched = Watched(title=file.name, recording=ran.recording, programs=programs)
    watch = nullcontext() if options.is_virtual else _watch(watched, options)
    try:
        with runtime.listen(ran.recording):
            async with runtime, watch:
                serve = partial(_serve, ran, runtime, file, options)
                await serve_noting_interrupts(serve, ran.recording)
    finally:
        if runtime.cut is not None:  # it was entered, and is left: all has been booked
            ran.statistics = runtime.statistics()


def _watch(watched: Watched, options: RunOptions) -> AbstractAsyncContextManager[None]:
    return progress(watched, plain=options.is_plain)


async def _serve(
    ran: Ran, runtime: AutellixRuntime, file: AgentFile, options: RunOptions
) -> None:
    if file.agent is not None:
        agent = file.agent

        async def run_one(index: int) -> Any:
            ran.began.add(index)
            return await agent(current_program(), index)

        runs = runtime.map(
            run_one, range(options.agents or 1), limit=options.limit, name=file.name
        )
        async with runs as outcomes:
            async for outcome in outcomes:
                ran.outcomes.append(outcome)
    elif file.main is not None:
        try:
            ran.value = await file.main(runtime)
        except Exception as error:  # noqa: BLE001 - a user's; told with its traceback
            ran.error = error
