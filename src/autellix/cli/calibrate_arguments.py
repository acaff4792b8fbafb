"""What can be typed after ``autellix calibrate``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from autellix.cli.calibrate import CalibrateOptions
from autellix.cli.numbers import positive
from autellix.evaluation.calibration import Clock

_LONGEST_TOKENS: Final = 512
_ROUNDS: Final = 5
_CALIBRATE: Final = """\
Measure what steps of an engine take (batches that decode, prompts, both at once), fit
the costs of a simulated engine to them and write those to a file. Engines are those of
a configuration file; several, all alike, are measured while all of them work, as they
would in a run. A few minutes for a small model; leave the machine alone meanwhile.

  autellix calibrate --config autellix.toml --out mine.toml
  autellix bench --workload chat --preset mine.toml --slots 8
"""


def add_calibrate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, epilog: str
) -> None:
    """Add the command ``calibrate``."""
    calibrate = commands.add_parser(
        "calibrate",
        help="measure an engine, to simulate it",
        description=_CALIBRATE,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = calibrate.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="engines in TOML")
    add("--out", type=Path, required=True, metavar="FILE", help="TOML file of costs")
    add(
        "--longest",
        type=positive,
        default=_LONGEST_TOKENS,
        metavar="N",
        help=f"measure contexts and prompts up to so many tokens ({_LONGEST_TOKENS})",
    )
    add(
        "--rounds",
        type=positive,
        default=_ROUNDS,
        metavar="N",
        help=f"measure everything so often, and take medians ({_ROUNDS})",
    )
    add(
        "--clock",
        choices=[clock.value for clock in Clock],
        default=Clock.WALL.value,
        help="what programs wait for, or CPU time of this process, for one engine on a "
        "machine that does other work (wall)",
    )


def calibrate_options(
    typed: argparse.Namespace, words: Sequence[str]
) -> CalibrateOptions:
    """Return what was asked of ``calibrate``."""
    return CalibrateOptions(
        config=typed.config,
        out=typed.out,
        longest_tokens=typed.longest,
        rounds=typed.rounds,
        clock=Clock(typed.clock),
        command=shlex.join(["autellix", *words]),
    )
