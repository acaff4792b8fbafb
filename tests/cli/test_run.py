"""``autellix run``: users' own files, and every way they can go wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from autellix.cli import ExitCode, main

CONFIG = '[[engines]]\nbackend = "simulated"\nname = "a"\n'
AGENT = """
async def agent(program, index):
    result = await program.generate(f"task {index}", max_tokens=4 + index)
    return len(result.token_ids)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a configuration and an agent file."""
    (tmp_path / "autellix.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "mine.py").write_text(AGENT, encoding="utf-8")
    return tmp_path


def run(folder: Path, *options: str, file: str = "mine.py") -> int:
    config = ["--config", str(folder / "autellix.toml")]
    return main(["run", str(folder / file), *config, "--virtual-time", *options])


def test_an_agent_is_run_as_often_as_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run is a program; what it returned is printed in order of the index."""
    assert run(folder, "--agents", "3", "--limit", "1") == ExitCode.OK
    printed = capsys.readouterr().out
    assert printed.startswith("[0] 4\n[1] 5\n[2] 6\nprograms: 3 ended")
    assert "calls: 3 finished, 0 cancelled, 0 failed; 15 tokens" in printed


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outcomes, programs and statistics, and nothing else on standard output."""
    (folder / "mine.py").write_text("print('loud')\n" + AGENT, encoding="utf-8")
    assert run(folder, "--agents", "2", "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert [outcome["value"] for outcome in told["outcomes"]] == [4, 5]
    assert all(outcome["ok"] for outcome in told["outcomes"])
    assert [program["class"] for program in told["programs"]] == ["mine", "mine"]
    assert told["statistics"]["output_tokens"] == 9
    assert told["error"] is None


def test_a_main_opens_programs_itself(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gets the runtime, and what it returns is printed."""
    text = """
import helper
async def main(runtime):
    async with runtime.program("own") as program:
        await program.generate("x", max_tokens=3)
    return helper.ANSWER
"""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    (folder / "helper.py").write_text("ANSWER = 'a set', {1}\n", encoding="utf-8")
    assert run(folder) == ExitCode.OK
    assert "('a set', {1})\n" in capsys.readouterr().out
    assert run(folder, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["value"] == "('a set', {1})"


def test_one_failure_leaves_the_others_and_the_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong is told beside what went well."""
    text = AGENT + "    if index == 1: raise ValueError('bad luck')\n"
    text = text.replace("return len(result.token_ids)\n", "pass\n")
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder, "--agents", "3") == ExitCode.FAILED
    assert "[1] failed: ValueError('bad luck')" in capsys.readouterr().out
    assert run(folder, "--agents", "3", "--json") == ExitCode.FAILED
    outcomes = json.loads(capsys.readouterr().out)["outcomes"]
    assert [outcome["ok"] for outcome in outcomes] == [True, False, True]
    assert outcomes[1]["error"] == "ValueError('bad luck')"


def test_a_main_that_fails_is_told_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user sees the line of the own file."""
    text = "async def main(runtime):\n    raise KeyError('gone')\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder) == ExitCode.FAILED
    assert re.search(r"mine\.py\", line 2", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it defines: neither"),
        ("def agent(program, index): pass", "it defines: neither"),
        (
            "async def agent(p, i): pass\nasync def main(r): pass",
            "it defines: agent, main",
        ),
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("async def", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_offers_nothing_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    """The message says what a file has to define, or why it cannot be imported."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a missing file nor another kind of file is run."""
    assert run(folder, file="other.py") == ExitCode.BAD_INPUT
    assert "no such file" in capsys.readouterr().err
    assert run(folder, file="autellix.toml") == ExitCode.BAD_INPUT
    assert "not a Python file" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra torch")
def test_virtual_time_is_refused_to_real_engines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real model computes in real time; the message shows the backend."""
    text = '[[engines]]\nbackend = "torch"\n'
    (folder / "autellix.toml").write_text(text, encoding="utf-8")
    assert run(folder) == ExitCode.BAD_INPUT
    message = "engines[0].backend: virtual time is for simulated engines: 'torch'"
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_cleanly_with_what_was_done(folder: Path) -> None:
    """What the first agent returned is printed, though the second never ends."""
    text = """
import sys
async def agent(program, index):
    if index == 0:
        return (await program.generate("a", max_tokens=2)).report.output_tokens
    print("waiting", file=sys.stderr, flush=True)
    await program.generate("b", max_tokens=8000, ignore_end=True)
"""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    command = "import sys; from autellix.cli import main; sys.exit(main(sys.argv[1:]))"
    config = ["--config", str(folder / "autellix.toml")]
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", command, "run", str(folder / "mine.py"), *config),
            *("--agents", "2", "--limit", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "waiting\n"
    os.kill(child.pid, signal.SIGINT)
    printed, said = child.communicate(timeout=30)
    assert child.returncode == ExitCode.INTERRUPTED, said
    assert "[0] 2\n" in printed
    assert "calls: 1 finished" in printed
    assert "interrupted" in said
    assert "Traceback" not in said
