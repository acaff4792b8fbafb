"""What is run: workloads by policies, loads and paired seeds, in two stages.

Nothing of Gittins may be tuned on ``REPORTED``: its constants were chosen on
``CHOSEN_ON`` and are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from autellix.evaluation import Point, Result, Store, Workload
from autellix.evaluation.setups import setup_from
from autellix.evaluation.sweep import workload_from
from autellix.runtime.learning import sizes_to_json

if TYPE_CHECKING:
    from autellix.evaluation.point import Named, Setup
    from autellix.policies.gittins import SizeModel

BASELINES: Final = ("fcfs", "program-fcfs", "mlfq", "plas", "atlas")
ORACLE: Final = "srpt"
COLD: Final = "gittins"
PER_TOKEN: Final = "gittins-per-token"  # noqa: S105 - not a password
WARM: Final = "gittins-warm"
CHANGED: Final = "gittins-changed"
"""Warm from what was learned of the load that went before: of chat, under one name."""

MIXED: Final = "mixed"
ONE_NAME: Final = "mixed, one name"
CHAT: Final = "sharegpt"
REACT: Final = "bfcl_ref"
SEARCH: Final = "lats_hotpot"
CHOSEN_ON: Final = ("bfcl_run", "lats_code", "tot_game24", "mooncake_conversation")
REPORTED: Final = (CHAT, REACT, SEARCH, MIXED, ONE_NAME, "weka_turns", "miniswe")
_MIX: Final = (CHAT, REACT, SEARCH)
_BLOCK_TOKENS: Final = 32
_WIDE: Final = frozenset({SEARCH, "lats_code", "tot_game24"})
_CHAINS: Final = frozenset({CHAT, REACT, "weka_turns", "miniswe", "bfcl_run"})
_SAME_ON_CHAINS: Final = "plas"
_WIDE_ONLY: Final = "atlas"
"""Decides as PLAS does where no program fans out (tests/laws/test_policies.py)."""
WIDE_SHARE: Final = 0.3
"""Of the programs of other runs: a search makes a hundred calls."""
CONTEXT_TOKENS: Final = 32_768
_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    ONE_NAME: {"program_class": "agent"},
    # Coding sessions are too long for this context: a quarter of their prompts, and
    # people who approve a tool call do so within a minute.
    "weka_turns": {"prompt_factor": 0.25, "most_gap_s": 60.0},
    "miniswe": {"gaps": "shell"},  # it does not tell how long tools took
}


class Run(NamedTuple):
    """One run, by what tables call it."""

    workload: str
    load: float
    policy: str
    seed: int


@attrs.frozen(kw_only=True)
class Plan:
    """All runs.

    Attributes:
        traces: Folder of the recordings.
        workloads: Which of ``REPORTED`` and ``CHOSEN_ON``.
        loads: Multiples of saturation.
        seeds: How many, paired; at least 2, for a warm start takes the model of another
            seed.
        programs: In each run.
        retains_prefixes: Whether unfinished programs do (rule K7), on all engines.
    """

    traces: Path
    workloads: Sequence[str]
    loads: Sequence[float]
    seeds: int = attrs.field(validator=attrs.validators.ge(2))
    programs: int
    retains_prefixes: bool
    _workloads: Mapping[str, Workload] = attrs.field(init=False, eq=False)
    _setup: Setup = attrs.field(init=False, eq=False)

    @_workloads.default
    def _read_workloads(self) -> Mapping[str, Workload]:
        return {name: self._workload(name) for name in self.workloads}

    @_setup.default
    def _one_engine(self) -> Setup:
        options = {
            "block_tokens": _BLOCK_TOKENS,
            "retains_prefixes": self.retains_prefixes,
        }
        return setup_from(options, engines=1, path="engine")

    def first(self) -> dict[Run, Point]:
        """Return the runs that need no other to have been before."""
        return {
            run: self._point(run, _named(run.policy))
            for run in self.runs()
            if run.policy not in {WARM, CHANGED}
        }

    def second(self, store: Store) -> dict[Run, Point]:
        """Return the runs that start from what those of the first stage learned.

        Args:
            store: Has results of the first stage; where one is missing, so are the runs
                that rest on it.
        """
        first = self.first()
        learned = {
            run: found[0].lessons.model
            for run, point in first.items()
            if run.policy == COLD
            and (found := store.of([point]))
            and found[0].lessons is not None
        }
        points = {}
        for run in self.runs():
            source = run._replace(policy=COLD, seed=(run.seed + 1) % self.seeds)
            if run.policy == CHANGED:
                source = source._replace(workload=CHAT)
            if run.policy in {WARM, CHANGED} and source in learned:
                model = learned[source]
                if run.policy == CHANGED:
                    model = _renamed(model, "chat", "agent")
                named = {"kind": COLD, "model": sizes_to_json(model)}
                points[run] = self._point(run, named)
        return points

    def results(self, store: Store) -> dict[Run, Result]:
        """Return all results that there are.

        Policies that do not look at names have done the mixed load under one name when
        they have done it under three, and on chains PLAS has done what ATLAS would do.
        """
        points = {**self.first(), **self.second(store)}
        found = {
            run: results[0]
            for run, point in points.items()
            if (results := store.of([point]))
        }
        for run in list(found):
            if run.workload in _CHAINS and run.policy == _SAME_ON_CHAINS:
                found[run._replace(policy=_WIDE_ONLY)] = found[run]
        if {MIXED, ONE_NAME} <= set(self.workloads):
            for run in list(found):
                if run.workload == MIXED and run.policy in {*BASELINES, ORACLE}:
                    found[run._replace(workload=ONE_NAME)] = found[run]
        return found

    def runs(self) -> list[Run]:
        """Return all runs of both stages."""
        return [
            Run(workload, load, policy, seed)
            for seed in range(self.seeds)
            for workload in self.workloads
            for load in self.loads
            for policy in self._policies(workload)
        ]

    def _policies(self, workload: str) -> Iterator[str]:
        if workload != ONE_NAME or MIXED not in self.workloads:
            for policy in (*BASELINES, ORACLE):
                if policy != _WIDE_ONLY or workload not in _CHAINS:
                    yield policy
        yield COLD
        yield WARM
        if workload == MIXED:
            yield PER_TOKEN
        if workload == REACT and CHAT in self.workloads:
            yield CHANGED

    def _point(self, run: Run, policy: Named) -> Point:
        share = WIDE_SHARE if run.workload in _WIDE else 1.0
        return Point(
            workload=self._workloads[run.workload],
            programs=max(1, round(share * self.programs)),
            load=run.load,
            seed=run.seed,
            policy=policy,
            setup=self._setup,
        )

    def _workload(self, name: str) -> Workload:
        table = {
            "longest_call_tokens": CONTEXT_TOKENS,
            **_CHANGES.get(name, {}),
        }
        if name in {MIXED, ONE_NAME}:
            table["mix"] = [f"{each}.jsonl.gz" for each in _MIX]
        else:
            table["source"] = f"{name}.jsonl.gz"
        return workload_from(table, f"workload {name!r}", self.traces)


def _named(policy: str) -> Named:
    if policy == PER_TOKEN:
        return {"kind": COLD, "objective": "s/token"}
    return policy


def _renamed(model: SizeModel, name: str, to: str) -> SizeModel:
    classes = {to if each == name else each: s for each, s in model.classes.items()}
    return attrs.evolve(model, classes=classes)
