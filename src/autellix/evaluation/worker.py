"""A process that runs points: JSON lines in, JSON lines out, until no more come."""

from __future__ import annotations

import gc
import json
import sys
from typing import Final

from autellix.errors import AutellixError
from autellix.evaluation.point import Point
from autellix.evaluation.trial import run_point

# Ctrl-C reaches the whole group of processes; whoever started this one ends it.
_PROGRAM: Final = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from autellix.evaluation.worker import main
main()
"""
COMMAND: Final = (sys.executable, "-c", _PROGRAM)
ERROR: Final = "error"
"""Key of a line that tells an error in place of a result."""


def main() -> None:
    """Run what comes; an error of ours is told, any other ends the process."""
    # A simulation leaves no cycles behind, and to look for them among thousands of
    # prompts time and again would cost a seventh of the whole.
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    results, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            told = run_point(Point.from_json(json.loads(line))).to_line()
        except AutellixError as error:
            told = json.dumps({ERROR: str(error)})
        print(told, file=results, flush=True)
