"""The table of Gittins' bounds follows from the results that are published with it."""

import shlex
import shutil
from pathlib import Path

import pytest

from autellix.evaluation import Store
from benchmarks.gittins.__main__ import TRACES, arguments, plan_of
from benchmarks.gittins.bounds import report

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "recordings"
BOUNDS = PUBLISHED / "bounds.md"


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.exists(), reason="the recordings are not there")
def test_published_bounds_are_those_of_the_results(tmp_path: Path) -> None:
    """Every cell: it cannot be edited by hand, nor outlive its results."""
    shutil.copy(PUBLISHED / "results.jsonl.xz", tmp_path)
    store = Store.open(tmp_path / "results.jsonl", to_add=False)
    bounds = BOUNDS.read_text(encoding="utf-8")
    command = bounds.splitlines()[0].split("`")[1]
    plan = plan_of(arguments(shlex.split(command)[3:]))
    assert report(plan, plan.results(store), command) == bounds


def test_figures_of_the_text_are_lines_of_the_published_table() -> None:
    """What is read first is what was measured, and not what once was."""
    text = (ROOT / "docs" / "gittins.md").read_text(encoding="utf-8")
    measured = text.split("\n## What was measured\n")[1].split("\n### Real runs\n")[0]
    told = [line for line in measured.splitlines() if line.startswith("|")]
    assert len(told) > 20
    assert not set(told) - set(BOUNDS.read_text(encoding="utf-8").splitlines())
