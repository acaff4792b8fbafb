"""The file of results survives whatever ends a sweep."""

from pathlib import Path

import pytest

from autellix.errors import ConfigError
from autellix.evaluation import Store
from tests.evaluation.builders import point, result, row

POINTS = [point(seed=seed) for seed in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with the results of two of three points."""
    path = tmp_path / "deep" / "results.jsonl"
    store = Store.open(path)
    for one in POINTS[:2]:
        store.add(result(one, [row(1.0 + one.seed)]))
    return path


def test_what_is_stored_is_not_missing(path: Path) -> None:
    """Also for another store that opens the file."""
    store = Store.open(path)
    assert store.missing([*POINTS, POINTS[2]]) == [POINTS[2]]
    assert [one.point.seed for one in store.of(reversed(POINTS))] == [1, 0]


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_line_cut_in_the_middle_is_dropped(path: Path, cut: int) -> None:
    """What is before it is kept, and what comes after goes on a line of its own."""
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    store = Store.open(path)
    assert store.missing(POINTS) == POINTS[1:]
    store.add(result(POINTS[1], [row(2.0)]))
    assert path.read_bytes() == content


def test_a_damaged_line_is_an_error_with_its_number(path: Path) -> None:
    """Nothing is run over again because a file could not be read."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, "what?\n"]))
    with pytest.raises(ConfigError, match=r"results.jsonl:3: .*move the file away"):
        Store.open(path)


def test_a_later_line_of_a_point_counts(path: Path) -> None:
    """Two sweeps into one file do no harm."""
    Store.open(path).add(result(POINTS[0], [row(9.0)]))
    (found,) = Store.open(path).of(POINTS[:1])
    assert found.rows[0].latency_s == 9.0


def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    """Before anything is run."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no results can be put there"):
        Store.open(tmp_path / "file" / "results.jsonl")
