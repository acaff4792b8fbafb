"""Results made by hand, for tests of what is told of them."""

from collections.abc import Sequence
from typing import Any

from autellix.evaluation import Point, ProgramRow, Result, Setup, Workload
from autellix.evaluation.setups import setup_from


def setup(engines: int = 1, **options: Any) -> Setup:
    """Return simulated engines."""
    return setup_from(options, engines=engines, path="engine")


def point(**changes: Any) -> Point:
    """Return a small point."""
    options = {
        "workload": Workload(source="chat"),
        "programs": 6,
        "load": 1.0,
        "policy": "fcfs",
        "setup": setup(slots=4),
        **changes,
    }
    return Point(**options)


def row(latency_s: float = 2.0, **changes: Any) -> ProgramRow:
    """Return a program of one call."""
    options = {
        "program_class": "chat",
        "started_s": 0.0,
        "latency_s": latency_s,
        "alone_s": 1.0,
        "service_s": 1.0,
        "wait_s": 1.0,
        "calls": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 10,
        **changes,
    }
    return ProgramRow(**options)


def result(of: Point, rows: Sequence[ProgramRow], **changes: Any) -> Result:
    """Return what a point might have come to."""
    counts = dict.fromkeys(("pause", "swap", "drop", "promotions"), 3)
    options = {
        "point": of,
        "code": "c0de",
        "saturation_per_s": 0.5,
        "rows": rows,
        "wait_s": {"slots": 4.0, "swap": 1.0, "round": 0.5},
        "counts": counts,
        "cpu_s": 0.25,
        **changes,
    }
    return Result(**options)
