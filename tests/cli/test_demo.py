"""The demo, end to end on simulated engines: table, picture, JSON, interruption."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autellix.cli import ExitCode, main
from autellix.cli.demo import command, engines
from autellix.cli.demo import trial as trial_module
from autellix.cli.demo.agents import run_agent
from autellix.cli.demo.workload import make_workload

pytestmark = pytest.mark.slow  # each runs 64 agents and draws

SIMULATED = ["demo", "--backend", "simulated"]


def test_the_demo_prints_a_table_and_draws_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both policies stand side by side, and a PNG file of some size is left."""
    assert main([*SIMULATED, "--out", str(tmp_path / "new")]) == ExitCode.OK
    printed = capsys.readouterr()
    for word in ("chat (16)", "react (8)", "tree (8)", "all (32)", "s/token", "slots"):
        assert word in printed.out
    assert max(map(len, printed.out.split("\n")[:12])) <= 88
    picture = (tmp_path / "new" / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000
    assert "ATLAS: 32 programs on 2 engines" in printed.err


def test_the_demo_in_json_says_the_same_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is one object, equal in every run of one seed."""
    told: list[dict[str, Any]] = []
    for _ in range(2):
        assert main([*SIMULATED, "--json", "--out", str(tmp_path)]) == ExitCode.OK
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["interrupted"] is False
    assert told[0]["picture"] == str(tmp_path / "demo.png")
    fcfs, atlas = told[0]["trials"]
    assert (fcfs["policy"], atlas["policy"]) == ("FCFS", "ATLAS")
    assert fcfs["is_complete"]
    assert atlas["is_complete"]
    for trial in (fcfs, atlas):
        assert set(trial["classes"]) == {"chat", "react", "tree", "all"}
        together = trial["classes"]["all"]
        parts = [trial["classes"][name] for name in ("chat", "react", "tree")]
        for count in ("programs", "output_tokens", "prompt_tokens", "cached_tokens"):
            assert together[count] == sum(part[count] for part in parts)
        assert together["latency_mean_s"] <= together["latency_p95_s"]
        assert together["wait_mean_s"]["slots"] > 0


def test_both_policies_do_the_same_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replies have fixed lengths, so tokens are equal class by class."""
    main([*SIMULATED, "--json", "--out", str(tmp_path), "--seed", "3"])
    fcfs, atlas = json.loads(capsys.readouterr().out)["trials"]
    for name, one in fcfs["classes"].items():
        assert one["output_tokens"] == atlas["classes"][name]["output_tokens"]
        assert one["prompt_tokens"] == atlas["classes"][name]["prompt_tokens"]
    assert fcfs["classes"]["all"]["preemptions"] == {"pause": 0, "swap": 0, "drop": 0}
    assert sum(atlas["classes"]["all"]["preemptions"].values()) > 0


def test_a_seed_is_a_workload() -> None:
    """Equal seeds give equal tasks and arrivals, others give others."""
    assert make_workload(1) == make_workload(1)
    assert make_workload(1) != make_workload(2)
    arrivals = [task.arrives_s for task in make_workload(1)]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] == 0.0


def test_interrupted_it_prints_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the second trial leaves the table of the first, no picture."""
    runs: list[Sequence[object]] = []
    run = command._run

    def run_once(*arguments: Any) -> None:
        runs.append(arguments)
        if len(runs) == 2:
            raise KeyboardInterrupt
        run(*arguments)

    monkeypatch.setattr(command, "_run", run_once)
    assert main([*SIMULATED, "--out", str(tmp_path)]) == ExitCode.INTERRUPTED
    printed = capsys.readouterr()
    assert "all (32)" in printed.out
    assert "FCFS" in printed.out
    assert "ATLAS" not in printed.out
    assert "had ended by then: 32 of 32 under FCFS, 0 of 32 under ATLAS" in printed.err
    assert not (tmp_path / "demo.png").exists()


def test_interrupted_in_a_trial_its_column_says_how_many_had_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that Ctrl-C closed are not among them; JSON has the flag."""
    ended: list[int] = []

    async def interrupt_after_40(*arguments: Any) -> Any:
        results = await run_agent(*arguments)
        ended.append(1)
        if len(ended) == 40:
            signal.raise_signal(signal.SIGINT)
        return results

    monkeypatch.setattr(trial_module, "run_agent", interrupt_after_40)
    assert main([*SIMULATED, "--out", str(tmp_path)]) == ExitCode.INTERRUPTED
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    (line,) = (one for one in lines if one.startswith("programs ended"))
    assert line.split()[-2:] == ["32", "8"]
    assert "8 of 32 under ATLAS" in printed.err
    assert "Cut(" not in printed.err
    ended.clear()
    arguments = [*SIMULATED, "--json", "--out", str(tmp_path)]
    assert main(arguments) == ExitCode.INTERRUPTED
    told = json.loads(capsys.readouterr().out)
    assert told["interrupted"] is True
    assert told["trials"][1]["classes"]["all"]["programs"] == 8
    assert told["picture"] is None


@pytest.mark.parametrize("as_json", [False, True])
def test_interrupted_while_drawing_nothing_is_lost(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    as_json: bool,
) -> None:
    """The table is printed before the picture is begun."""
    printed_before: list[str] = []

    def interrupt(*_: Any) -> None:
        printed_before.append(capsys.readouterr().out)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "draw", interrupt)
    options = ["--json"] if as_json else []
    arguments = [*SIMULATED, "--out", str(tmp_path), *options]
    assert main(arguments) == ExitCode.INTERRUPTED
    printed = capsys.readouterr()
    assert "interrupted while drawing" in printed.err
    if as_json:
        told = json.loads(printed.out)
        assert len(told["trials"]) == 2
        assert told["interrupted"] is True
    else:
        assert "all (32)" in printed_before[0]


@pytest.mark.parametrize("taken", ["out", "out/demo.png"])
def test_a_folder_that_cannot_be_written_fails_before_anything_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    taken: str,
) -> None:
    """Minutes of trials are not spent on a picture that has no place."""
    if taken == "out":
        (tmp_path / "out").write_text("a file", encoding="utf-8")
    else:
        (tmp_path / taken).mkdir(parents=True)
    monkeypatch.setattr(command, "_run", pytest.fail)
    out = tmp_path / "out"
    assert main([*SIMULATED, "--out", str(out)]) == ExitCode.BAD_INPUT
    told = capsys.readouterr().err
    assert told.startswith(f"autellix: --out {out}: no picture can be put there: ")


def test_interrupted_at_once_it_prints_nothing_of_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing has ended there is nothing to show."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run", interrupt)
    assert main([*SIMULATED, "--out", str(tmp_path)]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().out == ""


def test_without_matplotlib_there_is_a_table_and_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is optional; the message names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert main([*SIMULATED, "--out", str(tmp_path)]) == ExitCode.OK
    printed = capsys.readouterr()
    assert "all (32)" in printed.out
    assert "pip install 'autellix[plot]'" in printed.err


def test_a_program_that_fails_is_told_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines too small for a call refuse it; the others go on, the exit code is 1."""
    monkeypatch.setattr(engines, "_KV_TOKENS", 128)
    assert main([*SIMULATED, "--out", str(tmp_path)]) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert "ATLAS: a program failed: call needs" in printed.err
    assert "all (" in printed.out
