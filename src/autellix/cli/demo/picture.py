"""The demo's picture: who ran, waited and was preempted when; who ended when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autellix.cli.demo.summary import ALL
from autellix.evaluation.canvas import canvas
from autellix.runtime.recording import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from autellix.cli.demo.summary import TrialSummary
    from autellix.cli.demo.trial import Trial
    from autellix.runtime.recording import Track

# Okabe and Ito's colours, which can be told apart whatever one's eyes see of colour.
_COLOURS: Final[Mapping[State, str]] = {
    State.RUNNING: "#0072B2",
    State.PREEMPTED: "#D55E00",
    State.WAITING: "#CFCFCF",
    State.THINKING: "#FFFFFF",
}
_LABELS: Final[Mapping[State, str]] = {
    State.RUNNING: "a call runs",
    State.PREEMPTED: "none runs, one is preempted",
    State.WAITING: "all wait",
    State.THINKING: "no call: tool or user",
}
_POLICY_COLOURS: Final = ("#000000", "#009E73", "#CC79A7", "#56B4E9")
_POLICY_STYLES: Final = ("--", "-", "-.", ":")
_BAR = 0.8


def draw(
    trials: Sequence[Trial], summaries: Sequence[TrialSummary], title: str, path: Path
) -> None:
    """Draw trials into a PNG file.

    Above, a line a program and policy, by class and arrival: blue runs, grey waits,
    orange is preempted, white is the agent's own time; a dot is its end. Below, the
    share of programs that have ended by a time, and the mean latency by class.
    ``MissingExtra`` if matplotlib is not installed.
    """
    with canvas(path, size=(12, 8.5)) as figure:
        figure.suptitle(title, fontsize=13)
        grid = figure.add_gridspec(2, len(trials) * 2, height_ratios=(5, 3))
        timelines = [
            figure.add_subplot(grid[0, 2 * i : 2 * i + 2]) for i in range(len(trials))
        ]
        end_s = max(map(_length_s, trials))
        for axes, trial in zip(timelines, trials, strict=True):
            _draw_timeline(axes, trial, end_s)
        figure.legend(
            *timelines[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=5,
        )
        _draw_completion(figure.add_subplot(grid[1, : len(trials)]), trials)
        _draw_latencies(figure.add_subplot(grid[1, len(trials) :]), summaries)


def _tracks(trial: Trial) -> list[Track]:
    return list(trial.recording.tracks.values())


def _began_s(trial: Trial) -> float:
    return min((track.opened_s for track in _tracks(trial)), default=0.0)


def _length_s(trial: Trial) -> float:
    ends_s = [span.end_s for track in _tracks(trial) for span in track.spans]
    return max(ends_s, default=0.0) - _began_s(trial)


def _draw_timeline(axes: Axes, trial: Trial, end_s: float) -> None:
    """Draw a row a program: classes in blocks, in each the first to arrive on top."""
    tracks = sorted(_tracks(trial), key=lambda track: (track.name, track.opened_s))
    began_s = _began_s(trial)
    for state, colour in _COLOURS.items():
        for row, track in enumerate(tracks):
            spans = [
                (span.start_s - began_s, span.end_s - span.start_s)
                for span in track.spans
                if span.state is state
            ]
            label = _LABELS[state] if row == 0 else None
            axes.broken_barh(
                spans,
                (row - _BAR / 2, _BAR),
                facecolors=colour,
                edgecolors="#BBBBBB" if state is State.THINKING else colour,
                linewidth=0.5,
                label=label,
            )
    ends = [
        (track.closed_s - began_s, row)
        for row, track in enumerate(tracks)
        if track.closed_s is not None
    ]
    if ends:
        xs, ys = zip(*ends, strict=True)
        axes.scatter(xs, ys, s=9, color="black", label="end of program", zorder=3)
    names = [track.name for track in tracks]
    blocks = list(dict.fromkeys(names))
    for name in blocks[1:]:
        axes.axhline(names.index(name) - 0.5, color="black", linewidth=0.6)
    middles = [names.index(name) + (names.count(name) - 1) / 2 for name in blocks]
    axes.set_yticks(middles, blocks, fontsize=11)
    axes.tick_params(axis="y", length=0)
    axes.set(
        title=trial.policy,
        xlabel="seconds since the first arrival",
        xlim=(0, end_s * 1.02),
        ylim=(len(tracks) - 0.5, -0.5),
    )


def _draw_completion(axes: Axes, trials: Sequence[Trial]) -> None:
    for index, trial in enumerate(trials):
        ends_s = sorted(
            track.closed_s - _began_s(trial)
            for track in _tracks(trial)
            if track.closed_s is not None
        )
        shares = [count / trial.programs for count in range(len(ends_s) + 1)]
        axes.step(
            [0.0, *ends_s],
            shares,
            where="post",
            label=trial.policy,
            color=_POLICY_COLOURS[index % len(_POLICY_COLOURS)],
            linestyle=_POLICY_STYLES[index % len(_POLICY_STYLES)],
        )
    axes.set(
        title="programs that have ended",
        xlabel="seconds since the first arrival",
        ylabel="share of all",
        ylim=(0, 1.02),
        xlim=(0, None),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _draw_latencies(axes: Axes, summaries: Sequence[TrialSummary]) -> None:
    """Draw the mean latency of each class, a bar a policy."""
    names = list(dict.fromkeys(name for one in summaries for name in one.classes))
    names.sort(key=lambda name: (name == ALL, name))
    width = _BAR / len(summaries)
    for index, summary in enumerate(summaries):
        means_s = [
            summary.classes[name].latency_mean_s if name in summary.classes else 0.0
            for name in names
        ]
        places = [place + (index + 0.5) * width for place in range(len(names))]
        bars = axes.bar(
            places,
            means_s,
            width,
            label=summary.policy,
            color=_POLICY_COLOURS[index % len(_POLICY_COLOURS)],
            alpha=0.75,
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=9)
    axes.set_xticks([place + _BAR / 2 for place in range(len(names))], names)
    axes.set(title="mean program latency, seconds")
    axes.margins(y=0.25)  # room for the legend
    axes.legend(loc="upper right", ncols=len(summaries))
