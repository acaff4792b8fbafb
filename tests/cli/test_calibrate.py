"""``autellix calibrate`` from the command line; simulated engines take no time."""

import os
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from autellix.backends.simulated import SMOLLM2_135M_CPU, SimulatedOptions
from autellix.backends.simulated.preset_file import read_preset
from autellix.backends.vllm import opening
from autellix.backends.vllm.environment import Installed
from autellix.cli import ExitCode, main

ENGINE = '[[engines]]\nbackend = "simulated"\nslots = 4\ncosts = "smollm2-135m-cpu"\n'
ASYNC_VLLM = '[[engines]]\nbackend = "vllm"\ndriver = "async"\n'
COMMAND = [sys.executable, "-c", "import sys, autellix.cli as c; sys.exit(c.main())"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a file of one simulated engine."""
    path = tmp_path / "engines.toml"
    path.write_text(ENGINE)
    return path


def calibrate(config: Path, out: Path, flags: str = "--longest 64 --rounds 1") -> int:
    """Run the command."""
    words = ["--config", str(config), "--out", str(out), *shlex.split(flags)]
    return main(["calibrate", *words])


@pytest.mark.slow
def test_a_file_of_costs_is_written_that_engines_take(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With how they were measured and how far off they are, and nothing beside it."""
    out = tmp_path / "mine.toml"
    assert calibrate(config, out) == ExitCode.OK
    printed = capsys.readouterr()
    assert "100%" in printed.err
    assert "relative error of points held out: median 0.0%" in printed.out
    told = tomllib.loads(out.read_text())
    assert read_preset(out).step_ns == pytest.approx(
        SMOLLM2_135M_CPU.step_ns, rel=0.002
    )
    assert told["measured"]["engine"]["slots"] == 4
    assert told["measured"]["clock"] == "wall"
    assert set(told["errors"]) == {"fitted", "held_out"}
    assert any(point["is_held_out"] for point in told["points"])
    assert {path.name for path in tmp_path.iterdir()} == {"engines.toml", "mine.toml"}
    assert SimulatedOptions(costs=str(out)).costs == read_preset(out)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("mine.json", "must end in .toml"),
        ("nowhere/mine.toml", "there is no folder"),
        ("folder.toml", "no file can be written there"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_told_first(
    out: str,
    said: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is loaded, let alone measured."""
    (tmp_path / "folder.toml").mkdir()
    assert calibrate(config, tmp_path / out) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert said in printed.err
    assert "measuring" not in printed.err


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        (
            ENGINE + ENGINE.replace("4", "8") + 'name = "b"\n',
            "",
            "engines[1] is not like engines[0]",
        ),
        (ENGINE + ENGINE + 'name = "b"\n', "--clock cpu", "cannot be told apart"),
        (ENGINE, "--clock cpu", "simulated steps take no CPU time"),
        (ASYNC_VLLM, "--clock cpu", "engines[0] takes its steps in another process"),
        (ENGINE + "kv_tokens = 64\n", "", "cannot be measured"),
        (ENGINE.replace("smollm2-135m-cpu", "free"), "--longest 64", "takes no time"),
        (ENGINE + "slost = 4\n", "", "did you mean 'slots'?"),
    ],
)
def test_engines_that_cannot_be_measured_are_told(
    text: str,
    flags: str,
    said: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And nothing is written."""
    config.write_text(text)
    out = tmp_path / "mine.toml"
    assert calibrate(config, out, f"{flags} --rounds 1") == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_where_vllm_would_run_is_asked_before_its_cpu_time_is_measured(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no driver is set, it has a process of its own unless it is a CPU build."""
    gpu = Installed(version="9.9", is_cpu=False)
    monkeypatch.setattr(opening, "prepare", lambda: gpu)
    config.write_text('[[engines]]\nbackend = "vllm"\n')
    out = tmp_path / "mine.toml"
    assert calibrate(config, out, "--clock cpu") == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "another process" in said
    assert "--clock wall" in said
    assert not out.exists()


@pytest.mark.slow
def test_interrupted_it_leaves_the_file_of_before(config: Path, tmp_path: Path) -> None:
    """A file of costs is whole or not there; the code is 130."""
    out = tmp_path / "mine.toml"
    out.write_text("of before")
    words = ["--config", str(config), "--out", str(out), "--rounds", "100000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, "calibrate", *words], stdout=pipe, stderr=pipe
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"round" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INTERRUPTED, stderr
    assert b"was not written" in stderr
    assert out.read_text() == "of before"
    assert {path.name for path in tmp_path.iterdir()} == {"engines.toml", "mine.toml"}
