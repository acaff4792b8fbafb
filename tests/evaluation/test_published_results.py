"""Tables of the documentation follow from the results that are published with them."""

import shutil
from pathlib import Path

import pytest

from autellix.evaluation import Store, sweeps_in
from autellix.evaluation.table import report

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "benchmarks" / "evaluation.toml"
PUBLISHED = ROOT / "docs" / "evaluation"


@pytest.mark.slow
def test_the_published_table_is_that_of_the_results(tmp_path: Path) -> None:
    """Every cell: it cannot be edited by hand, nor outlive its results."""
    shutil.copy(PUBLISHED / "results.jsonl.xz", tmp_path)
    store = Store.open(tmp_path / "results.jsonl", to_add=False)
    told = [(sweep, store.of(sweep.points)) for sweep in sweeps_in(CONFIG)]
    table = (PUBLISHED / "table.md").read_text(encoding="utf-8")
    command = table.splitlines()[0].split("`")[1]
    assert report(told, command) == table


def test_tables_of_the_text_are_lines_of_the_published_one() -> None:
    """What is read first is what was measured, and not what once was."""
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    results = text.split("\n## Results\n")[1].split("\n### Against the paper")[0]
    told = [line for line in results.splitlines() if line.startswith("|")]
    assert len(told) > 20
    table = (PUBLISHED / "table.md").read_text(encoding="utf-8")
    assert not set(told) - set(table.splitlines())
