"""The tables of Gittins' bounds follow from the results published with them."""

import shlex
import shutil
from pathlib import Path

import pytest

from autellix.evaluation import Store
from benchmarks.gittins.__main__ import TRACES, arguments, plan_of
from benchmarks.gittins.bounds import report

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "recordings"
BOUNDS = sorted(PUBLISHED.glob("bounds*.md"))


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.exists(), reason="the recordings are not there")
@pytest.mark.parametrize("path", BOUNDS, ids=lambda path: path.stem)
def test_published_bounds_are_those_of_the_results(path: Path, tmp_path: Path) -> None:
    """Every cell: it cannot be edited by hand, nor outlive its results."""
    shutil.copy(PUBLISHED / "results.jsonl.xz", tmp_path)
    store = Store.open(tmp_path / "results.jsonl", to_add=False)
    bounds = path.read_text(encoding="utf-8")
    command = bounds.splitlines()[0].split("`")[1]
    plan = plan_of(arguments(shlex.split(command)[3:]))
    assert report(plan, plan.results(store), command) == bounds


def test_figures_of_the_text_are_lines_of_the_published_tables() -> None:
    """What is read first is what was measured, and not what once was."""
    text = (ROOT / "docs" / "gittins.md").read_text(encoding="utf-8")
    measured = text.split("\n## What was measured\n")[1]
    told = [
        line
        for section in measured.split("\n### ")
        if not section.startswith("Real runs\n")
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert len(told) > 20
    tables = [path.read_text(encoding="utf-8") for path in BOUNDS]
    assert not set(told) - {line for table in tables for line in table.splitlines()}
