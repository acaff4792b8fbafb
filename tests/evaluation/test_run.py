"""Sweeps are run in processes of their own, and taken up where they ended."""

import gc
import io
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from autellix.errors import ConfigError
from autellix.evaluation import (
    Point,
    Result,
    Store,
    run,
    run_missing,
    run_point,
    worker,
)
from autellix.evaluation.run import _Progress
from tests.evaluation.builders import point, result, row, setup

if TYPE_CHECKING:
    from autellix.evaluation.run import Progress

POINTS = [point(policy=policy, programs=3) for policy in ("fcfs", "plas", "atlas")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store.open(tmp_path / "results.jsonl")


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """Run points in this process, in a thread; return those that were run."""
    ran: list[Point] = []

    async def run_all(points: Iterator[Point], progress: _Progress) -> None:
        for of in points:
            ran.append(of)
            progress.add(await anyio.to_thread.run_sync(run_point, of))

    monkeypatch.setattr(run, "_run_all", run_all)
    return ran


@pytest.mark.slow
def test_results_of_other_processes_are_those_of_this_one(store: Store) -> None:
    """And all of them are stored."""
    anyio.run(partial(run_missing, POINTS, store, jobs=2, tell=lambda _: None))
    assert store.missing(POINTS) == []
    for found in store.of(POINTS):
        assert found.outcome() == run_point(found.point).outcome()


async def test_what_has_a_result_is_not_run_again(
    store: Store, at_home: list[Point]
) -> None:
    """A second run does what the first did not."""
    store.add(result(POINTS[1], [row()]))
    told: list[Progress] = []
    await run_missing([*POINTS, POINTS[0]], store, jobs=1, tell=told.append)
    assert sorted(of.key for of in at_home) == sorted((POINTS[0].key, POINTS[2].key))
    assert [(one.done, one.total) for one in told] == [(2, 3), (3, 3)]
    assert told[-1].left_s == 0.0
    at_home.clear()
    await run_missing(POINTS, store, jobs=1, tell=told.append)
    assert not at_home


async def test_nothing_is_run_where_something_cannot_be(
    store: Store, at_home: list[Point]
) -> None:
    """It is said before the first run, not after the last."""
    too_small = point(setup=setup(slots=4, kv_tokens=160))
    with pytest.raises(ConfigError, match="do not fit"):
        await run_missing([*POINTS, too_small], store, jobs=1, tell=lambda _: None)
    assert not at_home


async def test_what_another_process_runs_is_not_run_twice(
    store: Store, at_home: list[Point]
) -> None:
    """Started twice, the second says so at once."""
    with store.alone(), pytest.raises(ConfigError, match="another process"):
        await run_missing(POINTS, store, jobs=1, tell=lambda _: None)
    assert not at_home


async def test_cancelled_it_keeps_what_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way is given up."""

    async def run_all(points: Iterator[Point], progress: _Progress) -> None:
        for of in points:
            if of is POINTS[1]:
                scope.cancel()
                await anyio.sleep_forever()
            progress.add(result(of, [row()]))

    monkeypatch.setattr(run, "_run_all", run_all)
    with anyio.CancelScope() as scope:
        await run_missing(POINTS, store, jobs=2, tell=lambda _: None)
    assert Store.open(store.path).missing(POINTS) == [POINTS[1]]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit(1)", "its process died"),
        ("input(); print('{', end='')", "its process died"),
        ("""input(); print('{"error": "no luck"}')""", "no luck"),
    ],
)
async def test_a_run_that_fails_does_not_stop_the_others(
    program: str, said: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told which it was, and it can be run again."""
    monkeypatch.setattr(run, "COMMAND", (sys.executable, "-c", program))
    failures = await run_missing(POINTS, store, jobs=1, tell=lambda _: None)
    assert [failure.split(":")[0] for failure in failures] == [
        f"{policy} on chat at load 1, seed 0" for policy in ("fcfs", "plas", "atlas")
    ]
    assert all(said in failure for failure in failures)
    assert store.missing(POINTS) == POINTS


def test_a_worker_tells_errors_of_ours_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One point that cannot be run is no reason to lose the process."""
    too_small = point(setup=setup(slots=4, kv_tokens=160))
    lines = [json.dumps(of.to_json()) + "\n" for of in (too_small, POINTS[0])]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    worker.main()
    error, told = capsys.readouterr().out.splitlines()
    assert "do not fit" in json.loads(error)[worker.ERROR]
    assert Result.from_line(told).point == POINTS[0]
