"""The table of Gittins' bounds follows from the results that are published with it."""

import lzma
import shlex
import shutil
from pathlib import Path

import pytest

from autellix.evaluation import Result, Store
from autellix.evaluation.measures import measures
from benchmarks.gittins.__main__ import TRACES, arguments, plan_of
from benchmarks.gittins.bounds import report
from benchmarks.gittins.plan import BASELINES

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


def test_the_table_with_retention_is_worked_out_from_the_published_results(
    tmp_path: Path,
) -> None:
    """Seed 0 at load 1.3: the best of five, Gittins and SRPT, and their ratios."""
    shutil.copy(PUBLISHED / "results.jsonl.xz", tmp_path)
    with lzma.open(tmp_path / "results.jsonl.xz", "rt", encoding="utf-8") as packed:
        runs = [Result.from_line(line) for line in packed]
    means: dict[str, dict[str, float]] = {}
    for run in runs:
        if run.point.setup.options["retains_prefixes"] and run.point.seed == 0:
            name = "Mixed" if run.point.workload.mix else run.point.workload.name
            mean_s = measures(run.rows).latency_mean_s
            means.setdefault(name, {})[str(run.point.policy)] = mean_s
    text = (ROOT / "docs" / "gittins.md").read_text(encoding="utf-8")
    section = text.split("\n### Where programs retain their prefixes\n")[1]
    told = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(told) == len(means)
    for line in told:
        name = line.split("|")[1].strip()
        cold, srpt = means[name]["gittins"], means[name]["srpt"]
        best = min(set(BASELINES) & means[name].keys(), key=means[name].__getitem__)
        assert line == (
            f"| {name} | {means[name][best]:.4g} ({best}) | {cold:.4g} | "
            f"{cold / means[name][best]:.2f} | {srpt:.4g} | {cold / srpt:.2f} |"
        )
