"""``autellix demo``: the same agents under FCFS and under ATLAS, compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, Literal

import anyio
import attrs

from autellix.cli.demo.agents import output_tokens
from autellix.cli.demo.engines import NAMES, simulated_engines, torch_engines
from autellix.cli.demo.picture import draw
from autellix.cli.demo.summary import summarize
from autellix.cli.demo.table import table, verdict
from autellix.cli.demo.trial import Trial, run_trial
from autellix.cli.demo.workload import make_workload
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import Watched, progress, say, say_loading
from autellix.errors import ConfigError, MissingExtra
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
    _make_folder(options.out)
    tasks = make_workload(options.seed)
    planned: Sequence[tuple[str, Policy]] = (("FCFS", FCFS()), ("ATLAS", ATLAS()))
    trials = [Trial(policy=name, programs=len(tasks)) for name, _ in planned]
    told = _Told(options=options)
    try:
        for trial, (_, policy) in zip(trials, planned, strict=True):
            say(f"{trial.policy}: {len(tasks)} programs on {len(NAMES)} engines")
            _run(options, trial, policy, tasks)
    except KeyboardInterrupt:
        told.is_interrupted = True
        ended = ", ".join(
            f"{len(trial.calls)} of {trial.programs} under {trial.policy}"
            for trial in trials
        )
        say(f"interrupted; programs that had ended by then: {ended}")
    told.summaries = [summarize(trial) for trial in trials if trial.calls]
    told.print_table()
    if not told.is_interrupted:
        told.picture, told.is_interrupted = _picture(options, trials, told.summaries)
    told.print_end()
    return _code(trials, is_interrupted=told.is_interrupted)


def _code(trials: Sequence[Trial], *, is_interrupted: bool) -> ExitCode:
    if is_interrupted:
        return ExitCode.INTERRUPTED
    for trial in trials:
        for error in trial.errors:
            say(f"{trial.policy}: a program failed: {error}")
    is_complete = all(trial.is_complete for trial in trials)
    return ExitCode.OK if is_complete else ExitCode.FAILED


def _make_folder(folder: Path) -> None:
    """Make the folder for the picture, so that one that cannot be fails at once.

    Raises:
        ConfigError: It cannot be made, or not be written to.
    """
    picture = folder / _PICTURE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if picture.exists():
            picture.open("r+b").close()
        else:
            TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: no picture can be put there: {error.strerror}"
        ) from error


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
        title=trial.policy,
        recording=trial.recording,
        programs=trial.programs,
        output_tokens=sum(output_tokens(task) for task in tasks),
    )
    anyio.run(run, partial(progress, watched, plain=options.is_plain))


def _picture(
    options: DemoOptions, trials: Sequence[Trial], summaries: Sequence[TrialSummary]
) -> tuple[Path | None, bool]:
    """Draw the picture.

    Returns:
        Where it is, None where nothing can draw it; whether Ctrl-C came meanwhile.
    """
    model = "SmolLM2-135M" if options.backend == "torch" else "a simulated model"
    title = f"{trials[0].programs} agents on {len(NAMES)} local engines with {model}"
    path = options.out / _PICTURE
    try:
        draw(trials, summaries, title, path)
    except (MissingExtra, OSError) as error:
        say(f"no picture: {error}")
        return None, False
    except KeyboardInterrupt:
        say("interrupted while drawing: no picture")
        return None, True
    return path, False


@attrs.define(eq=False, kw_only=True)
class _Told:
    """What is printed, as it comes to be known.

    Attributes:
        options: Say whether that is text or JSON.
        summaries: Of the trials in which a program ended.
        picture: Where it is; None: there is none.
        is_interrupted: Whether Ctrl-C came.
    """

    options: DemoOptions
    summaries: Sequence[TrialSummary] = ()
    picture: Path | None = None
    is_interrupted: bool = False

    def print_table(self) -> None:
        """Print numbers and words, before anything else can go wrong."""
        if self.summaries and not self.options.as_json:
            print(table(self.summaries), *verdict(self.summaries), sep="\n", flush=True)

    def print_end(self) -> None:
        """Print where the picture is; as JSON, all in one object."""
        if self.options.as_json:
            told = {
                "interrupted": self.is_interrupted,
                "backend": self.options.backend,
                "seed": self.options.seed,
                "trials": [attrs.asdict(summary) for summary in self.summaries],
                "picture": None if self.picture is None else str(self.picture),
            }
            print(json.dumps(told, indent=2))
        elif self.picture is not None:
            print(f"picture: {self.picture}")
