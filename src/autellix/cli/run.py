"""``autellix run``: a user's own agents on engines from a configuration file."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import AbstractAsyncContextManager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from autellix import config
from autellix.cli.agent_file import AgentFile, load_agent_file
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import Watched, loading_shown, progress, say
from autellix.cli.recording import Recording
from autellix.errors import ConfigError
from autellix.runtime import current_program
from autellix.testing import run_virtual

if TYPE_CHECKING:
    from autellix.runtime import AutellixRuntime, MapOutcome, Statistics


@attrs.frozen(kw_only=True)
class RunOptions:
    """What can be asked of a run.

    Attributes:
        agent_file: The user's file.
        config: A configuration file.
        agents: How many programs, where the file defines an agent.
        limit: Most of them at a time; None: all.
        is_virtual: Let sleeping and simulated engines take no real time.
        as_json: Print one JSON object instead of text.
        is_plain: Say progress in lines, also on a terminal.
    """

    agent_file: Path
    config: Path
    agents: int = 1
    limit: int | None = None
    is_virtual: bool = False
    as_json: bool = False
    is_plain: bool = False


@attrs.define(eq=False)
class _Run:
    """A run, while it goes on and afterwards.

    Attributes:
        recording: What became of each program.
        outcomes: Of the file's agent, as they ended.
        value: What the file's main returned.
        error: What it raised.
        statistics: What the runtime said at the end, however that came.
    """

    recording: Recording = attrs.field(factory=Recording)
    outcomes: list[MapOutcome[int, Any]] = attrs.field(factory=list)
    value: Any = None
    error: Exception | None = None
    statistics: Statistics | None = None


def run(options: RunOptions) -> ExitCode:
    """Run the file's agents; print what they returned and how they were served.

    Interrupted, it prints what has been done so far.
    """
    settings = config.load(options.config)
    if options.is_virtual:
        _check_simulated(settings)
    ran = _Run()
    is_interrupted = False
    stdout = redirect_stdout(sys.stderr) if options.as_json else nullcontext()
    try:
        with stdout, loading_shown():
            file = load_agent_file(options.agent_file)
            go = partial(_go, ran, settings.runtime(), file, options)
            if options.is_virtual:
                run_virtual(go)
            else:
                anyio.run(go)
    except KeyboardInterrupt:
        is_interrupted = True
        say("interrupted")
    if options.as_json:
        print(json.dumps(_told(ran), indent=2))
    else:
        _print(ran)
    if is_interrupted:
        return ExitCode.INTERRUPTED
    is_failed = ran.error is not None or any(one.error for one in ran.outcomes)
    return ExitCode.FAILED if is_failed else ExitCode.OK


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
    ran: _Run, runtime: AutellixRuntime, file: AgentFile, options: RunOptions
) -> None:
    programs = options.agents if file.agent else None
    watched = Watched(title=file.name, recording=ran.recording, programs=programs)
    watch = nullcontext() if options.is_virtual else _watch(watched, options)
    async with runtime:
        try:
            with runtime.listen(ran.recording):
                async with watch:
                    await _serve(ran, runtime, file, options)
        finally:
            ran.statistics = runtime.statistics()


def _watch(watched: Watched, options: RunOptions) -> AbstractAsyncContextManager[None]:
    return progress(watched, plain=options.is_plain)


async def _serve(
    ran: _Run, runtime: AutellixRuntime, file: AgentFile, options: RunOptions
) -> None:
    if file.agent is not None:
        agent = file.agent

        async def run_one(index: int) -> Any:
            return await agent(current_program(), index)

        runs = runtime.map(
            run_one, range(options.agents), limit=options.limit, name=file.name
        )
        async with runs as outcomes:
            async for outcome in outcomes:
                ran.outcomes.append(outcome)
    elif file.main is not None:
        try:
            ran.value = await file.main(runtime)
        except Exception as error:  # noqa: BLE001 - a user's; told with its traceback
            ran.error = error


def _print(ran: _Run) -> None:
    for outcome in sorted(ran.outcomes, key=lambda one: one.index):
        if outcome.error is not None:
            print(f"[{outcome.index}] failed: {outcome.error!r}")
        elif outcome.value is not None:
            print(f"[{outcome.index}] {outcome.value}")
    if ran.value is not None:
        print(ran.value)
    if ran.error is not None:
        traceback.print_exception(ran.error)
    if ran.statistics is not None:
        print(*_served(ran.recording, ran.statistics), sep="\n")


def _served(recording: Recording, statistics: Statistics) -> list[str]:
    """Return what there is to say of how programs were served."""
    ended = recording.ended()
    latencies_s = [(track.closed_s or 0.0) - track.opened_s for track in ended]
    mean_s = sum(latencies_s) / len(latencies_s) if latencies_s else 0.0
    waits = [f"{why.value} {waited:.2f}" for why, waited in statistics.wait_s.items()]
    preemptions = [
        f"{count} by {kind.value}"
        for kind, count in statistics.preemptions.items()
        if count
    ]
    cached = statistics.cached_device_tokens + statistics.cached_host_tokens
    hits = cached / statistics.prompt_tokens if statistics.prompt_tokens else 0.0
    calls = statistics.calls
    ends = f"{calls.finished} finished, {calls.cancelled} cancelled"
    return [
        f"programs: {len(ended)} ended, mean latency {mean_s:.2f} s",
        f"calls: {ends}, {calls.failed} failed; {statistics.output_tokens} tokens",
        f"service {statistics.service_s:.2f} s; wait, s: {', '.join(waits) or 'none'}",
        f"preemptions: {', '.join(preemptions) or 'none'}; prefix hits {hits:.0%}",
    ]


def _told(ran: _Run) -> dict[str, Any]:
    """Return a run as plain values; what JSON cannot hold becomes text."""
    statistics = ran.statistics
    return {
        "outcomes": [
            {
                "index": outcome.index,
                "ok": outcome.error is None,
                "value": None if outcome.error else _plain(outcome.value),
                "error": repr(outcome.error) if outcome.error else None,
            }
            for outcome in sorted(ran.outcomes, key=lambda one: one.index)
        ],
        "value": _plain(ran.value),
        "error": repr(ran.error) if ran.error else None,
        "programs": [
            {
                "id": program,
                "class": track.name,
                "opened_s": track.opened_s,
                "closed_s": track.closed_s,
                "output_tokens": track.output_tokens,
            }
            for program, track in ran.recording.tracks.items()
        ],
        "statistics": attrs.asdict(statistics) if statistics else None,
    }


def _plain(value: Any) -> Any:
    """Return ``value`` if JSON can hold it, else its text."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
