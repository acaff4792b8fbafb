"""Tables of the documentation follow from the results that are published with them."""

import shutil
from pathlib import Path

import pytest

from autellix.evaluation import Store, sweeps_in
from autellix.evaluation.table import report

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT.parent / "shared" / "traces"
PUBLISHED = [
    ROOT / "docs" / folder
    for folder in ("evaluation", "recordings", "without-retention")
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("evaluation.toml", PUBLISHED[0]),
        ("evaluation_without_retention.toml", PUBLISHED[2]),
        pytest.param(
            "evaluation_traces.toml",
            PUBLISHED[1],
            marks=pytest.mark.skipif(
                not RECORDINGS.exists(), reason="the recordings are not there"
            ),
        ),
    ],
)
def test_the_published_table_is_that_of_the_results(
    config: str, folder: Path, tmp_path: Path
) -> None:
    """Every cell: it cannot be edited by hand, nor outlive its results."""
    shutil.copy(folder / "results.jsonl.xz", tmp_path)
    store = Store.open(tmp_path / "results.jsonl", to_add=False)
    sweeps = sweeps_in(ROOT / "benchmarks" / config)
    told = [(sweep, store.of(sweep.points)) for sweep in sweeps]
    table = (folder / "table.md").read_text(encoding="utf-8")
    command = table.splitlines()[0].split("`")[1]
    assert report(told, command) == table


def test_tables_of_the_text_are_lines_of_those_published() -> None:
    """What is read first is what was measured, and not what once was."""
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    results = text.split("\n## Results\n")[1].split("\n## A figure that")[0]
    told = [line for line in results.splitlines() if line.startswith("|")]
    assert len(told) > 20
    tables = [(f / "table.md").read_text(encoding="utf-8") for f in PUBLISHED]
    assert not set(told) - {line for table in tables for line in table.splitlines()}
