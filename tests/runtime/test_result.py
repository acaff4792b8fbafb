"""What a result says of its times: nothing between runtime and engine is lost."""

import attrs
import pytest

from autellix.core.records import CallReport, Outcome, ProgramDelta, WaitReason
from autellix.runtime.result import ResultReport, result_report

S = 10**9

REPORT = CallReport(
    call_id=0,
    program_id=0,
    outcome=Outcome.FINISHED,
    submitted_ns=10 * S,
    ended_ns=20 * S,
    first_token_ns=15 * S,
    inherited_ns=2 * S,
    service_ns=4 * S,
    work_ns=3 * S,
    wait_ns={WaitReason.SLOTS: 5 * S, WaitReason.ROUND: 1 * S},
    prompt_tokens=7,
    cached_device_tokens=3,
    cached_host_tokens=2,
    output_tokens=5,
    computed_tokens=12,
    preemptions={},
    level=1,
    program=ProgramDelta(),
)


def of(submitted_s: int, intake_s: int = 0) -> ResultReport:
    """Return the report of a call the engine got at 10 s."""
    return result_report(
        REPORT, engine="e", submitted_ns=submitted_s * S, intake_ns=intake_s * S
    )


def passed_s(report: ResultReport) -> float:
    """Return the time from submission to end."""
    return report.ended_s - report.submitted_s


@pytest.mark.parametrize(
    ("submitted_s", "intake_s", "wait_s"),
    [
        (10, 0, {"slots": 5, "round": 1}),
        (7, 0, {"slots": 5, "round": 1 + 3}),
        (7, 3, {"slots": 5, "round": 1, "intake": 3}),
        (7, 1, {"slots": 5, "round": 1 + 2, "intake": 1}),
    ],
    ids=["at once", "handed over", "waited", "waited and handed over"],
)
def test_what_passes_before_the_engine_has_the_call_is_waited(
    submitted_s: int, intake_s: int, wait_s: dict[str, float]
) -> None:
    """A9: in the queue it is ``intake``, on the way it is ``round``; the sum holds."""
    report = of(submitted_s, intake_s)
    assert report.wait_s == wait_s
    assert report.service_s + sum(report.wait_s.values()) == passed_s(report)


def test_an_engine_that_looked_at_the_clock_earlier_gives_no_negative_wait() -> None:
    """Its clock may be behind by the length of a step that has ended meanwhile."""
    assert of(11).wait_s == {"slots": 5, "round": 1}


def test_what_the_engine_says_is_in_the_report_in_seconds() -> None:
    """Nothing is left out, and instants stay instants of the loop's clock."""
    assert attrs.asdict(of(10)) == {
        "engine": "e",
        "submitted_s": 10.0,
        "first_token_s": 15.0,
        "ended_s": 20.0,
        "wait_s": {WaitReason.SLOTS: 5.0, WaitReason.ROUND: 1.0},
        "service_s": 4.0,
        "work_s": 3.0,
        "inherited_s": 2.0,
        "prompt_tokens": 7,
        "cached_device_tokens": 3,
        "cached_host_tokens": 2,
        "output_tokens": 5,
        "computed_tokens": 12,
        "preemptions": {},
        "level": 1,
    }
