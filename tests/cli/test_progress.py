"""Progress: lines where nobody watches, a live table on a terminal."""

import io
import logging
import sys

import anyio
import attrs
import pytest

from autellix.cli.progress import Watched, loading_shown, progress
from autellix.runtime import Event, EventKind
from autellix.runtime.recording import Recording
from autellix.testing import run_virtual


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def watched() -> Watched:
    """Return two programs, one of them ended."""
    recording = Recording()
    for program, kinds in enumerate(
        [
            [EventKind.PROGRAM_OPENED, EventKind.SUBMITTED],
            [EventKind.PROGRAM_OPENED, EventKind.PROGRAM_CLOSED],
        ]
    ):
        for kind in kinds:
            recording(
                Event(
                    at_s=0.0, kind=kind, program=program, program_class="chat", call=0
                )
            )
    return Watched(title="FCFS", recording=recording, programs=5)


def show(seconds: float, *, plain: bool) -> None:
    async def main() -> None:
        async with progress(watched(), plain=plain):
            await anyio.sleep(seconds)

    run_virtual(main)


def test_lines_come_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """They say how many programs ended and what the others do, on standard error."""
    show(11.0, plain=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "  FCFS 5 s: 1/5 programs ended, 1 waiting; 0 tokens",
        "  FCFS 10 s: 1/5 programs ended, 1 waiting; 0 tokens",
    ]


def test_where_all_tokens_are_known_time_left_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the speed so far, and only once there is one."""
    known = attrs.evolve(watched(), output_tokens=30)

    async def main() -> None:
        async with progress(known, plain=True):
            await anyio.sleep(5.5)
            known.recording(
                Event(
                    at_s=0.0,
                    kind=EventKind.ENDED,
                    program=0,
                    program_class="chat",
                    call=0,
                    details={"output_tokens": 10},
                )
            )
            await anyio.sleep(5)

    run_virtual(main)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("; 0 tokens")
    assert second.endswith("; 10 tokens, some 20 s left")


def test_on_a_terminal_a_table_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a row a class and one for all, and stands still at the end."""
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show(2.0, plain=False)
    shown = terminal.getvalue()
    assert "chat" in shown
    assert "1/5" in shown
    assert "waiting" in shown


def test_a_terminal_gets_lines_where_they_are_wanted_or_rich_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Progress needs no extra."""
    expected = "  FCFS 5 s: 1/5 programs ended, 1 waiting; 0 tokens\n"
    for plain in (True, False):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        if not plain:
            monkeypatch.setitem(sys.modules, "rich.live", None)
        show(6.0, plain=plain)
        assert terminal.getvalue() == expected


def test_what_backends_log_while_loading_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A download of minutes must not look like a hang; afterwards all is as before."""
    logger = logging.getLogger("autellix.backends.torch.engine")
    with loading_shown():
        logger.info("fetching a model")
    logger.info("not shown")
    assert capsys.readouterr().err == "  fetching a model\n"
