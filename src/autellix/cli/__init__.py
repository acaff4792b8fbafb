"""Command line: demo, agent files, checks, comparisons, calibration."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence

from autellix.cli.arguments import parse
from autellix.cli.bench import bench
from autellix.cli.bench_arguments import bench_options, replay_options
from autellix.cli.calibrate import calibrate
from autellix.cli.calibrate_arguments import calibrate_options
from autellix.cli.check import check
from autellix.cli.demo.command import DemoOptions, demo
from autellix.cli.exit_codes import ExitCode
from autellix.cli.replay import replay
from autellix.cli.run import RunOptions, run
from autellix.errors import (
    AutellixError,
    BackendUnavailable,
    ConfigError,
    MissingExtra,
    ModelRefused,
    TraceError,
)

__all__ = ["ExitCode", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see ``ExitCode``.

    Args:
        arguments: What was typed after ``autellix``; None: what really was.
    """
    typed = parse(None if arguments is None else list(arguments))
    code = _code_of(typed, sys.argv[1:] if arguments is None else arguments)
    if arguments is None and threading.active_count() > 1:
        # A thread may still be loading a model that nobody waits for any more. Torch
        # aborts a process that ends around it in the usual way.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _code_of(typed: argparse.Namespace, arguments: Sequence[str]) -> ExitCode:
    """Run the command; say in a line what a user can do something about.

    Raises:
        BrokenPipeError: A pipe of our own broke.
    """
    try:
        code = _run(typed, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        if not _is_unread():
            raise
        return ExitCode.UNREAD
    except AutellixError as error:
        return _explained(error)
    except ExceptionGroup as group:  # engines load, and fail, side by side
        first = group.exceptions[0]
        if not isinstance(first, AutellixError):
            raise
        return _explained(first)
    return code


def _is_unread() -> bool:
    """Say whether whoever read what is printed has gone: ``autellix … | head``."""
    try:
        print(flush=True)  # a flush alone may have nothing left to fail with
    except BrokenPipeError:  # nor shall what is left fail when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _run(typed: argparse.Namespace, arguments: Sequence[str]) -> ExitCode:
    match typed.command:
        case "demo":
            return demo(
                DemoOptions(
                    backend=typed.backend,
                    seed=typed.seed,
                    out=typed.out,
                    as_json=typed.json,
                    is_plain=typed.plain,
                )
            )
        case "run":
            return run(
                RunOptions(
                    agent_file=typed.agent_file,
                    config=typed.config,
                    agents=typed.agents,
                    limit=typed.limit,
                    is_virtual=typed.virtual_time,
                    as_json=typed.json,
                    is_plain=typed.plain,
                )
            )
        case "bench":
            return bench(bench_options(typed, arguments))
        case "replay":
            return replay(replay_options(typed))
        case "calibrate":
            return calibrate(calibrate_options(typed, arguments))
        case _:
            return check(typed.file, as_json=typed.json)


def _explained(error: AutellixError) -> ExitCode:
    """Print an error, and return the code that stands for it."""
    notes = getattr(error, "__notes__", ())
    print(f"autellix: {error}", *notes, sep="\n  ", file=sys.stderr)
    match error:
        case ConfigError() | ModelRefused() | TraceError():
            return ExitCode.BAD_INPUT
        case MissingExtra() | BackendUnavailable():
            return ExitCode.MISSING
        case _:
            return ExitCode.FAILED
