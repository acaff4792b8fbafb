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

import autellix
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
    assert printed.startswith("[0] 4\n[1] 5\n[2] 6\nprograms: 3 ended; mean")
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
    assert told["interrupted"] is False


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
    printed = capsys.readouterr().out
    assert "[1] failed: ValueError('bad luck')" in printed
    assert "programs: 3 ended (1 of them failed); mean" in printed
    assert run(folder, "--agents", "3", "--json") == ExitCode.FAILED
    outcomes = json.loads(capsys.readouterr().out)["outcomes"]
    assert [outcome["ok"] for outcome in outcomes] == [True, False, True]
    assert outcomes[1]["error"] == "ValueError('bad luck')"


def test_a_failure_is_told_with_its_traceback_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It begins in the user's file; failures in the same lines are counted."""
    text = """
async def agent(program, index):
    await program.generate("x", max_tokens=2)
    if index == 2:
        await program.generate("x", max_tokens=10**9)
    elif index:
        broken(index)

def broken(index):
    raise ValueError(f"bad luck {index}")
"""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder, "--agents", "5") == ExitCode.FAILED
    first, second = capsys.readouterr().err.split("[2] failed:\n")
    lines = first.splitlines()
    assert lines[:2] == [
        "[1] failed, and 2 more in the same way:",
        "Traceback (most recent call last):",
    ]
    assert lines[2] == f'  File "{folder / "mine.py"}", line 7, in agent'
    assert "ValueError: bad luck 1" in lines
    assert re.findall(r'File ".*/(.*)", line (\d+)', second) == [("mine.py", "5")]
    assert "CallRejected: call needs 1000000" in second
    assert run(folder, "--agents", "5", "--json") == ExitCode.FAILED
    assert "line 7, in agent" in capsys.readouterr().err


def test_a_main_that_fails_is_told_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user sees the line of the own file, and none of ours."""
    text = "async def main(runtime):\n    raise KeyError('gone')\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder) == ExitCode.FAILED
    told = capsys.readouterr().err
    assert re.findall(r'File ".*/(.*)", line (\d+)', told) == [("mine.py", "2")]


def test_errors_of_branches_and_causes_are_told_without_our_frames(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task group's errors, and what led to them, keep the lines of the file."""
    text = """
import anyio
async def main(runtime):
    async with anyio.create_task_group() as branches:
        branches.start_soon(branch, runtime)

async def branch(runtime):
    try:
        await runtime.generate("x", max_tokens=10**9)
    except Exception as error:
        raise ValueError("no luck") from error
"""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder) == ExitCode.FAILED
    told = capsys.readouterr().err
    lines = re.findall(r'File ".*/mine.py", line (\d+)', told)
    assert sorted(lines) == ["11", "4", "9"]
    assert str(Path(autellix.__file__).parent) not in told
    assert "CallRejected" in told
    assert "ValueError: no luck" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it defines: neither"),
        (
            "async def agent(p, i): pass\nasync def main(r): pass",
            "it defines: agent, main",
        ),
        (
            "\ndef agent(program, index): pass",
            "mine.py, line 2: agent is not async: write 'async def agent(",
        ),
        (
            "async def agent(program, index): yield 1",
            "mine.py, line 1: agent yields, and must return instead",
        ),
        (
            "async def agent(program): pass",
            "line 1: agent(program) cannot be called with (program, index): too many",
        ),
        (
            "async def main(): pass",
            (
                "main() cannot be called with (runtime): too many positional "
                "arguments; write 'async def main(runtime)'"
            ),
        ),
        (
            "\nimport nothing_of_that_name",
            "mine.py, line 2, cannot be imported: ModuleNotFoundError: No module",
        ),
        ("\n\nasync def", "mine.py, line 3, cannot be imported: SyntaxError: invalid"),
        (
            "\nimport broken_helper",
            "mine.py, line 2, cannot be imported: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_file_that_offers_nothing_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    """The message says what a file has to define, or which line fails and how."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    (folder / "broken_helper.py").write_text("\n\n\n1 / 0", encoding="utf-8")
    assert run(folder) == ExitCode.BAD_INPUT
    told = capsys.readouterr().err
    assert message in told
    assert ('broken_helper.py", line 4' in told) == ("broken_helper" in text)
    assert "agent_file.py" not in told
    assert "frozen" not in told


def test_a_script_with_a_plain_main_beside_its_agent_is_good(folder: Path) -> None:
    """Only what is asynchronous counts, so a file can be run in both ways."""
    (folder / "mine.py").write_text(AGENT + "def main(): pass\n", encoding="utf-8")
    assert run(folder) == ExitCode.OK


@pytest.mark.parametrize("option", ["--agents", "--limit"])
def test_a_main_is_not_counted(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """A number that would have no effect is wrong usage."""
    text = "async def main(runtime):\n    print('ran')\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")
    assert run(folder, option, "3") == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert f"{option} 3 is for files that define 'agent(program, index)'" in printed.err
    assert printed.out == ""


def test_a_file_that_is_not_there_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a missing file nor a folder nor another kind of file is run."""
    assert run(folder, file="other.py") == ExitCode.BAD_INPUT
    assert "no such file" in capsys.readouterr().err
    assert run(folder, file=".") == ExitCode.BAD_INPUT
    assert "is a folder: give the Python file to run" in capsys.readouterr().err
    assert run(folder, file="autellix.toml") == ExitCode.BAD_INPUT
    assert "not a Python file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["autellix", "statistics"])
def test_a_file_does_not_hide_what_others_import(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Under its own name it would stand in for this library, or the standard one."""
    (folder / f"{name}.py").write_text(AGENT, encoding="utf-8")
    assert run(folder, file=f"{name}.py") == ExitCode.BAD_INPUT
    assert f"hides the module {name!r}: rename the file" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("text", "who"),
    [
        (
            """
import anyio
async def agent(program, index):
    await program.generate("x", max_tokens=2)
    if index != 1:
        await anyio.Event().wait()
""",
            "agent 0, agent 2; programs: mine (0), mine (2)",
        ),
        (
            """
import anyio
async def main(runtime):
    async with runtime.program("done"), anyio.create_task_group() as tasks:
        pass
    async with runtime.program("own"):
        await anyio.Event().wait()
""",
            "main; programs: own (1)",
        ),
    ],
)
def test_a_deadlock_in_virtual_time_names_who_waits(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, who: str
) -> None:
    """One line instead of a traceback of the event loop; what was done is printed."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    counted = ["--agents", "3"] if "agent(" in text else []
    assert run(folder, *counted) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert "1 ended" in printed.out
    (line,) = [one for one in printed.err.splitlines() if one.startswith("autellix:")]
    assert "nothing is ready and no timer is set" in line
    assert line.endswith(f"still waiting in {folder / 'mine.py'}: {who}")
    assert "Traceback" not in printed.err
    assert run(folder, *counted, "--json") == ExitCode.FAILED
    assert "DeadlockError" in json.loads(capsys.readouterr().out)["error"]


HANGS = """
import sys
async def agent(program, index):
    if index == 0:
        return (await program.generate("a", max_tokens=2)).report.output_tokens
    print("waiting", file=sys.stderr, flush=True)
    await program.generate("b", max_tokens=8000, ignore_end=True)
"""
HANGS_IN_MAIN = """
import sys
async def main(runtime):
    async with runtime.program("first") as program:
        await program.generate("a", max_tokens=2)
    async with runtime.program("second") as program:
        print("waiting", file=sys.stderr, flush=True)
        await program.generate("b", max_tokens=8000, ignore_end=True)
"""


def interrupted(folder: Path, text: str, *options: str) -> tuple[str, str]:
    """Run a file until it says that it waits; return what it printed and said."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    command = "import sys; from autellix.cli import main; sys.exit(main(sys.argv[1:]))"
    config = ["--config", str(folder / "autellix.toml")]
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", command, "run", str(folder / "mine.py"), *config),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "waiting\n"
    os.kill(child.pid, signal.SIGINT)
    printed, said = child.communicate(timeout=120)
    assert child.returncode == ExitCode.INTERRUPTED, said
    return printed, said


@pytest.mark.slow
def test_ctrl_c_leaves_cleanly_with_what_was_done(folder: Path) -> None:
    """What the first agent returned is printed, though the second never ends."""
    printed, said = interrupted(folder, HANGS, "--agents", "2", "--limit", "1")
    assert "[0] 2\n" in printed
    assert "programs: 1 ended, 1 interrupted; mean" in printed
    assert re.search(r"calls: 1 finished, 1 cancelled, 0 failed; \d+ tokens", printed)
    assert "interrupted" in said
    assert "Traceback" not in said
    assert "Cut(" not in said


@pytest.mark.slow
def test_ctrl_c_in_a_main_counts_programs_too(folder: Path) -> None:
    """A program that the interruption closed has not ended; JSON has the flag."""
    told = json.loads(interrupted(folder, HANGS_IN_MAIN, "--json")[0])
    assert told["interrupted"] is True
    assert [(one["class"], one["interrupted"]) for one in told["programs"]] == [
        ("first", False),
        ("second", True),
    ]
    assert told["statistics"]["calls"]["cancelled"] == 1
