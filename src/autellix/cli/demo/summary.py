"""The demo in numbers: both policies side by side, gains and losses alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.records import PreemptionKind, WaitReason

if TYPE_CHECKING:
    from autellix.cli.demo.trial import Trial
    from autellix.runtime import CallResult
    from autellix.runtime.recording import Track

ALL: Final = "all"
"""Stands for all classes of programs together."""


@attrs.frozen(kw_only=True)
class ClassSummary:
    """One class of programs under one policy; those that ended well.

    Attributes:
        programs: How many.
        latency_mean_s: From the arrival of a program to its end.
        latency_p95_s: Which 95 % of them do not exceed.
        token_mean_s: Latency of a program by the tokens it produced (s/token).
        wait_mean_s: What a program's calls waited in sum, by reason.
        service_mean_s: Engine time of a program's calls in sum.
        preemptions: By kind, in sum.
        prompt_tokens: In sum.
        cached_tokens: Of those, found in the engine's cache or its host pool.
        output_tokens: In sum.
    """

    programs: int
    latency_mean_s: float
    latency_p95_s: float
    token_mean_s: float
    wait_mean_s: Mapping[str, float]
    service_mean_s: float
    preemptions: Mapping[str, int]
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def service_a_token_s(self) -> float:
        """How fast calls were while they ran: their service by the tokens produced."""
        return self.service_mean_s * self.programs / max(self.output_tokens, 1)


@attrs.frozen(kw_only=True)
class TrialSummary:
    """The whole workload under one policy.

    Attributes:
        policy: Its name.
        is_complete: Whether every program ended well.
        makespan_s: From the first arrival to the last end.
        classes: By name of the class; ``all`` together at the end.
    """

    policy: str
    is_complete: bool
    makespan_s: float
    classes: Mapping[str, ClassSummary]


def summarize(trial: Trial) -> TrialSummary:
    """Return the numbers of a trial, complete or not."""
    ended = {
        program: track
        for program, track in trial.recording.tracks.items()
        if program in trial.calls and track.closed_s is not None
    }
    names = sorted({track.name for track in ended.values()})
    groups = {
        name: [program for program, track in ended.items() if track.name == name]
        for name in names
    }
    if ended:
        groups[ALL] = list(ended)
    ends_s = [track.closed_s or 0.0 for track in ended.values()]
    return TrialSummary(
        policy=trial.policy,
        is_complete=trial.is_complete,
        makespan_s=max(ends_s, default=0.0)
        - min((track.opened_s for track in ended.values()), default=0.0),
        classes={
            name: _summarize_class(
                [ended[program] for program in group],
                [trial.calls[program] for program in group],
            )
            for name, group in groups.items()
        },
    )


def _summarize_class(
    tracks: Sequence[Track], calls: Sequence[Sequence[CallResult]]
) -> ClassSummary:
    programs = len(tracks)
    latencies_s = [(track.closed_s or 0.0) - track.opened_s for track in tracks]
    output_tokens = [sum(c.report.output_tokens for c in made) for made in calls]
    reports = [call.report for made in calls for call in made]
    waits_s: defaultdict[WaitReason, float] = defaultdict(float)
    preemptions: Counter[PreemptionKind] = Counter()
    for report in reports:
        for reason, waited_s in report.wait_s.items():
            waits_s[reason] += waited_s
        preemptions.update(report.preemptions)
    return ClassSummary(
        programs=programs,
        latency_mean_s=sum(latencies_s) / programs,
        latency_p95_s=_p95(latencies_s),
        token_mean_s=sum(map(_ratio, latencies_s, output_tokens)) / programs,
        wait_mean_s={why.value: waits_s[why] / programs for why in WaitReason},
        service_mean_s=sum(report.service_s for report in reports) / programs,
        preemptions={kind.value: preemptions[kind] for kind in PreemptionKind},
        prompt_tokens=sum(report.prompt_tokens for report in reports),
        cached_tokens=sum(
            report.cached_device_tokens + report.cached_host_tokens
            for report in reports
        ),
        output_tokens=sum(output_tokens),
    )


def _ratio(latency_s: float, tokens: int) -> float:
    return latency_s / max(tokens, 1)


def _p95(values: Sequence[float]) -> float:
    """Return the smallest value that 95 % of the values do not exceed."""
    return sorted(values)[-(-95 * len(values) // 100) - 1]
