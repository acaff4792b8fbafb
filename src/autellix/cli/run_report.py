"""What ``autellix run`` says of a run: as text, as JSON, and of its failures."""

from __future__ import annotations

import json
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import attrs

from autellix.cli.failures import distinct, traceback_from
from autellix.cli.progress import say
from autellix.runtime.recording import Recording

if TYPE_CHECKING:
    from autellix.cli.agent_file import AgentFile
    from autellix.runtime import MapOutcome, Statistics
    from autellix.testing import DeadlockError


@attrs.define(eq=False)
class Ran:
    """A run, while it goes on and afterwards.

    Attributes:
        recording: What became of each program.
        outcomes: Of the file's agent, as they ended.
        value: What the file's main returned.
        error: What it raised.
        began: Runs of the file's agent, by index, that have begun.
        deadlock: Why nothing could happen any more, where that was the end.
        statistics: What the runtime said at the end, however that came.
        is_interrupted: Whether that was Ctrl-C.
    """

    recording: Recording = attrs.field(factory=Recording)
    outcomes: list[MapOutcome[int, Any]] = attrs.field(factory=list)
    value: Any = None
    error: Exception | None = None
    began: set[int] = attrs.field(factory=set)
    deadlock: DeadlockError | None = None
    statistics: Statistics | None = None
    is_interrupted: bool = False


def print_text(ran: Ran) -> None:
    """Print what runs returned, then how they were served."""
    for outcome in sorted(ran.outcomes, key=lambda one: one.index):
        if outcome.error is not None:
            print(f"[{outcome.index}] failed: {outcome.error!r}")
        elif outcome.value is not None:
            print(f"[{outcome.index}] {outcome.value}")
    if ran.value is not None:
        print(ran.value)
    if ran.statistics is not None:
        print(*_served(ran, ran.statistics), sep="\n")
    sys.stdout.flush()


def print_failures(ran: Ran, file: AgentFile) -> None:
    """Print where a file's own code failed, once for each place."""
    failed = [(one.index, one.error) for one in ran.outcomes if one.error is not None]
    for one in distinct(sorted(failed, key=itemgetter(0)), file.path):
        say(one)
    if ran.error is not None:
        say(traceback_from(ran.error, file.path))
    if ran.deadlock is not None:
        say(_stuck(ran, file))


def _stuck(ran: Ran, file: AgentFile) -> str:
    """Say who waits for what will never come."""
    waiting = sorted(ran.began - {one.index for one in ran.outcomes})
    who = ", ".join(f"agent {index}" for index in waiting) if file.agent else "main"
    programs = [
        f"{track.name} ({program})"
        for program, track in ran.recording.tracks.items()
        if track.was_interrupted
    ]
    why, _, _ = str(ran.deadlock).partition("; waiting: ")  # there come tasks of ours
    return (
        f"autellix: {why}, and still waiting in {file.path}: {who}; "
        f"programs: {', '.join(programs) or 'none'}"
    )


def _served(ran: Ran, statistics: Statistics) -> list[str]:
    """Return what there is to say of how programs were served."""
    tracks = ran.recording.tracks.values()
    ended = ran.recording.ended()
    failed = sum(one.error is not None for one in ran.outcomes)
    interrupted = sum(track.was_interrupted for track in tracks)
    counts = f"{len(ended)} ended"
    counts += f" ({failed} of them failed)" if failed else ""
    counts += f", {interrupted} interrupted" if interrupted else ""
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
        f"programs: {counts}; mean latency {mean_s:.2f} s",
        f"calls: {ends}, {calls.failed} failed; {statistics.output_tokens} tokens",
        f"service {statistics.service_s:.2f} s; wait, s: {', '.join(waits) or 'none'}",
        f"preemptions: {', '.join(preemptions) or 'none'}; prefix hits {hits:.0%}",
    ]


def told(ran: Ran) -> dict[str, Any]:
    """Return a run as plain values; what JSON cannot hold becomes text."""
    statistics = ran.statistics
    return {
        "interrupted": ran.is_interrupted,
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
        "error": repr(error) if (error := ran.error or ran.deadlock) else None,
        "programs": [
            {
                "id": program,
                "class": track.name,
                "opened_s": track.opened_s,
                "closed_s": track.closed_s,
                "interrupted": track.was_interrupted,
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
