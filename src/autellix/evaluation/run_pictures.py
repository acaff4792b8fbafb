"""Pictures of single runs: what programs did when, and what was learned of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autellix.evaluation.canvas import COLOURS, canvas
from autellix.runtime.recording import Span, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from autellix.evaluation.result import Result
    from autellix.policies.gittins import LearnedRow

_RUNS: Final = "a call runs"
_STATES: Final[Mapping[State, tuple[str, str]]] = {
    State.WAITING: ("#C4C4C4", "all wait"),
    State.PREEMPTED: ("#D55E00", "none runs, one is preempted"),
    State.THINKING: ("#F0E442", "no call: tool or user"),
    State.RUNNING: ("#0072B2", _RUNS),
}
_MOST_CLASSES: Final = 6


def draw_timeline(
    results: Sequence[tuple[str, Result]], title: str, path: Path
) -> None:
    """Draw one run of each policy: a line a program, from its arrival to its end.

    Its colour says what the program was doing; where the result does not tell, it has
    one colour. Classes are blocks, each in order of arrival. Without matplotlib
    ``MissingExtra``.
    """
    with canvas(path, size=(13, 6)) as figure:
        figure.suptitle(title, fontsize=13)
        panels = figure.subplots(
            1, len(results), sharex=True, sharey=True, squeeze=False
        )
        for axes, (policy, result) in zip(panels[0], results, strict=True):
            _draw_programs(axes, result)
            axes.set(title=policy, xlabel="seconds since the first arrival")
        panels[0][0].invert_yaxis()
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def draw_lessons(results: Sequence[tuple[str, Result]], title: str, path: Path) -> None:
    """Draw what policies had learned of each class at the end of a run.

    Above the share of programs that go on past an age, below the rank at that age (the
    index, as the size for certain that would be as good a choice: low goes first), and
    in the legend how many ends it rests on. Ages are seconds of work, drawn as far as
    one program in a thousand goes. Without matplotlib ``MissingExtra``.

    Args:
        results: Of policies that learn, by how they are called.
        title: Stands above.
        path: Of the PNG file.
    """
    learned = [
        (policy, result.lessons.table())
        for policy, result in results
        if result.lessons is not None
    ]
    names = sorted({name for _, table in learned for name in table.rows})
    columns = [*names[:_MOST_CLASSES], *([] if names else [""])]
    with canvas(path, size=(max(5.0, 4.0 * len(columns)), 7)) as figure:
        figure.suptitle(title, fontsize=13)
        panels = figure.subplots(2, len(columns), sharex="col", squeeze=False)
        for column, name in enumerate(columns):
            above, below = panels[0][column], panels[1][column]
            above.set_title(name or "all programs")
            for index, (policy, table) in enumerate(learned, start=1):
                row = table.rows.get(name, table.shared)
                _draw_row(above, below, row, policy, COLOURS[index % len(COLOURS)])
            ages_s = below.get_xlim()
            below.plot(
                ages_s, ages_s, ":", color=COLOURS[-1], label="least attained service"
            )
            below.set(xlabel="age: work so far, seconds")
            above.legend(fontsize=8)
        panels[0][0].set_ylabel("share that goes on")
        panels[1][0].set_ylabel("rank, seconds (low goes first)")
        panels[1][0].legend(fontsize=8)


def _draw_programs(axes: Axes, result: Result) -> None:
    rows = result.rows
    order = sorted(range(len(rows)), key=lambda n: (rows[n].program_class, n))
    place = {number: line for line, number in enumerate(order)}
    axes.hlines(
        [place[number] for number in range(len(rows))],
        [row.started_s for row in rows],
        [row.started_s + row.latency_s for row in rows],
        colors=COLOURS[-1],
        linewidth=0.4,
    )
    seen: dict[State, list[tuple[int, Span]]] = {state: [] for state in _STATES}
    timeline = result.timeline
    for number, spans in enumerate(timeline.spans() if timeline else ()):
        for span in spans:
            seen[span.state].append((place[number], span))
    thickness = max(0.4, 300.0 / len(rows))
    for state, (colour, label) in _STATES.items():
        axes.hlines(
            [line for line, _ in seen[state]],
            [span.start_s for _, span in seen[state]],
            [span.end_s for _, span in seen[state]],
            colors=colour,
            linewidth=thickness,
            label=label,
        )
    names = [rows[number].program_class for number in order]
    blocks = list(dict.fromkeys(names))
    for name in blocks[1:]:
        axes.axhline(names.index(name) - 0.5, color=COLOURS[0], linewidth=0.6)
    middles = [names.index(name) + (names.count(name) - 1) / 2 for name in blocks]
    axes.set_yticks(middles, blocks)
    axes.tick_params(axis="y", length=0)


def _draw_row(
    above: Axes, below: Axes, row: LearnedRow, policy: str, colour: str
) -> None:
    last = sum(share >= 1e-3 for share in row.survival)
    ages_s = row.ages_s[1:last]
    above.semilogx(
        ages_s,
        row.survival[1:last],
        color=colour,
        label=f"{policy}, {row.ends:.0f} ends",
    )
    below.loglog(
        ages_s,
        row.rank_s[1:last],
        color=colour,
        drawstyle="steps-post",
        label=policy,
    )
