"""The demo's table: a column for each class of programs and policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from autellix.cli.demo.summary import ALL
from autellix.core.records import PreemptionKind, WaitReason

if TYPE_CHECKING:
    from autellix.cli.demo.summary import ClassSummary, TrialSummary

_Row: TypeAlias = tuple[str, "Callable[[ClassSummary], str]"]

_LABEL_WIDTH = 22
_WIDTH = 8
_UNEVEN = 1.25  # equal work on an idle machine differs by less


def table(trials: Sequence[TrialSummary]) -> str:
    """Return the numbers of all trials, side by side."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.classes))
    columns = [trial.classes.get(name) for name in names for trial in trials]
    titles = [f"{name} ({_programs(trials, name)})" for name in names]
    width = max(_WIDTH, *(len(title) // len(trials) + 1 for title in titles))
    lines = [
        _line("programs", titles, width * len(trials)),
        _line("", [trial.policy for _ in names for trial in trials], width),
    ]
    if not all(trial.is_complete for trial in trials):
        ended = [str(column.programs) if column else "0" for column in columns]
        lines.append(_line("programs ended", ended, width))
    for label, show in _rows(trials):
        cells = [show(column) if column else "-" for column in columns]
        lines.append(_line(label, cells, width))
    return "\n".join(lines)


def verdict(trials: Sequence[TrialSummary]) -> list[str]:
    """Say in words how each later trial compares with the first, gain or loss."""
    first, *others = trials
    lines = [
        f"{trial.policy}: all programs had ended after {trial.makespan_s:.1f} s"
        if trial.is_complete
        else f"{trial.policy}: not all programs ended; "
        f"those that did had after {trial.makespan_s:.1f} s"
        for trial in trials
    ]
    if not all(trial.is_complete for trial in trials):
        return lines
    speeds_s = [trial.classes[ALL].service_a_token_s for trial in trials]
    if max(speeds_s) > _UNEVEN * min(speeds_s):
        lines.append(
            "do not compare the trials: the engines themselves ran at different speeds "
            f"({min(speeds_s) * 1000:.0f} to {max(speeds_s) * 1000:.0f} ms a token), "
            "probably because something else used this machine"
        )
        return lines
    for trial in others:
        ratios = [
            f"{name} {one.latency_mean_s / first.classes[name].latency_mean_s:.2f}"
            for name, one in trial.classes.items()
        ]
        lines.append(
            f"mean program latency under {trial.policy}, as a multiple of that under "
            f"{first.policy}: {', '.join(ratios)}"
        )
    return lines


def _line(label: str, cells: Sequence[str], width: int) -> str:
    return label.ljust(_LABEL_WIDTH) + "".join(cell.rjust(width) for cell in cells)


def _programs(trials: Sequence[TrialSummary], name: str) -> int:
    return max(
        trial.classes[name].programs for trial in trials if name in trial.classes
    )


def _rows(trials: Sequence[TrialSummary]) -> list[_Row]:
    """Return the rows to show; reasons and kinds that never occurred are left out."""
    totals = [trial.classes[ALL] for trial in trials if ALL in trial.classes]
    waits = [
        reason.value
        for reason in WaitReason
        if any(total.wait_mean_s[reason.value] >= 0.005 for total in totals)
    ]
    kinds = [
        kind.value
        for kind in PreemptionKind
        if any(total.preemptions[kind.value] for total in totals)
    ]
    return [
        ("latency, mean s", lambda c: f"{c.latency_mean_s:.2f}"),
        ("latency, P95 s", lambda c: f"{c.latency_p95_s:.2f}"),
        ("s/token, mean", lambda c: f"{c.token_mean_s:.3f}"),
        ("calls' service s", lambda c: f"{c.service_mean_s:.2f}"),
        ("  a token, ms", lambda c: f"{1000 * c.service_a_token_s:.0f}"),
        *((f"calls' wait s: {why}", _wait_of(why)) for why in waits),
        *((f"preempted by {kind}", _preemptions_of(kind)) for kind in kinds),
        ("prefix hits", lambda c: f"{c.cached_tokens / c.prompt_tokens:.0%}"),
        ("output tokens", lambda c: f"{c.output_tokens}"),
    ]


def _wait_of(reason: str) -> Callable[[ClassSummary], str]:
    return lambda one: f"{one.wait_mean_s[reason]:.2f}"


def _preemptions_of(kind: str) -> Callable[[ClassSummary], str]:
    return lambda one: f"{one.preemptions[kind]}"
