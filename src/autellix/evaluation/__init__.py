"""Comparisons: policies on workloads at loads, repeated, measured, drawn.

A ``Sweep`` says what is compared and comes to ``Point``s. Each is run by itself and
becomes a ``Result``, a line of a file; what is told of a comparison is worked out from
those lines alone, so it can be told again, and otherwise, without running anything.
"""

from autellix.evaluation.point import Arrival, Part, Point, Setup, Workload
from autellix.evaluation.result import ProgramRow, Result
from autellix.evaluation.run import run_missing
from autellix.evaluation.store import Store
from autellix.evaluation.sweep import Sweep, sweeps_in
from autellix.evaluation.trial import run_point

__all__ = [
    "Arrival",
    "Part",
    "Point",
    "ProgramRow",
    "Result",
    "Setup",
    "Store",
    "Sweep",
    "Workload",
    "run_missing",
    "run_point",
    "sweeps_in",
]
