"""The process table against a table that adds everything up anew (rules A1-A9)."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import ClassVar

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from autellix.core.process_table import (
    LEARNED_PROGRAMS,
    SAMPLED_CALLS,
    SAMPLED_PROGRAMS,
    ProcessTable,
)
from autellix.core.ranking import Policy, ProgramCharge
from autellix.core.records import (
    CallReport,
    CallSpec,
    Charge,
    FairnessWindow,
    Outcome,
    ProgramDelta,
    WaitReason,
)
from autellix.errors import InvariantError, ProgramClosed
from autellix.policies import ATLAS, FCFS, PLAS


def report(
    spec: CallSpec,
    service_ns: int = 0,
    work_ns: int = 0,
    *,
    ended_ns: int = 0,
    wait_ns: dict[WaitReason, int] | None = None,
    program: ProgramDelta | None = None,
    outcome: Outcome = Outcome.FINISHED,
) -> CallReport:
    """Return what an engine would report on a call."""
    return CallReport(
        call_id=spec.call_id,
        program_id=spec.program_id,
        outcome=outcome,
        submitted_ns=0,
        ended_ns=ended_ns,
        first_token_ns=None,
        inherited_ns=spec.inherited_ns,
        service_ns=service_ns,
        work_ns=work_ns,
        wait_ns=wait_ns or {},
        prompt_tokens=len(spec.prompt),
        cached_device_tokens=0,
        cached_host_tokens=0,
        output_tokens=3,
        computed_tokens=1,
        preemptions={},
        level=0,
        program=program or ProgramDelta(),
    )


def submit(
    table: ProcessTable, program: int, after: list[int] | None = None, now_ns: int = 0
) -> CallSpec:
    """Submit a small call."""
    return table.submit(program, prompt=[1], max_tokens=4, now_ns=now_ns, after=after)


def window(ran_ns: int, waited_ns: int) -> FairnessWindow:
    """Return a fairness window."""
    return FairnessWindow(ran_ns=ran_ns, waited_ns=waited_ns)


def test_a_program_has_a_row_until_it_and_its_last_call_have_ended() -> None:
    """A8: closing leaves the row to the live calls; the last of them takes it away."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    first, second = submit(table, program), submit(table, program)
    table.end(report(first))
    assert not table.close(program)
    assert program in table
    assert table.view(program).is_closed
    table.end(report(second))
    assert program not in table
    assert len(table) == 0


@pytest.mark.parametrize("leave", ["refuse", "lose", "end"])
def test_the_last_call_takes_a_closed_row_away_however_it_ends(leave: str) -> None:
    """A8 on every path."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    spec = submit(table, program)
    table.close(program)
    if leave == "end":
        table.end(report(spec))
    elif leave == "lose":
        table.lose(spec.call_id, now_ns=2)
    else:
        table.refuse(spec.call_id)
    assert program not in table


def test_a_program_without_live_calls_is_gone_when_it_is_closed() -> None:
    """A8: and then it has no row to look at."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    assert table.close(program)
    with pytest.raises(InvariantError, match="program 0 has no row"):
        table.view(program)


def test_a_closed_program_makes_no_calls() -> None:
    """Neither while its row stays, nor after."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    spec = submit(table, program)
    table.close(program)
    with pytest.raises(ProgramClosed, match="'chat'"):
        submit(table, program)
    table.end(report(spec))
    with pytest.raises(ProgramClosed, match="'#0'"):
        submit(table, program)


def test_a_program_is_closed_once() -> None:
    """A second time is a bug of the caller's."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    submit(table, program)
    table.close(program)
    with pytest.raises(InvariantError, match="program 0 was closed twice"):
        table.close(program)


@pytest.mark.parametrize("first", ["refuse", "lose", "end"])
@pytest.mark.parametrize("second", ["refuse", "lose", "end", "wait"])
def test_a_call_ends_exactly_once(first: str, second: str) -> None:
    """A4: whatever comes second is an error, and changes nothing."""
    table = ProcessTable(FCFS())
    spec = submit(table, table.open("chat", now_ns=0))
    ways: dict[str, Callable[[], object]] = {
        "refuse": lambda: table.refuse(spec.call_id),
        "lose": lambda: table.lose(spec.call_id, now_ns=1),
        "end": lambda: table.end(report(spec, 5)),
        "wait": lambda: table.wait_in_intake(spec.call_id, 5),
    }
    ways[first]()
    before = table.view(spec.program_id)
    with pytest.raises(InvariantError, match="call 0 is not live"):
        ways[second]()
    assert table.view(spec.program_id) == before


def test_a_report_of_another_call_is_refused() -> None:
    """Its program and what it inherited must be what was submitted."""
    table = ProcessTable(FCFS())
    spec = submit(table, table.open("chat", now_ns=0))
    with pytest.raises(InvariantError, match="not of the call submitted"):
        table.end(attrs.evolve(report(spec), program_id=7))
    with pytest.raises(InvariantError, match="not of the call submitted"):
        table.end(attrs.evolve(report(spec), inherited_ns=7))
    assert table.view(spec.program_id).live_calls == 1


def test_a_refused_call_is_no_call() -> None:
    """A4: nothing of it is counted; a lost one leaves only the time of its end."""
    table = ProcessTable(PLAS())
    program = table.open("chat", now_ns=0)
    table.refuse(submit(table, program).call_id)
    table.lose(submit(table, program).call_id, now_ns=9)
    seen = table.view(program)
    assert (seen.calls, seen.service_ns, seen.live_calls) == (0, 0, 0)
    assert seen.last_completion_ns == 9


def test_a_call_that_was_cancelled_or_failed_is_folded_too() -> None:
    """A4: what it used is the program's."""
    table = ProcessTable(PLAS())
    program = table.open("chat", now_ns=0)
    for outcome in Outcome:
        table.end(report(submit(table, program), 10, outcome=outcome))
    assert submit(table, program).inherited_ns == 30


def test_parallel_calls_inherit_what_had_ended_when_they_were_submitted() -> None:
    """A5: read once; a sibling that ends later changes nothing."""
    table = ProcessTable(PLAS())
    program = table.open("search", now_ns=0)
    first, second = submit(table, program), submit(table, program)
    table.end(report(first, 100))
    third = submit(table, program)
    table.end(report(second, 50))
    assert (first.inherited_ns, second.inherited_ns, third.inherited_ns) == (0, 0, 100)
    assert submit(table, program).inherited_ns == 150


def test_atlas_inherits_the_critical_path_and_by_the_graph_its_parents() -> None:
    """A5, A6: the scalar without ``after``, else the longest path, 0 for a root."""
    table = ProcessTable(ATLAS())
    program = table.open("search", now_ns=0)
    short, long = submit(table, program), submit(table, program)
    short_path = table.end(report(short, 10))
    long_path = table.end(report(long, 100))
    assert (short_path, long_path) == (10, 100)
    assert submit(table, program).inherited_ns == 100
    assert submit(table, program, [short_path]).inherited_ns == 10
    assert submit(table, program, [short_path, long_path]).inherited_ns == 100
    root = submit(table, program, [])
    assert root.inherited_ns == 0
    assert table.end(report(root, 7)) == 7
    assert table.view(program).critical_path_ns == 100


def test_the_critical_path_is_known_whatever_a_policy_inherits() -> None:
    """FCFS inherits nothing, and its programs have a critical path all the same."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    for service_ns in (10, 20):
        table.end(report(submit(table, program), service_ns))
    assert table.view(program).critical_path_ns == 30


def test_ages_are_counted_in_the_charge_of_the_policy() -> None:
    """A2: both are held; one of them is ranked by."""
    table = ProcessTable(ATLAS(charge=Charge.WORK))
    program = table.open("chat", now_ns=0)
    assert table.end(report(submit(table, program), 100, 7)) == 7
    seen = table.view(program)
    assert (seen.service_ns, seen.work_ns, seen.critical_path_ns) == (100, 7, 7)


def test_a_promotion_restarts_the_window_and_makes_no_program_look_younger() -> None:
    """A3: the report's window replaces the table's; lifetime sums only grow."""
    table = ProcessTable(PLAS())
    program = table.open("chat", now_ns=0)
    first = ProgramDelta(ran_ns=5, waited_ns=70, window=window(5, 70))
    table.end(report(submit(table, program), 5, program=first))
    second = ProgramDelta(ran_ns=6, waited_ns=30, promoted=True, window=window(4, 10))
    table.end(report(submit(table, program), 6, program=second))
    seen = table.view(program)
    assert (seen.ran_ns, seen.waited_ns, seen.window) == (11, 100, window(4, 10))
    last = submit(table, program)
    assert (last.inherited_ns, last.window) == (11, window(4, 10))


def test_wait_in_the_intake_is_a_reason_of_its_own() -> None:
    """A9, B4: folded when the call leaves the queue; the window comes back for it."""
    table = ProcessTable(PLAS())
    program = table.open("chat", now_ns=0)
    spec = submit(table, program)
    seen_there = ProgramDelta(waited_ns=40, window=window(0, 40))
    assert table.wait_in_intake(spec.call_id, 40, seen_there) == window(0, 40)
    waits = {WaitReason.SLOTS: 3}
    table.end(report(spec, 5, wait_ns=waits, ended_ns=99))
    seen = table.view(program)
    assert seen.wait_ns == {WaitReason.INTAKE: 40, WaitReason.SLOTS: 3}
    assert seen.waited_ns == 40


def test_an_empty_prompt_or_no_tokens_to_produce_registers_nothing() -> None:
    """The error comes before the call is live."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    with pytest.raises(ValueError, match="prompt"):
        table.submit(program, prompt=[], max_tokens=1, now_ns=0)
    with pytest.raises(ValueError, match="max_tokens"):
        table.submit(program, prompt=[1], max_tokens=0, now_ns=0)
    assert table.view(program).live_calls == 0


def test_samples_hold_the_latest_ends_and_what_runs() -> None:
    """Q4: bounded; a program counts as what a further call would inherit."""
    table = ProcessTable(ATLAS())
    for number in range(SAMPLED_PROGRAMS + 1):
        program = table.open("chat", now_ns=0)
        for _ in range(2):
            table.end(report(submit(table, program), number + 1))
        table.close(program)
    table.open("idle", now_ns=0)
    program = table.open("search", now_ns=0)
    for spec in [submit(table, program) for _ in range(3)]:
        table.end(report(spec, 50))
    table.end(report(submit(table, program), 0))  # cancelled before it ran
    seen = table.charge_sample()
    assert len(seen.calls_ns) == SAMPLED_CALLS
    assert list(seen.calls_ns[-4:]) == [SAMPLED_PROGRAMS + 1, 50, 50, 50]
    assert list(seen.programs_ns) == [2 * n + 2 for n in range(1, SAMPLED_PROGRAMS + 1)]
    assert list(seen.running_programs_ns) == [50]


def test_programs_are_kept_one_by_one_for_policies_that_learn() -> None:
    """By class and arrival; of those that ended a bounded number, all are counted."""
    table = ProcessTable(PLAS())
    for number in range(LEARNED_PROGRAMS + 1):
        program = table.open("chat", now_ns=0)
        table.end(report(submit(table, program), number + 1))
        table.close(program)
    table.open("idle", now_ns=0)
    running = table.open("search", now_ns=0)
    table.end(report(submit(table, running), 50))
    seen = table.charge_sample()
    assert seen.programs_ended == LEARNED_PROGRAMS + 1
    *ended, last = seen.programs
    assert len(ended) == LEARNED_PROGRAMS
    assert ended[0] == ProgramCharge(
        program_class="chat", arrival=1, charge_ns=2, has_ended=True
    )
    assert last == ProgramCharge(
        program_class="search", arrival=running, charge_ns=50, has_ended=False
    )


def test_an_idle_row_takes_less_than_a_kibibyte() -> None:
    """Ten thousand open programs are nothing to speak of."""
    table = ProcessTable(PLAS())
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1_000):
            table.open("chat", now_ns=10**12 + number)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 1_000 * 1024


@pytest.mark.parametrize("fault", ["count", "kept", "dropped"])
def test_check_invariants_sees_what_is_broken(fault: str) -> None:
    """A check that sees nothing is no check."""
    table = ProcessTable(FCFS())
    program = table.open("chat", now_ns=0)
    submit(table, program)
    table.check_invariants()
    row = table._rows[program]
    if fault == "count":
        row.live_calls += 1
    elif fault == "kept":
        table._live.clear()
        row.live_calls, row.is_closed = 0, True
    else:
        del table._rows[program]
    with pytest.raises(InvariantError):
        table.check_invariants()


@attrs.define(eq=False)
class Ended:
    """A call that ended, and the paths it was said to follow."""

    report: CallReport
    path_before_ns: int


@attrs.define(eq=False)
class Facts:
    """All that happened to a program, in order; nothing is added up."""

    deltas: list[ProgramDelta] = attrs.Factory(list)
    ended: list[Ended] = attrs.Factory(list)
    intake_ns: list[int] = attrs.Factory(list)
    live: set[int] = attrs.Factory(set)
    arrivals: list[int] = attrs.Factory(list)
    completions: list[int] = attrs.Factory(list)
    engine: str | None = None
    is_closed: bool = False

    def sum_of(self, charge: Charge) -> int:
        """Sum over ended calls."""
        return sum(ended.report.run_ns(charge) for ended in self.ended)

    def critical_path_ns(self, charge: Charge) -> int:
        """Longest chain of calls."""
        paths = [e.path_before_ns + e.report.run_ns(charge) for e in self.ended]
        return max(paths, default=0)

    def window(self) -> FairnessWindow:
        """Add up the windows of the deltas from the last promotion on."""
        promoted = [i for i, delta in enumerate(self.deltas) if delta.promoted]
        since = self.deltas[promoted[-1] :] if promoted else self.deltas
        return window(
            sum(delta.window.ran_ns for delta in since),
            sum(delta.window.waited_ns for delta in since),
        )

    def wait_ns(self) -> dict[WaitReason, int]:
        """Add up waits by reason."""
        waits: dict[WaitReason, int] = {}
        for reason in WaitReason:
            times = [
                e.report.wait_ns[reason]
                for e in self.ended
                if reason in e.report.wait_ns
            ]
            times += self.intake_ns if reason is WaitReason.INTAKE else []
            if times:
                waits[reason] = sum(times)
        return waits


times = st.integers(0, 10**9)
windows = st.builds(FairnessWindow, ran_ns=times, waited_ns=times)
deltas = st.builds(
    ProgramDelta,
    ran_ns=times,
    waited_ns=times,
    promoted=st.booleans(),
    window=windows,
)
wait_maps = st.dictionaries(st.sampled_from(WaitReason), times, max_size=3)


class TableMachine(RuleBasedStateMachine):
    """Drives a table, keeps all that happened, and adds it up anew after every rule."""

    programs: Bundle[int] = Bundle("programs")
    calls: Bundle[CallSpec] = Bundle("calls")
    paths: Bundle[tuple[int, int]] = Bundle("paths")
    policy: ClassVar[Policy] = ATLAS()

    def __init__(self) -> None:
        super().__init__()
        self.table = ProcessTable(self.policy)
        self.facts: dict[int, Facts] = {}
        self.path_before: dict[int, int] = {}
        self.opened = 0
        self.now_ns = 0

    def tick(self) -> int:
        """Return a new instant."""
        self.now_ns += 1
        return self.now_ns

    @rule(target=programs)
    def open(self) -> int:
        """Open a program."""
        program = self.table.open("chat", now_ns=self.tick())
        assert program == self.opened
        self.opened += 1
        self.facts[program] = Facts()
        return program

    @rule(
        target=calls,
        program=programs,
        parents=st.none() | st.lists(paths, max_size=3),
    )
    def submit(
        self, program: int, parents: list[tuple[int, int]] | None
    ) -> CallSpec | MultipleResults[CallSpec]:
        """Submit a call after nothing, or after given calls, unless it is closed."""
        facts = self.facts.get(program)
        after = None if parents is None else [path for _, path in parents]
        if facts is None or facts.is_closed:
            with pytest.raises(ProgramClosed):
                submit(self.table, program, after)
            return multiple()
        spec = submit(self.table, program, after, self.tick())
        facts.arrivals.append(self.now_ns)
        facts.live.add(spec.call_id)
        path_ns = facts.critical_path_ns(self.policy.charge)
        self.path_before[spec.call_id] = (
            path_ns if after is None else max(after, default=0)
        )
        inherits = {
            "FCFS": 0,
            "PLAS": facts.sum_of(self.policy.charge),
            "ATLAS": self.path_before[spec.call_id],
        }
        assert spec.inherited_ns == inherits[type(self.policy).__name__]
        assert spec.window == facts.window()
        return spec

    def gone(self, spec: CallSpec) -> Facts:
        """Note that a call is live no more, and its row perhaps gone."""
        facts = self.facts[spec.program_id]
        facts.live.remove(spec.call_id)
        if facts.is_closed and not facts.live:
            del self.facts[spec.program_id]
        return facts

    @rule(
        target=paths,
        spec=consumes(calls),
        service_ns=times,
        work_ns=times,
        waits=wait_maps,
        delta=deltas,
        outcome=st.sampled_from(Outcome),
    )
    def end(
        self,
        spec: CallSpec,
        service_ns: int,
        work_ns: int,
        waits: dict[WaitReason, int],
        delta: ProgramDelta,
        outcome: Outcome,
    ) -> tuple[int, int]:
        """End a call with any report, once; its path is for those that follow."""
        said = report(
            spec,
            service_ns,
            work_ns,
            ended_ns=self.tick(),
            wait_ns=waits,
            program=delta,
            outcome=outcome,
        )
        facts = self.gone(spec)
        before_ns = self.path_before[spec.call_id]
        facts.ended.append(Ended(said, before_ns))
        facts.deltas.append(delta)
        facts.completions.append(self.now_ns)
        path_ns = self.table.end(said)
        assert path_ns == before_ns + said.run_ns(self.policy.charge)
        with pytest.raises(InvariantError):
            self.table.end(said)
        return spec.program_id, path_ns

    @rule(spec=consumes(calls))
    def refuse(self, spec: CallSpec) -> None:
        """Refuse a call, once."""
        self.gone(spec)
        self.table.refuse(spec.call_id)
        with pytest.raises(InvariantError):
            self.table.refuse(spec.call_id)

    @rule(spec=consumes(calls))
    def lose(self, spec: CallSpec) -> None:
        """Lose a call with its engine, once."""
        self.gone(spec).completions.append(self.tick())
        self.table.lose(spec.call_id, now_ns=self.now_ns)
        with pytest.raises(InvariantError):
            self.table.lose(spec.call_id, now_ns=self.now_ns)

    @rule(spec=calls, waited_ns=times, delta=deltas)
    def wait_in_intake(
        self, spec: CallSpec, waited_ns: int, delta: ProgramDelta
    ) -> None:
        """Let a live call have waited in the runtime's own queue."""
        facts = self.facts[spec.program_id]
        facts.intake_ns.append(waited_ns)
        facts.deltas.append(delta)
        answer = self.table.wait_in_intake(spec.call_id, waited_ns, delta)
        assert answer == facts.window()

    @rule(program=programs, engine=st.sampled_from(["a", "b", None]))
    def bind(self, program: int, engine: str | None) -> None:
        """Bind a program that has a row."""
        if program in self.facts:
            self.facts[program].engine = engine
            self.table.bind(program, engine)

    @rule(program=programs)
    def close(self, program: int) -> None:
        """Close a program; only its live calls keep its row."""
        facts = self.facts.get(program)
        if facts is None or facts.is_closed:
            with pytest.raises(InvariantError):
                self.table.close(program)
            return
        assert self.table.close(program) == (not facts.live)
        facts.is_closed = True
        if not facts.live:
            del self.facts[program]

    @invariant()
    def every_row_is_the_sum_of_what_happened(self) -> None:
        """Rows, and only those there should be."""
        self.table.check_invariants()
        assert [view.program_id for view in self.table.views()] == list(self.facts)
        assert len(self.table) == len(self.facts)
        for view in self.table.views():
            facts = self.facts[view.program_id]
            assert view.service_ns == facts.sum_of(Charge.SERVICE)
            assert view.work_ns == facts.sum_of(Charge.WORK)
            assert view.critical_path_ns == facts.critical_path_ns(self.policy.charge)
            assert view.ran_ns == sum(delta.ran_ns for delta in facts.deltas)
            assert view.waited_ns == sum(delta.waited_ns for delta in facts.deltas)
            assert view.window == facts.window()
            assert view.wait_ns == facts.wait_ns()
            assert view.engine == facts.engine
            assert view.live_calls == len(facts.live)
            assert view.calls == len(facts.ended)
            assert view.output_tokens == 3 * len(facts.ended)
            assert view.last_arrival_ns == max(facts.arrivals, default=None)
            assert view.last_completion_ns == max(facts.completions, default=None)
            assert view.is_closed == facts.is_closed


class PLASMachine(TableMachine):
    """The same under PLAS, by work."""

    policy: ClassVar[Policy] = PLAS(charge=Charge.WORK)


class FCFSMachine(TableMachine):
    """The same under FCFS."""

    policy: ClassVar[Policy] = FCFS()


TestUnderATLAS = pytest.mark.slow(TableMachine.TestCase)
TestUnderPLAS = pytest.mark.slow(PLASMachine.TestCase)
TestUnderFCFS = pytest.mark.slow(FCFSMachine.TestCase)
