"""``autellix replay`` from the command line."""

from pathlib import Path

import attrs
import pytest

from autellix.cli import ExitCode, main
from autellix.cli.replay import regrets
from autellix.workloads.generators import chat
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import write_trace
from tests.evaluation.builders import point, result, row, setup


def recording(folder: Path, *, arrivals: bool) -> str:
    """Return the path of a trace of four programs."""
    programs = [
        attrs.evolve(program, arrival_s=0.1 * number if arrivals else None)
        for number, program in enumerate(chat(4, seed=1).programs)
    ]
    path = folder / "recording.jsonl.gz"
    write_trace(path, Trace(source="s", program_class="chat", programs=programs))
    return str(path)


def test_regret_is_against_the_oracle() -> None:
    """Twice as long is a regret of 100 %; the oracle has none."""
    found = regrets(
        [
            result(point(policy=policy), [row(latency_s)])
            for policy, latency_s in (("fcfs", 4.0), ("plas", 3.0), ("srpt", 2.0))
        ]
    )
    ends = [line.split()[-2:] for line in found.splitlines()[1:]]
    assert ends == [["+100.0%", "+100.0%"], ["+50.0%", "+50.0%"], ["+0.0%", "+0.0%"]]


def test_regret_is_against_the_oracle_with_the_same_engines() -> None:
    """Another number of engines is another table."""
    found = regrets(
        [
            result(point(policy=policy, setup=setup(engines=n, slots=4)), [row(s)])
            for n, policy, s in (
                (1, "fcfs", 8.0),
                (1, "srpt", 4.0),
                (2, "fcfs", 3.0),
                (2, "srpt", 2.0),
            )
        ]
    )
    one, two = found.split("\n\n")
    assert one.startswith("chat, engines 1\n")
    assert one.splitlines()[2].endswith("+100.0%")
    assert two.splitlines()[2].endswith("+50.0%")


def test_each_balancer_has_an_oracle_of_its_own() -> None:
    """Regret is that of the order, not of the engine chosen."""
    found = regrets(
        [
            result(point(policy=policy, balancer=balancer), [row(s)])
            for balancer, policy, s in (
                ("round-robin", "fcfs", 8.0),
                ("round-robin", "srpt", 4.0),
                ("least-loaded", "fcfs", 3.0),
                ("least-loaded", "srpt", 2.0),
            )
        ]
    )
    one, two = found.split("\n\n")
    assert one.startswith("chat, balancer round-robin\n")
    assert one.splitlines()[2].endswith("+100.0%")
    assert two.splitlines()[2].endswith("+50.0%")


@pytest.mark.slow
@pytest.mark.parametrize("load", [None, "2.0"])
def test_a_recording_is_run_under_each_policy_and_the_oracle(
    load: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was recorded, or as dense as is asked for."""
    flags = ["--policy", "fcfs,atlas", "--slots", "2", "--out", str(tmp_path / "out")]
    flags += [] if load is None else ["--load", load]
    trace = recording(tmp_path, arrivals=load is None)
    assert main(["replay", trace, *flags]) == ExitCode.OK
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["policy", "fcfs", "atlas", "srpt"]
    assert printed[-1].endswith("+0.0%")
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "4 of 4 programs have no recorded arrival"),
        ("--load 0", "load must be above 0"),
        ("--load 1 --policy fcsf", "unknown policy 'fcsf'; did you mean 'fcfs'?"),
        ("--load 1 --kv-tokens 160", "4 of 4 programs of 'recording' do not fit"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do about it."""
    trace = recording(tmp_path, arrivals=False)
    assert main(["replay", trace, *flags.split()]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err


def test_files_that_are_no_recording_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are not there, and those that are something else."""
    assert main(["replay", str(tmp_path / "none.gz")]) == ExitCode.BAD_INPUT
    assert "there is no such file" in capsys.readouterr().err
    other = tmp_path / "other.gz"
    other.write_text("something else")
    assert main(["replay", str(other)]) == ExitCode.BAD_INPUT
    assert "other.gz" in capsys.readouterr().err
