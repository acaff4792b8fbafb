"""What can be typed after ``autellix bench`` and ``autellix replay``."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from autellix.cli.bench import BenchOptions
from autellix.cli.numbers import positive, whole
from autellix.cli.replay import ORACLE, ReplayOptions
from autellix.errors import ConfigError
from autellix.evaluation.point import Arrival

T = TypeVar("T")

_OUT: Final = Path("autellix-bench")
_JOBS: Final = os.cpu_count() or 1
_POLICIES: Final = "fcfs,program-fcfs,mlfq,plas,atlas"
_DEFAULTS: Final = {
    "name": "bench",
    "workloads": [{"source": "chat", "longest_call_tokens": 32_768}],
    "policies": _POLICIES.split(","),
    "loads": [0.5, 1.0, 1.3],
    "seeds": 3,
    "programs": 200,
}
_ENGINE: Final = {
    "preset": "costs",
    "slots": "slots",
    "token_budget": "token_budget",
    "kv_tokens": "kv_tokens",
    "host_tokens": "host_tokens",
    "context_tokens": "max_context_tokens",
}
"""Flags that say something of each engine, and what its table calls it."""

_BENCH: Final = """\
Compare policies on a workload, on simulated engines in virtual time: every combination
of what is given is run once for each seed, on all cores. Loads are multiples of what
the engines can do in full batches: below 1 expect ties. Results go to a file, a line
each; interrupted and asked again, only what is missing is run. A table in Markdown and
pictures are made of them.

  autellix bench --workload chat --longest 32768 --policies fcfs,atlas --loads 0.5,1.3
  autellix bench --config bench.toml --out results

A workload is a generator (chat, react, search, mixed) or a trace file.
"""
_REPLAY: Final = """\
Run the programs of a recording again under other policies, on simulated engines in
virtual time, and under an oracle (srpt) that is told how large programs are: regret is
how much longer programs take than under the oracle.
"""


def add_bench(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, epilog: str
) -> None:
    """Add the command ``bench``."""
    bench = commands.add_parser(
        "bench",
        help="compare policies on a workload; simulated, minutes",
        description=_BENCH,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = bench.add_argument
    add("--config", type=Path, metavar="FILE", help="sweeps in TOML; no other flags")
    add("--workload", type=_list(str), metavar="W,…", help="generators, files (chat)")
    add("--policies", type=_list(str), metavar="P,…", help=f"({_POLICIES})")
    add("--balancers", type=_list(str), metavar="B,…", help="(locality-aware)")
    add("--loads", type=_list(float), metavar="L,…", help="(0.5,1.0,1.3)")
    add("--seeds", type=int, metavar="N", help="repeats, with paired seeds (3)")
    add("--programs", type=int, metavar="N", help="in each run (200)")
    add("--engines", type=_list(int), metavar="N,…", help="how many engines (1)")
    add(
        "--arrivals",
        choices=list(Arrival),
        help="how programs arrive; all but poisson and bursts know no load (poisson)",
    )
    _add_engine(bench)
    add(
        "--jobs",
        type=whole,
        default=_JOBS,
        metavar="N",
        help="runs at a time (one a core); 0: only show the results there are",
    )
    add(
        "--out",
        type=Path,
        default=_OUT,
        metavar="DIR",
        help=f"folder of results, table and pictures ({_OUT})",
    )


def add_replay(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, epilog: str
) -> None:
    """Add the command ``replay``."""
    replay = commands.add_parser(
        "replay",
        help="what other policies would have done with one recording",
        description=_REPLAY,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = replay.add_argument
    add("trace", type=Path, metavar="TRACE", help="file of the format prog-trace/1")
    add(
        "--policy",
        dest="policies",
        type=_list(str),
        default=_POLICIES.split(","),
        metavar="P,…",
        help=f"policies to try ({_POLICIES}); {ORACLE} is always added",
    )
    add(
        "--load",
        type=float,
        metavar="L",
        help="let programs arrive at random, at this multiple of saturation (as "
        "recorded)",
    )
    add("--engines", type=_list(int), metavar="N", help="how many engines (1)")
    add("--balancers", type=_list(str), metavar="B", help="(locality-aware)")
    add("--programs", type=int, metavar="N", help="so many of them (all)")
    _add_engine(replay)
    add(
        "--jobs",
        type=positive,
        default=_JOBS,
        metavar="N",
        help="runs at a time (one a core)",
    )
    add("--out", type=Path, metavar="DIR", help="folder that keeps the results (none)")


def bench_options(typed: argparse.Namespace, words: Sequence[str]) -> BenchOptions:
    """Return what was asked of ``bench``.

    Raises:
        ConfigError: A file is given, and flags beside it.
    """
    given = _table(typed)
    if typed.config is not None and given:
        raise ConfigError(
            f"--config {typed.config} says what is compared; leave out what else says "
            f"so: {', '.join(sorted(given))}"
        )
    table = {**_DEFAULTS, **given}
    if "arrivals" in given and not Arrival(given["arrivals"]).has_load:
        table["loads"] = given.get("loads", [])
    return BenchOptions(
        config=typed.config,
        table=table,
        out=typed.out,
        jobs=typed.jobs,
        command=shlex.join(["autellix", *words]),
    )


def replay_options(typed: argparse.Namespace) -> ReplayOptions:
    """Return what was asked of ``replay``."""
    table = {"name": "replay", "workloads": [str(typed.trace)], **_table(typed)}
    return ReplayOptions(
        trace=typed.trace,
        load=typed.load,
        table=table,
        out=typed.out,
        jobs=typed.jobs,
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", metavar="NAME", help="costs of an engine (llama-8b-a100)")
    add("--slots", type=int, metavar="N", help="most calls in a step (64)")
    add("--token-budget", type=int, metavar="N", help="most tokens in a step (2048)")
    add("--kv-tokens", type=int, metavar="N", help="KV an engine holds (131072)")
    add("--host-tokens", type=int, metavar="N", help="KV its host pool holds (524288)")
    add("--context-tokens", type=int, metavar="N", help="longest call (32768)")
    add("--no-prefix-cache", action="store_true", help="reuse no KV of earlier calls")
    add("--longest", type=int, metavar="N", help="leave out programs with longer calls")
    add("--gaps", metavar="MODEL", help="draw gaps not recorded: wikipedia, shell, …")


def _table(typed: argparse.Namespace) -> dict[str, Any]:
    """Return what was typed, as the table of a sweep; what was not is left out."""
    keys = (
        "policies",
        "balancers",
        "loads",
        "seeds",
        "programs",
        "engines",
        "arrivals",
    )
    table = {key: getattr(typed, key, None) for key in keys}
    engine = {key: getattr(typed, flag) for flag, key in _ENGINE.items()}
    engine["caches_prefixes"] = False if typed.no_prefix_cache else None
    table["engine"] = _given(engine) or None
    changes = _given({"longest_call_tokens": typed.longest, "gaps": typed.gaps})
    sources = getattr(typed, "workload", None)
    if sources is None and changes:
        sources = [str(typed.trace)] if "trace" in typed else ["chat"]
    if sources is not None:
        table["workloads"] = [{"source": source, **changes} for source in sources]
    return _given(table)


def _given(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _list(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return a reader of values with commas between them."""

    def read(text: str) -> list[T]:
        return [kind(word.strip()) for word in text.split(",") if word.strip()]

    read.__name__ = f"list of {kind.__name__}s"  # argparse names it in its errors
    return read
