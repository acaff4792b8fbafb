"""The table and what is said of it in words: gains and losses alike."""

from typing import Any

import attrs

from autellix.cli.demo.summary import ClassSummary, TrialSummary
from autellix.cli.demo.table import table, verdict
from autellix.core.records import WaitReason

ONE = ClassSummary(
    programs=2,
    latency_mean_s=4.0,
    latency_p95_s=6.0,
    token_mean_s=0.25,
    wait_mean_s={reason.value: 0.0 for reason in WaitReason},
    service_mean_s=3.0,
    preemptions={"pause": 0, "swap": 0, "drop": 0},
    prompt_tokens=10,
    cached_tokens=5,
    output_tokens=20,
)


def trial(policy: str, **changes: Any) -> TrialSummary:
    one = attrs.evolve(ONE, **changes)
    return TrialSummary(
        policy=policy,
        is_complete=True,
        makespan_s=9.0,
        classes={"chat": one, "all": one},
    )


def test_a_loss_is_said_as_plainly_as_a_gain() -> None:
    """The multiple is of the first policy, above one or below."""
    told = verdict(
        [trial("A"), trial("B", latency_mean_s=6.0), trial("C", latency_mean_s=2.0)]
    )
    assert told[0] == "A: all programs had ended after 9.0 s"
    assert told[3].endswith(
        "under B, as a multiple of that under A: chat 1.50, all 1.50"
    )
    assert told[4].endswith(
        "under C, as a multiple of that under A: chat 0.50, all 0.50"
    )
    assert len(told) == 5


def test_trials_at_different_speeds_are_not_to_be_compared() -> None:
    """When running calls were slower in one trial, that was not the policy's doing."""
    told = verdict([trial("A"), trial("B", service_mean_s=4.0)])
    assert told[-1].startswith("do not compare the trials: ")
    assert "(300 to 400 ms a token)" in told[-1]
    assert not any("multiple" in line for line in told)


def test_what_is_not_complete_is_not_compared() -> None:
    """Those that have ended first are not like the others."""
    partial = attrs.evolve(trial("B"), is_complete=False)
    assert verdict([trial("A"), partial]) == [
        "A: all programs had ended after 9.0 s",
        "B: not all programs ended; those that did had after 9.0 s",
    ]


def test_reasons_and_kinds_that_never_occurred_are_left_out() -> None:
    """A row is shown when it is not zero in one of the trials."""
    waits = {**ONE.wait_mean_s, "paused": 1.5}
    kinds = {**ONE.preemptions, "swap": 2}
    plain = table([trial("A"), trial("B")])
    full = table([trial("A"), trial("B", wait_mean_s=waits, preemptions=kinds)])
    assert "wait" not in plain
    assert "preempted" not in plain
    assert "calls' wait s: paused     0.00    1.50" in full
    assert "preempted by swap            0       2" in full
    assert "prefix hits                50%     50%" in full


def test_a_class_missing_from_a_trial_is_a_dash() -> None:
    """So it is when a trial was interrupted before one of its programs ended."""
    partial = attrs.evolve(trial("B"), is_complete=False, classes={"all": ONE})
    rows = table([trial("A"), partial]).splitlines()
    assert rows[2].split() == ["programs", "ended", "2", "0", "2", "2"]
    assert rows[3].split() == ["latency,", "mean", "s", "4.00", "-", "4.00", "4.00"]
