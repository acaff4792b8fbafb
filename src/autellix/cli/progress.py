"""Progress while programs run: a live table on a terminal, else a line now and then.

It goes to standard error, so that standard output holds results alone.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from autellix.runtime.recording import State

if TYPE_CHECKING:
    from rich.table import Table

    from autellix.runtime.recording import Recording, Track

_LIVE_EVERY_S: Final = 0.4
_LINE_EVERY_S: Final = 5.0
_TELLS_FROM: Final = 0.05  # of all tokens: before that they tell no speed


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def say_loading(doing: str, share: float | None) -> None:
    """Print what an engine that loads is at."""
    say(f"  {doing}" if share in {None, 1.0} else f"  {doing}: {share:.0%}")


@contextmanager
def loading_shown() -> Iterator[None]:
    """Print what backends log of their loading, while the block runs."""
    logger = logging.getLogger("autellix.backends")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@attrs.frozen(kw_only=True)
class Watched:
    """What there is to see.

    Attributes:
        title: What runs.
        recording: What becomes of its programs.
        programs: How many there will be; None: that is not known.
        output_tokens: How many tokens they will generate; None: that is not known.
    """

    title: str
    recording: Recording
    programs: int | None = None
    output_tokens: int | None = None


@asynccontextmanager
async def progress(watched: Watched, *, plain: bool) -> AsyncIterator[None]:
    """Show how far programs are while the block runs."""
    show = _say_lines if plain or not sys.stderr.isatty() else _show_live
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(show, watched)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _say_lines(watched: Watched) -> None:
    began_s = anyio.current_time()
    while True:
        await anyio.sleep(_LINE_EVERY_S)
        say(f"  {_line(watched, anyio.current_time() - began_s)}")


async def _show_live(watched: Watched) -> None:
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        await _say_lines(watched)
        return
    began_s = anyio.current_time()
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        try:
            while True:
                live.update(
                    _table(watched, anyio.current_time() - began_s), refresh=True
                )
                await anyio.sleep(_LIVE_EVERY_S)
        finally:
            live.update(_table(watched, anyio.current_time() - began_s), refresh=True)


def _line(watched: Watched, elapsed_s: float) -> str:
    recording = watched.recording
    states = recording.states()
    doing = ", ".join(f"{states[state]} {state}" for state in State if states[state])
    ended = _share(watched, recording.tracks.values())
    return (
        f"{watched.title} {elapsed_s:.0f} s: {ended} programs ended, "
        f"{doing or 'none open'}; {recording.output_tokens()} tokens"
        f"{_left(watched, elapsed_s)}"
    )


def _left(watched: Watched, elapsed_s: float) -> str:
    """Return how long it will take at the speed so far; nothing where none can tell."""
    planned, done = watched.output_tokens, watched.recording.output_tokens()
    if planned is None or done < planned * _TELLS_FROM:
        return ""
    return f", some {elapsed_s * max(0.0, planned / done - 1):.0f} s left"


def _table(watched: Watched, elapsed_s: float) -> Table:
    from rich.table import Table

    recording = watched.recording
    tokens = recording.output_tokens()
    speed = f"{tokens / elapsed_s:.0f} tokens/s" if elapsed_s >= 1 else ""
    title = f"{watched.title}  {elapsed_s:.0f} s  {speed}{_left(watched, elapsed_s)}"
    table = Table(title=title, min_width=64)
    for heading in ("programs", "ended", *State, "tokens"):
        table.add_column(heading, justify="left" if heading == "programs" else "right")
    tracks = list(recording.tracks.values())
    for name in sorted({track.name for track in tracks}):
        own = [track for track in tracks if track.name == name]
        table.add_row(name, f"{_ended(own)}/{len(own)}", *_cells(own))
    table.add_section()
    table.add_row("all", _share(watched, tracks), *_cells(tracks))
    return table


def _cells(tracks: Collection[Track]) -> list[str]:
    states = Counter(track.state for track in tracks if track.closed_s is None)
    tokens = sum(track.output_tokens for track in tracks)
    return [*(str(states[state] or "") for state in State), str(tokens)]


def _share(watched: Watched, tracks: Collection[Track]) -> str:
    return f"{_ended(tracks)}/{watched.programs or len(tracks)}"


def _ended(tracks: Iterable[Track]) -> int:
    return sum(track.has_ended for track in tracks)
