"""What can be typed after ``autellix``."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Final

from autellix.cli.demo.command import OUT

_EXIT_CODES: Final = """\
exit codes:
  0    all went well
  1    a program failed
  2    wrong usage, or a configuration or agent file that cannot be used
  3    an optional dependency or a device is missing; the message says which
  130  interrupted with Ctrl-C; what had been done by then is printed
"""
_RUN: Final = """\
Run the agents of a Python file on the engines of a configuration file. The file defines
one of

  async def agent(program, index):    one program; run --agents times, index counts up
  async def main(runtime):            opens programs itself, as it likes

What they return is printed. Calls are made with program.chat(...) and its siblings.
"""
_DEMO: Final = """\
Run a few dozen agents (chats, tool users, tree searches) on two local engines, first
come first served and then under ATLAS; print both side by side and draw a picture. With
--backend simulated it takes seconds and needs no model.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the arguments; prints and exits on --help, --version and wrong usage."""
    parser = argparse.ArgumentParser(
        prog="autellix",
        description="Serve many LLM agents on local engines, scheduled as programs.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("autellix"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_config(commands)
    return parser.parse_args(arguments)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="compare two policies on real agents",
        description=_DEMO,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--backend", choices=("torch", "simulated"), default="torch")
    demo.add_argument("--seed", type=int, default=0, help="of the workload (0)")
    demo.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help=f"folder that demo.png goes to ({OUT})",
    )
    _add_output(demo)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run your own agents",
        description=_RUN,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("agent_file", type=Path, metavar="AGENT_FILE")
    run.add_argument("--config", type=Path, required=True, metavar="FILE")
    run.add_argument(
        "--agents", type=_positive, default=1, metavar="N", help="how many (1)"
    )
    run.add_argument(
        "--limit", type=_positive, metavar="K", help="most at a time (all)"
    )
    run.add_argument(
        "--virtual-time",
        action="store_true",
        help="let time pass at once; simulated engines only",
    )
    _add_output(run)


def _add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    config = commands.add_parser("config", help="look at a configuration file")
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="say what a file comes to, or what is wrong with it",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="print JSON")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print results as JSON on standard output"
    )
    parser.add_argument(
        "--plain", action="store_true", help="progress in lines, also on a terminal"
    )


def _positive(text: str) -> int:
    """Return a positive integer.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer: {text!r}")
    return int(text)
