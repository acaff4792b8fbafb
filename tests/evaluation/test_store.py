"""The file of results survives whatever ends a sweep."""

import lzma
import sys
from pathlib import Path

import attrs
import pytest

from autellix.errors import ConfigError
from autellix.evaluation import Store
from autellix.evaluation.point import Workload
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


def test_two_do_not_add_to_one_file_at_a_time(path: Path) -> None:
    """Both would run the same; who only looks may, and so may the next one."""
    store = Store.open(path)
    with store.alone():
        with pytest.raises(ConfigError, match="another process adds results to it"):
            Store.open(path)
        with pytest.raises(ConfigError, match="another folder"), store.alone():
            pass
        store.add(result(POINTS[2], [row(1.0)]))
        assert not Store.open(path, to_add=False).missing(POINTS)
    with Store.open(path).alone():
        pass


def test_a_later_line_of_a_point_counts(path: Path) -> None:
    """Two sweeps into one file, one after the other, do no harm."""
    Store.open(path).add(result(POINTS[0], [row(9.0)]))
    (found,) = Store.open(path).of(POINTS[:1])
    assert found.rows[0].latency_s == 9.0


def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    """Before anything is run."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no results can be put there"):
        Store.open(tmp_path / "file" / "results.jsonl")


def test_packed_results_are_there_as_if_they_were_not(path: Path) -> None:
    """And the same results make the same file, whatever the order they came in."""
    lines = path.read_text().splitlines(keepends=True)
    Store.open(path).pack()
    assert not path.exists()
    store = Store.open(path)
    packed = store.packed.read_bytes()
    assert store.missing(POINTS) == POINTS[2:]
    store.add(result(POINTS[2], [row(3.0)]))
    assert [one.point.seed for one in Store.open(path).of(POINTS)] == [0, 1, 2]
    store.packed.unlink()
    path.write_text("".join(reversed(lines)))
    Store.open(path).pack()
    assert path.with_name("results.jsonl.xz").read_bytes() == packed


@pytest.mark.parametrize("is_mix", [False, True], ids=["one", "mix"])
def test_packed_results_tell_no_folders(tmp_path: Path, is_mix: bool) -> None:
    """What is published is the same wherever it was run, keys and all."""
    part = {"source": "/home/me/traces/chats.jsonl.gz", "digest": "0123456789ab"}
    mix = {"source": "chats+tools", "mix": (part,)}
    workload = Workload(**(mix if is_mix else part))
    one = attrs.evolve(POINTS[0], workload=workload)
    store = Store.open(tmp_path / "results.jsonl")
    store.add(result(one, [row(1.0)]))
    store.pack()
    packed = lzma.decompress(store.packed.read_bytes()).decode()
    assert '"chats.jsonl.gz"' in packed
    assert "/home" not in packed
    assert not Store.open(store.path).missing([one])


def test_a_later_result_counts_more_than_a_packed_one(path: Path) -> None:
    """So that a run can be done again."""
    Store.open(path).pack()
    Store.open(path).add(result(POINTS[0], [row(9.0)]))
    (found,) = Store.open(path).of(POINTS[:1])
    assert found.rows[0].latency_s == 9.0


def test_a_packed_file_that_is_none_is_an_error(path: Path) -> None:
    """Not a reason to run it all again."""
    path.with_name("results.jsonl.xz").write_bytes(b"what?")
    with pytest.raises(ConfigError, match=r"results.jsonl.xz cannot be read"):
        Store.open(path)


def test_a_truncated_packed_file_is_an_error(path: Path) -> None:
    """Half of it is not all there is."""
    store = Store.open(path)
    store.pack()
    store.packed.write_bytes(store.packed.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"results.jsonl.xz cannot be read"):
        Store.open(path)


def test_what_comes_in_while_it_packs_is_kept(path: Path) -> None:
    """The file stays, and its results are there twice, which does no harm."""
    packing = Store.open(path, to_add=False)
    Store.open(path).add(result(POINTS[2], [row(3.0)]))
    packing.pack()
    assert path.exists()
    assert not Store.open(path).missing(POINTS)


def test_a_store_that_is_only_looked_at_writes_nothing(path: Path) -> None:
    """Half a line may be one that another process is about to end."""
    content = path.read_bytes()[:-40]
    path.write_bytes(content)
    assert Store.open(path, to_add=False).missing(POINTS) == POINTS[1:]
    assert path.read_bytes() == content
    nowhere = path.with_name("none") / "results.jsonl"
    assert Store.open(nowhere, to_add=False).missing(POINTS) == POINTS
    assert not nowhere.parent.exists()


def test_nothing_is_not_packed(tmp_path: Path) -> None:
    """A folder without results is a mistake in its name."""
    store = Store.open(tmp_path / "results.jsonl", to_add=False)
    with pytest.raises(ConfigError, match="there are no results in"):
        store.pack()
    assert not store.packed.exists()


def test_a_python_without_lzma_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are packed results, and only there."""
    monkeypatch.setitem(sys.modules, "lzma", None)
    store = Store.open(path)
    with pytest.raises(ConfigError, match="a Python with the module lzma"):
        store.pack()
    assert [left.name for left in path.parent.iterdir()] == [path.name]
