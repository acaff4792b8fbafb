"""What is published is all there is, and nobody's results go under with it."""

import sys
from pathlib import Path

import pytest

from autellix.evaluation import Store
from benchmarks.publish import main
from tests.evaluation.builders import point, result, row


def test_results_are_packed_and_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the packed ones goes on from there."""
    path = _with_a_result(tmp_path, monkeypatch)
    main()
    assert not path.exists()
    assert not Store.open(path, to_add=False).missing([point(seed=0)])


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_results_are_not_packed_while_a_bench_adds_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on writing to a file that has gone."""
    path = _with_a_result(tmp_path, monkeypatch)
    bench = Store.open(path)
    with bench.alone(), pytest.raises(SystemExit, match="another process adds results"):
        main()
    bench.add(result(point(seed=1), [row(2.0)]))
    assert not Store.open(path).missing([point(seed=seed) for seed in range(2)])


def _with_a_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "results.jsonl"
    Store.open(path).add(result(point(seed=0), [row(1.0)]))
    monkeypatch.setattr("sys.argv", ["publish", str(folder)])
    return path
