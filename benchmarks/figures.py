"""What a benchmark measured: a short table for people, JSON for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: In ``unit``.
        unit: As printed.
        at_most: The target, where there is one.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.at_most is None else self.value <= self.at_most


def show(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        rows = [{**attrs.asdict(figure), "is_met": figure.is_met} for figure in figures]
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"benchmark": title, **machine, "figures": rows}, indent=2))
        return
    print(title)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        verdict = ""
        if figure.at_most is not None:
            word = "met" if figure.is_met else "MISSED"
            verdict = f"   at most {figure.at_most:g}: {word}"
        print(f"  {figure.name:<{width}}  {figure.value:12,.3f} {figure.unit}{verdict}")
