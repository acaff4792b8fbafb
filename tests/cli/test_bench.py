"""``autellix bench`` from the command line."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autellix.cli import ExitCode, main
from autellix.evaluation import Result

SMALL = shlex.split(
    "--programs 3 --policies fcfs,plas --loads 0.5,2 --seeds 1 --slots 4"
)
COMMAND = [sys.executable, "-c", "import sys, autellix.cli as c; sys.exit(c.main())"]


def lines_in(folder: Path) -> list[str]:
    """Return the results that are kept."""
    path = folder / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_results_table_and_pictures_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And asked again, nothing is run again and the same is told."""
    out = tmp_path / "out"
    command = ["bench", *SMALL, "--out", str(out)]
    assert main(command) == ExitCode.OK
    printed = capsys.readouterr()
    assert "4 runs, 4 of them to do" in printed.err
    assert "| 2 | plas |" in printed.out
    assert shlex.join(["autellix", *command]) in printed.out
    assert (out / "table.md").read_text() + "\n" == printed.out
    assert {path.name for path in out.iterdir()} == {
        "results.jsonl",
        "table.md",
        "bench-1.png",
        "bench-1-timeline.png",
    }
    before = lines_in(out)
    assert main(command) == ExitCode.OK
    again = capsys.readouterr()
    assert "4 runs, 0 of them to do" in again.err
    assert again.out == printed.out
    assert lines_in(out) == before


@pytest.mark.slow
def test_without_jobs_it_shows_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables and pictures of runs that are there; none is run."""
    out = tmp_path / "out"
    assert main(["bench", *SMALL, "--out", str(out), "--jobs", "0"]) == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.err == f"there are no results of these runs in {out}\n"
    assert not out.exists()
    main(["bench", *SMALL, "--out", str(out)])
    before = lines_in(out)
    (out / "results.jsonl").write_text(f"{before[0]}\n")
    for picture in out.glob("*.png"):
        picture.unlink()
    capsys.readouterr()
    assert main(["bench", *SMALL, "--out", str(out), "--jobs", "0"]) == ExitCode.OK
    assert f"(1 of {len(before)} runs)" in capsys.readouterr().out
    assert lines_in(out) == before[:1]
    assert list(out.glob("*.png"))


@pytest.mark.slow
def test_interrupted_it_keeps_what_has_ended_and_goes_on_there(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes; none is left behind, and the code is 130."""
    out = tmp_path / "out"
    flags = "--programs 40 --policies fcfs,plas --loads 1,2 --seeds 8 --jobs 2"
    command = [*COMMAND, "bench", *shlex.split(flags), "--out", str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, start_new_session=True
    ) as process:
        assert process.stderr is not None
        before = b""
        while len(lines_in(out)) < 2:
            line = process.stderr.readline()  # one with each result
            assert line, before
            before += line
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INTERRUPTED, stderr
    kept = lines_in(out)
    assert 2 <= len(kept) < 32
    assert f"interrupted: {len(kept)} of 32 runs are done".encode() in stderr
    assert f"## bench ({len(kept)} of 32 runs)".encode() in stdout
    assert all(Result.from_line(line).rows for line in kept)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--loads 0", "load must be above 0, as a multiple of saturation: 0.0"),
        ("--policies plsa", "unknown policy 'plsa'; did you mean 'plas'?"),
        ("--balancers local-aware", "did you mean 'locality-aware'?"),
        ("--workload chatt", "unknown workload 'chatt'; did you mean 'chat'?"),
        ("--preset llama-8b-a10", "did you mean 'llama-8b-a100'?"),
        ("--gaps shel", "did you mean 'shell'?"),
        ("--config x.toml", "x.toml cannot be read"),
        ("--config x.toml --loads 1", "leave out what else says so: loads"),
        ("--kv-tokens 400", "of 200 programs of 'chat' do not fit"),
        ("--preset free --programs 2", "a load cannot be set: nothing saturates"),
        ("--arrivals recorded --programs 2", "no recorded arrival"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, and before anything is run."""
    out = tmp_path / "out"
    assert main(["bench", *flags.split(), "--out", str(out)]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not lines_in(out)


@pytest.mark.parametrize("flag", ["--loads=a", "--jobs=-1", "--arrivals=fish"])
def test_wrong_usage_shows_the_usage(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As every command does."""
    with pytest.raises(SystemExit) as caught:
        main(["bench", flag])
    assert caught.value.code == ExitCode.BAD_INPUT
    assert "usage: autellix bench" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is run whose results would be lost."""
    (tmp_path / "file").write_text("")
    command = ["bench", *SMALL, "--out", str(tmp_path / "file")]
    assert main(command) == ExitCode.BAD_INPUT
    assert "no results can be put there" in capsys.readouterr().err
