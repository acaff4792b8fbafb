"""Arguments for vLLM in a configuration file, as the command line sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from autellix.cli import ExitCode, main

TYPOS = """\
[[engines]]
backend = "vllm"
name = "good"
engine_args = { seed = 3 }
[[engines]]
backend = "vllm"
name = "bad"
engine_args = { gpu_memory_utilisation = 0.5, enforce_eagre = true }
"""
FAULTS = [
    (
        "engine_args.gpu_memory_utilisation: vLLM has no such argument, with value "
        "0.5; did you mean 'gpu_memory_utilization'?"
    ),
    (
        "engine_args.enforce_eagre: vLLM has no such argument, with value True; "
        "did you mean 'enforce_eager'?"
    ),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with two typos, and an agent beside it."""
    path = tmp_path / "engines.toml"
    path.write_text(TYPOS)
    (tmp_path / "agent.py").write_text("async def agent(program, index): ...\n")
    return path


def test_config_check_tells_all_that_this_vllm_does_not_know(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, each with its path, its value and the nearest that there is."""
    assert main(["config", "check", str(file)]) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-3:] == [
        f"autellix: engines[1].{FAULTS[0]}",
        f"  also: engines[1].{FAULTS[1]}",
        f"  in {file}",
    ]


def test_config_check_takes_what_this_vllm_knows(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And then says nothing but that the file is good."""
    engines = TYPOS.split("[[engines]]\n")
    file.write_text(f"[[engines]]\n{engines[1]}")
    assert main(["config", "check", str(file)]) == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out.startswith(f"# {file}: good; ")
    assert "not checked" not in printed.err


def test_run_tells_the_same_without_a_traceback(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any model is loaded, with the engine that they are of."""
    engines = TYPOS.split("[[engines]]\n")
    file.write_text(f"[[engines]]\n{engines[2]}")
    agent = str(file.with_name("agent.py"))
    assert main(["run", agent, "--config", str(file)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.splitlines()[-3:] == [
        f"autellix: {FAULTS[0]}",
        f"  also: {FAULTS[1]}",
        "  of engine 'bad'",
    ]
