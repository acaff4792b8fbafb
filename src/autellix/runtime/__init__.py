"""The runtime: what an application starts, and what its agents hold."""

from autellix.runtime.autellix_runtime import AutellixRuntime
from autellix.runtime.chunks import Chunks
from autellix.runtime.context import current_program
from autellix.runtime.events import Event, EventKind, EventStream
from autellix.runtime.learning import load_sizes, save_sizes
from autellix.runtime.mapping import MapOutcome, Outcomes
from autellix.runtime.program import Program
from autellix.runtime.request import CallOptions
from autellix.runtime.result import CallResult, ResultReport
from autellix.runtime.statistics import CallCounts, Cut, EngineSnapshot, Statistics

__all__ = [
    "AutellixRuntime",
    "CallCounts",
    "CallOptions",
    "CallResult",
    "Chunks",
    "Cut",
    "EngineSnapshot",
    "Event",
    "EventKind",
    "EventStream",
    "MapOutcome",
    "Outcomes",
    "Program",
    "ResultReport",
    "Statistics",
    "current_program",
    "load_sizes",
    "save_sizes",
]
