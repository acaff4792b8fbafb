"""``autellix demo``: the same agents under FCFS and under ATLAS, compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import anyio
import attrs

from autellix.cli.demo.engines import NAMES, simulated_engines, torch_engines
from autellix.cli.demo.picture import draw
from autellix.cli.demo.summary import summarize
from autellix.cli.demo.table import table, verdict
from autellix.cli.demo.trial import Trial, run_trial
from autellix.cli.demo.workload import make_workload
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import Watched, progress, say, say_loading
from autellix.errors import MissingExtra
from autellix.policies import ATLAS, FCFS
from autellix.testing import run_virtual

if TYPE_CHECKING:
    from autellix.cli.demo.summary import TrialSummary
    from autellix.cli.demo.workload import Task
    from autellix.core.ranking import Policy

OUT: Final = Path("autellix-demo")
_PICTURE: Final = "demo.png"


@attrs.frozen(kw_only=True)
class DemoOptions:
    """What can be asked of the demo.

    Attributes:
        backend: What the engines are.
        seed: Of the workload.
        out: Folder for the picture.
        as_json: Print one JSON object instead of a table.
        is_plain: Say progress in lines, also on a terminal.
    """

    backend: Literal["torch", "simulated"] = "torch"
    seed: int = 0
    out: Path = OUT
    as_json: bool = False
    is_plain: bool = False


def demo(options: DemoOptions) -> ExitCode:
    """Run both trials, then print the table and draw the picture.

    Interrupted, it prints what has been done so far.
    """
    tasks = make_workload(options.seed)
    planned: Sequence[tuple[str, Policy]] = (("FCFS", FCFS()), ("ATLAS", ATLAS()))
    trials = [Trial(policy=name, programs=len(tasks)) for name, _ in planned]
    is_interrupted = False
    try:
        for trial, (_, policy) in zip(trials, planned, strict=True):
            say(f"{trial.policy}: {len(tasks)} programs on {len(NAMES)} engines")
            _run(options, trial, policy, tasks)
    except KeyboardInterrupt:
        is_interrupted = True
        some = "some" if any(trial.calls for trial in trials) else "none"
        say(f"interrupted, when {some} of the programs had ended")
    summaries = [summarize(trial) for trial in trials if trial.calls]
    picture = None if is_interrupted else _picture(options, trials, summaries)
    _print(options, summaries, picture)
    if is_interrupted:
        return ExitCode.INTERRUPTED
    for trial in trials:
        for error in trial.errors:
            say(f"{trial.policy}: a program failed: {error}")
    is_complete = all(trial.is_complete for trial in trials)
    return ExitCode.OK if is_complete else ExitCode.FAILED


def _run(
    options: DemoOptions, trial: Trial, policy: Policy, tasks: Sequence[Task]
) -> None:
    if options.backend == "simulated":
        run = partial(run_trial, trial, policy, tasks, simulated_engines())
        run_virtual(run, nullcontext)
        return
    engines = torch_engines(say_loading)
    run = partial(run_trial, trial, policy, tasks, engines)
    watched = Watched(
        title=trial.policy, recording=trial.recording, programs=trial.programs
    )
    anyio.run(run, partial(progress, watched, plain=options.is_plain))


def _picture(
    options: DemoOptions, trials: Sequence[Trial], summaries: Sequence[TrialSummary]
) -> Path | None:
    """Draw the picture; return where it is, None where nothing can draw it."""
    model = "SmolLM2-135M" if options.backend == "torch" else "a simulated model"
    title = f"{trials[0].programs} agents on {len(NAMES)} local engines with {model}"
    path = options.out / _PICTURE
    try:
        draw(trials, summaries, title, path)
    except (MissingExtra, OSError) as error:
        say(f"no picture: {error}")
        return None
    return path


def _print(
    options: DemoOptions, summaries: Sequence[TrialSummary], picture: Path | None
) -> None:
    if options.as_json:
        told = {
            "backend": options.backend,
            "seed": options.seed,
            "trials": [attrs.asdict(summary) for summary in summaries],
            "picture": None if picture is None else str(picture),
        }
        print(json.dumps(told, indent=2))
        return
    if summaries:
        print(table(summaries), *verdict(summaries), sep="\n")
    if picture is not None:
        print(f"picture: {picture}")
