"""What can be typed after ``autellix``."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Final

from autellix.cli.bench_arguments import add_bench, add_replay
from autellix.cli.calibrate_arguments import add_calibrate
from autellix.cli.demo.command import OUT
from autellix.cli.numbers import positive

_EXIT_CODES: Final = """\
exit codes:
  0    all went well
  1    a program failed
  2    wrong usage, or a configuration or agent file that cannot be used
  3    an optional dependency or a device is missing; the message says which
  130  interrupted with Ctrl-C; what had been done by then is printed
  141  whoever read what is printed has gone
"""
_EXAMPLES: Final = """\
examples:
  autellix demo --backend simulated                     seconds; needs no model
  autellix config check autellix.toml                   what a file comes to
  autellix run agents.py --config autellix.toml --agents 8
  autellix bench --workload chat --loads 0.5,1.3        policies compared; minutes
  autellix replay recording.jsonl.gz --policy plas,atlas
  autellix calibrate --config autellix.toml --out mine.toml   costs of your engine

"""
_RUN: Final = """\
Run the agents of a Python file on the engines of a configuration file. The Python file
defines one of

  async def agent(program, index):    # one program; run --agents times
      reply = await program.chat([{"role": "user", "content": f"Question {index}"}])
      return reply.text

  async def main(runtime):            # run once; opens programs itself, as it likes
      async with runtime.program("research") as program:
          return (await program.generate("Once upon a time")).text

What they return is printed, then how the programs were served. The smallest
configuration file, in TOML, is

  [[engines]]
  backend = "simulated"               # or "torch"
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
        epilog=_EXAMPLES + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("autellix"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_config(commands)
    add_bench(commands, epilog=_EXIT_CODES)
    add_replay(commands, epilog=_EXIT_CODES)
    add_calibrate(commands, epilog=_EXIT_CODES)
    return parser.parse_args(arguments)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="see two policies serve the same agents; needs nothing of yours",
        description=_DEMO,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument(
        "--backend",
        choices=("torch", "simulated"),
        default="torch",
        help="a real model, minutes of CPU time, or a cost model, seconds (torch)",
    )
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
        help="run your own agents on the engines of a configuration file",
        description=_RUN,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "agent_file", type=Path, metavar="AGENT_FILE", help="Python file, as above"
    )
    run.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML file, as above"
    )
    run.add_argument("--agents", type=positive, metavar="N", help="runs of 'agent' (1)")
    run.add_argument(
        "--limit",
        type=positive,
        metavar="K",
        help="most runs of 'agent' at a time (all)",
    )
    run.add_argument(
        "--virtual-time",
        action="store_true",
        help="do not wait in real time; simulated engines only",
    )
    _add_output(run)


def _add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    config = commands.add_parser("config", help="check a configuration file")
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="say what a file comes to, or what is wrong with it",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", type=Path, metavar="FILE", help="TOML file")
    check.add_argument("--json", action="store_true", help="print JSON")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print results as JSON on standard output"
    )
    parser.add_argument(
        "--plain", action="store_true", help="progress as lines, also on a terminal"
    )
