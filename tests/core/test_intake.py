"""The runtime's own queue against one that is searched from end to end (rule B4)."""

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from autellix.core.intake import Intake, Leaving, passes_limit
from autellix.core.ranking import InnerOrder, Policy, Ranking
from autellix.core.records import CallSpec, FairnessWindow, Job, ProgramDelta
from autellix.core.starvation import is_starving
from autellix.errors import InvariantError
from autellix.policies import FCFS, PLAS, AgeRow, Ladder, ProgramFCFS, Table

NS = 1e-9
LADDER = Ladder(bounds_s=(10 * NS, 100 * NS), quanta_s=(5 * NS, 50 * NS, 500 * NS))
NEVER = PLAS(ladder=LADDER, beta=None)
BOTH = frozenset({"a", "b"})


def spec(
    call_id: int,
    program_id: int = 0,
    *,
    inherited_ns: int = 0,
    window: FairnessWindow | None = None,
) -> CallSpec:
    """Return a small call of a program."""
    return CallSpec(
        call_id=call_id,
        program_id=program_id,
        job=Job(program_class="chat", program_arrival=program_id),
        inherited_ns=inherited_ns,
        prompt=[1],
        max_tokens=1,
        window=window or FairnessWindow(),
    )


def intake(policy: Policy = NEVER) -> Intake:
    """Return an empty queue."""
    return Intake(policy, policy.ranking(1_000))


def add(
    queue: Intake,
    call: CallSpec,
    now_ns: int = 0,
    *,
    bound: str | None = None,
    rebuild_ns: int = 0,
    engines: frozenset[str] = BOTH,
) -> None:
    """Put a call into a queue."""
    queue.add(
        call,
        engines=engines,
        bound_engine=bound,
        rebuild_ns=rebuild_ns,
        now_ns=now_ns,
    )


def take_all(queue: Intake, engine: str, now_ns: int = 0) -> list[int]:
    """Take until there is nothing for an engine."""
    taken: list[int] = []
    while (leaving := queue.take(engine, now_ns)) is not None:
        taken.append(leaving.call_id)
    return taken


def test_calls_are_taken_in_the_order_of_the_policy() -> None:
    """By level of what they inherited, then by arrival."""
    queue = intake()
    for call_id, inherited_ns in enumerate([100, 10, 0, 99, 9]):
        add(queue, spec(call_id, call_id, inherited_ns=inherited_ns))
    assert take_all(queue, "a") == [2, 4, 1, 3, 0]
    assert len(queue) == 0


def test_the_inner_order_is_the_policys() -> None:
    """By arrival of the call, or of its program."""
    for policy, order in ((FCFS(), [0, 1, 2]), (ProgramFCFS(), [2, 0, 1])):
        queue = intake(policy)
        for call_id, program_id in enumerate([4, 5, 3]):
            add(queue, spec(call_id, program_id))
        assert take_all(queue, "a") == order


def test_a_bound_call_waits_for_its_engine_as_long_as_its_prefix_costs() -> None:
    """Longer, and any engine may have it; its own may at any time."""
    queue = intake()
    add(queue, spec(0), now_ns=100, bound="a", rebuild_ns=50)
    assert queue.next_change_ns() == 151
    assert queue.take("b", 150) is None
    leaving = queue.take("b", 151)
    assert leaving is not None
    assert leaving.waited_ns == 51
    add(queue, spec(1), now_ns=200, bound="a", rebuild_ns=50)
    assert take_all(queue, "a", 200) == [1]
    assert queue.next_change_ns() is None


def test_an_engine_takes_only_calls_that_may_run_on_it() -> None:
    """B3: and a binding to an engine that may not have the call binds nothing."""
    queue = intake()
    add(queue, spec(0), engines=frozenset({"b"}), bound="a", rebuild_ns=10**9)
    assert queue.take("a", 0) is None
    assert take_all(queue, "b") == [0]


def test_a_full_engine_takes_only_what_is_better_than_its_worst() -> None:
    """The first in order, or nothing."""
    queue = intake()
    add(queue, spec(0, inherited_ns=10))
    assert queue.take("a", 0, passing=1) is None
    leaving = queue.take("a", 0, passing=2)
    assert leaving is not None
    assert leaving.level == 1


@pytest.mark.parametrize(
    ("level", "worst", "passes"),
    [(0, 1, True), (1, 1, False), (2, 1, False), (0, 0, False), (0, None, False)],
)
def test_only_a_strictly_better_call_passes_the_limit(
    level: int, worst: int | None, passes: bool
) -> None:
    """Among equals nobody is preempted; of an engine that says nothing nobody is."""
    assert passes_limit(level, worst) is passes


def test_a_lost_engine_unbinds_its_calls_and_strands_those_with_no_other() -> None:
    """B3, B5: the stranded ones leave, for the runtime to fail."""
    queue = intake()
    add(queue, spec(0), bound="a", rebuild_ns=10**9)
    add(queue, spec(1), engines=frozenset({"a"}))
    add(queue, spec(2), bound="b", rebuild_ns=10**9)
    assert [leaving.call_id for leaving in queue.drop_engine("a", 5)] == [1]
    assert take_all(queue, "a", 5) == []
    assert take_all(queue, "b", 5) == [0, 2]


def test_a_withdrawn_call_is_gone_and_says_how_long_it_waited() -> None:
    """Once; a second time is an error."""
    queue = intake()
    add(queue, spec(7, 3), now_ns=10)
    leaving = queue.withdraw(7, 25)
    assert (leaving.call_id, leaving.program_id, leaving.waited_ns) == (7, 3, 15)
    assert 7 not in queue
    assert take_all(queue, "a", 25) == []
    with pytest.raises(InvariantError, match="call 7 does not wait"):
        queue.withdraw(7, 25)


def test_a_call_that_can_go_nowhere_or_is_here_already_is_refused() -> None:
    """Both are errors of the caller's, and change nothing."""
    queue = intake()
    with pytest.raises(ValueError, match="call 0 has no engine"):
        add(queue, spec(0), engines=frozenset())
    add(queue, spec(1))
    with pytest.raises(InvariantError, match="call 1 waits in the intake already"):
        add(queue, spec(1))
    assert len(queue) == 1


def test_a_starving_program_is_promoted_and_its_window_starts_again() -> None:
    """Q3: all its calls below level 0 go there in their order, behind those on it."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    window = FairnessWindow(ran_ns=20, waited_ns=30)
    for call_id, inherited_ns in ((0, 100), (1, 10)):
        add(queue, spec(call_id, inherited_ns=inherited_ns, window=window))
    add(queue, spec(2, 1))
    assert queue.next_change_ns() == 10
    queue.advance(9)
    assert queue.next_change_ns() == 10
    queue.advance(10)
    assert queue.next_change_ns() is None
    leavings = [queue.take("a", 15) for _ in range(3)]
    assert all(leaving is not None and leaving.level == 0 for leaving in leavings)
    assert [leaving.call_id for leaving in leavings if leaving] == [2, 1, 0]
    first = leavings[1]
    assert first is not None
    assert first.program == ProgramDelta(
        waited_ns=15, promoted=True, window=FairnessWindow(waited_ns=5)
    )


def test_a_program_with_a_call_on_an_engine_does_not_wait() -> None:
    """A7: W is a union; what runs is for the engine to say."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    queue.sent(0, now_ns=4)
    assert queue.next_change_ns() is None
    queue.ended(0, FairnessWindow(ran_ns=50), now_ns=104)
    assert queue.next_change_ns() == 104 + 100 - 4
    assert queue.withdraw(0, 110).program.waited_ns == 4 + 6


def test_a_promotion_the_table_does_not_know_of_yet_is_not_undone() -> None:
    """A3: the table's window is older than it, and is about to be replaced."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    queue.advance(10)  # promoted
    add(queue, spec(1, inherited_ns=10), now_ns=12)
    queue.sent(0, now_ns=12)
    queue.ended(0, FairnessWindow(waited_ns=1000), now_ns=20)
    assert queue.next_change_ns() == 20 + 10 - 2


def test_a_window_counts_only_if_no_sibling_waits() -> None:
    """Else the queue knows better than the table did at submission."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    stale = FairnessWindow(ran_ns=1000)
    add(queue, spec(1, inherited_ns=10, window=stale), now_ns=4)
    assert queue.next_change_ns() == 10


def test_a_new_ladder_counts_for_those_who_come() -> None:
    """Q4: their quantum is of the ladder by which they came."""
    queue = intake()
    add(queue, spec(0, inherited_ns=10))
    queue.update_ranking(Ladder.geometric(1.0, 2.0, 2), 0)
    add(queue, spec(1, inherited_ns=10))
    assert take_all(queue, "a") == [1, 0]


def test_what_is_learned_counts_for_those_who_wait() -> None:
    """Q4: of many that came before anything was known, but not for who is promoted."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, 0, inherited_ns=10))
    queue.advance(10)  # promoted
    for call_id, inherited_ns in ((1, 0), (2, 20), (3, 40)):
        add(queue, spec(call_id, call_id, inherited_ns=inherited_ns), now_ns=10)
    row = AgeRow(starts_s=[0, 5 * NS, 30 * NS], levels=[2, 1, 0])
    queue.update_ranking(Table(default=row, first_quantum_s=1.0), 11)
    assert take_all(queue, "a", now_ns=11) == [0, 3, 2, 1]


def test_who_is_learned_to_be_worse_may_starve() -> None:
    """Q3: it waited on level 0, where nobody does; and the other way round."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0))
    table = Table(default=AgeRow(starts_s=[0], levels=[1]), first_quantum_s=50 * NS)
    queue.update_ranking(table, 30)
    assert queue.next_change_ns() == 2 * 50
    queue.update_ranking(
        attrs.evolve(table, default=AgeRow(starts_s=[0], levels=[0])), 40
    )
    assert queue.next_change_ns() is None


def test_what_learning_leaves_behind_is_thrown_away() -> None:
    """A call has one entry, however often it is moved."""
    queue = intake()
    add(queue, spec(0))
    for n in range(9):
        table = Table(default=AgeRow(starts_s=[0], levels=[n % 2]))
        queue.update_ranking(table, 0)
    assert [len(heap) for heap in queue._lanes._heaps.values()] == [1]


def test_a_larger_first_quantum_puts_starvation_off() -> None:
    """Q3: the floor of T is that of the ranking in use."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    queue.update_ranking(Ladder(bounds_s=(NS,), quanta_s=(20 * NS, NS)), 0)
    queue.advance(10)
    assert queue.next_change_ns() == 40
    queue.advance(40)
    assert queue.next_change_ns() is None


def test_a_smaller_first_quantum_brings_starvation_forward() -> None:
    """Q3: those who wait already are looked at when the new floor says so."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    add(queue, spec(1, 1, inherited_ns=10, window=FairnessWindow(ran_ns=20)))
    add(queue, spec(2, 2, inherited_ns=10))
    queue.sent(2, now_ns=1)
    queue.update_ranking(Ladder(bounds_s=(NS,), quanta_s=(2 * NS, NS)), 1)
    assert queue.next_change_ns() == 4
    queue.advance(4)
    assert queue.next_change_ns() == 40
    queue.ended(2, FairnessWindow(), now_ns=20)
    assert queue.next_change_ns() == 20 + 4 - 1


def test_a_program_with_no_call_here_or_on_an_engine_is_forgotten() -> None:
    """However its calls went."""
    queue = intake(PLAS(ladder=LADDER, beta=2.0))
    add(queue, spec(0, inherited_ns=10))
    add(queue, spec(1, inherited_ns=10))
    queue.withdraw(0, 1)
    assert take_all(queue, "a", 2) == [1]
    assert len(queue._fairness) == 1
    queue.ended(0, FairnessWindow(), 3)
    assert len(queue._fairness) == 0
    assert queue.next_change_ns() is None


def test_check_invariants_sees_what_is_broken() -> None:
    """A check that sees nothing is no check."""
    for fault in ("lane", "program", "count"):
        queue = intake()
        add(queue, spec(0))
        queue.check_invariants()
        if fault == "lane":
            queue._waiting[0].order = (9, 9)
        elif fault == "program":
            del queue._programs[0]
        else:
            queue._programs[0][1] = queue._waiting[0]
        with pytest.raises(InvariantError):
            queue.check_invariants()


@attrs.define(eq=False)
class SlowCall:
    """A call as the slow queue knows it."""

    spec: CallSpec
    engines: frozenset[str]
    bound: str | None
    free_ns: int
    since_ns: int
    level: int
    place: int
    is_promoted: bool = False


@attrs.define(eq=False)
class SlowProgram:
    """T and W counted nanosecond by nanosecond; ``untold`` is not in the table yet."""

    base: FairnessWindow = attrs.Factory(FairnessWindow)
    untold_window_ns: int = 0
    untold_ns: int = 0
    was_promoted: bool = False
    on_engines: int = 0

    def window(self) -> FairnessWindow:
        """The window of now."""
        waited_ns = self.base.waited_ns + self.untold_window_ns
        return FairnessWindow(ran_ns=self.base.ran_ns, waited_ns=waited_ns)


class SlowQueue:
    """Searches and sorts everything whenever it is asked."""

    def __init__(self, beta: float, by_program: bool) -> None:
        self.beta, self.by_program = beta, by_program
        self.ranking: Ranking = LADDER
        self.calls: list[SlowCall] = []
        self.programs = {program_id: SlowProgram() for program_id in range(3)}
        self.places = 0

    def of(self, program_id: int) -> list[SlowCall]:
        """The waiting calls of a program."""
        return [c for c in self.calls if c.spec.program_id == program_id]

    def pass_time(self, nanoseconds: int) -> None:
        """Count every nanosecond."""
        for program_id, program in self.programs.items():
            if self.of(program_id) and not program.on_engines:
                program.untold_ns += nanoseconds
                program.untold_window_ns += nanoseconds

    def key(self, call: SlowCall) -> tuple[int, ...]:
        """The place of a call in the order."""
        program = call.spec.program_id if self.by_program else 0
        return call.level, program, call.place

    def promote(self) -> None:
        """Promote what starves."""
        for program_id, program in self.programs.items():
            below = [call for call in self.of(program_id) if call.level > 0]
            quantum_ns = self.ranking.first_quantum_ns
            starves = is_starving(program.window(), self.beta, quantum_ns)
            if below and not program.on_engines and starves:
                program.base, program.untold_window_ns = FairnessWindow(), 0
                program.was_promoted = True
                for call in sorted(below, key=self.key):
                    self.places += 1
                    call.level, call.place = 0, self.places
                    call.is_promoted = True

    def use(self, ranking: Ranking) -> None:
        """Use another ranking, also for those who wait."""
        self.ranking = ranking
        for call in sorted(self.calls, key=self.key):
            spec = call.spec
            placed = ranking.review(spec.job, spec.inherited_ns, call.level)
            if placed and placed.level != call.level and not call.is_promoted:
                self.places += 1
                call.level, call.place = placed.level, self.places

    def first(self, engine: str, now_ns: int) -> SlowCall | None:
        """The first call that an engine may have."""
        mine = [
            call
            for call in self.calls
            if engine in call.engines
            and (call.bound in {None, engine} or now_ns >= call.free_ns)
        ]
        return min(mine, key=self.key, default=None)

    def leave(self, call: SlowCall, now_ns: int) -> Leaving:
        """Remove a call."""
        self.calls.remove(call)
        program = self.programs[call.spec.program_id]
        delta = ProgramDelta(
            waited_ns=program.untold_ns,
            promoted=program.was_promoted,
            window=FairnessWindow(waited_ns=program.untold_window_ns),
        )
        program.base = program.window()
        program.untold_ns = program.untold_window_ns = 0
        program.was_promoted = False
        return Leaving(
            call_id=call.spec.call_id,
            program_id=call.spec.program_id,
            level=call.level,
            waited_ns=now_ns - call.since_ns,
            program=delta,
        )


programs = st.integers(0, 2)
engine_names = st.sampled_from(["a", "b", "c"])
pauses = st.integers(0, 40)
windows = st.builds(
    FairnessWindow, ran_ns=st.integers(0, 40), waited_ns=st.integers(0, 40)
)


class IntakeMachine(RuleBasedStateMachine):
    """Drives both queues with the same events and compares all they say."""

    calls: Bundle[int] = Bundle("calls")

    @initialize(by_program=st.booleans(), beta=st.sampled_from([0.5, 2.0]))
    def begin(self, by_program: bool, beta: float) -> None:
        """Draw the policy."""
        inner = InnerOrder.PROGRAM_ARRIVAL if by_program else InnerOrder.LEVEL_ARRIVAL
        policy = PLAS(ladder=LADDER, beta=beta, inner_order=inner)
        self.queue = Intake(policy, LADDER)
        self.slow = SlowQueue(beta, by_program)
        self.now_ns = 0
        self.submitted = 0
        self.lost: set[str] = set()

    def pass_time(self, pause_ns: int) -> None:
        """Let time pass in both."""
        self.now_ns += pause_ns
        self.slow.pass_time(pause_ns)

    @rule(
        target=calls,
        program_id=programs,
        engines=st.frozensets(engine_names, min_size=1),
        bound=st.none() | engine_names,
        rebuild_ns=st.integers(0, 60),
        inherited_ns=st.integers(0, 120),
        window=windows,
        pause_ns=pauses,
    )
    def add(
        self,
        program_id: int,
        engines: frozenset[str],
        bound: str | None,
        rebuild_ns: int,
        inherited_ns: int,
        window: FairnessWindow,
        pause_ns: int,
    ) -> int:
        """Add a call, bound or not."""
        self.pass_time(pause_ns)
        call = spec(
            self.submitted, program_id, inherited_ns=inherited_ns, window=window
        )
        self.submitted += 1
        add(
            self.queue,
            call,
            self.now_ns,
            bound=bound,
            rebuild_ns=rebuild_ns,
            engines=engines,
        )
        if not self.slow.of(program_id):
            self.slow.programs[program_id].base = window
        self.slow.places += 1
        self.slow.calls.append(
            SlowCall(
                spec=call,
                engines=engines,
                bound=bound if bound in engines else None,
                free_ns=self.now_ns + rebuild_ns + 1,
                since_ns=self.now_ns,
                level=self.slow.ranking.enter(call.job, inherited_ns).level,
                place=self.slow.places,
            )
        )
        return call.call_id

    @rule(engine=engine_names, passing=st.none() | st.integers(0, 3), pause_ns=pauses)
    def take(self, engine: str, passing: int | None, pause_ns: int) -> None:
        """Take what comes first."""
        self.pass_time(pause_ns)
        self.slow.promote()
        first = self.slow.first(engine, self.now_ns)
        leaving = self.queue.take(engine, self.now_ns, passing=passing)
        if first is None or (passing is not None and first.level >= passing):
            assert leaving is None
            return
        assert leaving == self.slow.leave(first, self.now_ns)
        self.slow.programs[leaving.program_id].on_engines += 1

    @rule(call_id=consumes(calls), pause_ns=pauses)
    def withdraw(self, call_id: int, pause_ns: int) -> None:
        """Withdraw a call, if it waits still."""
        self.pass_time(pause_ns)
        waiting = [c for c in self.slow.calls if c.spec.call_id == call_id]
        assert (call_id in self.queue) == bool(waiting)
        for call in waiting:
            expected = self.slow.leave(call, self.now_ns)
            assert self.queue.withdraw(call_id, self.now_ns) == expected

    @rule(engine=engine_names)
    def drop_engine(self, engine: str) -> None:
        """Lose an engine."""
        expected = []
        for call in list(self.slow.calls):
            call.engines -= {engine}
            call.bound = None if call.bound == engine else call.bound
            if not call.engines:
                expected.append(self.slow.leave(call, self.now_ns))
        assert self.queue.drop_engine(engine, self.now_ns) == expected

    @rule(program_id=programs, pause_ns=pauses)
    def send(self, program_id: int, pause_ns: int) -> None:
        """Send a call past the queue."""
        self.pass_time(pause_ns)
        self.slow.programs[program_id].on_engines += 1
        self.queue.sent(program_id, self.now_ns)

    @rule(program_id=programs, window=windows, pause_ns=pauses)
    def end(self, program_id: int, window: FairnessWindow, pause_ns: int) -> None:
        """End a call on an engine, if there is one."""
        program = self.slow.programs[program_id]
        if program.on_engines:
            self.pass_time(pause_ns)
            program.on_engines -= 1
            if not program.was_promoted:
                program.base = window
            self.queue.ended(program_id, window, self.now_ns)

    @rule(quantum_ns=st.integers(1, 12), pause_ns=pauses)
    def recalibrate(self, quantum_ns: int, pause_ns: int) -> None:
        """Use a ladder with another first quantum, and the same bounds."""
        self.pass_time(pause_ns)
        quanta_s = (quantum_ns * NS, *LADDER.quanta_s[1:])
        ladder = attrs.evolve(LADDER, quanta_s=quanta_s)
        self.queue.update_ranking(ladder, self.now_ns)
        self.slow.use(ladder)

    @rule(
        levels=st.lists(st.integers(0, 3), min_size=4, max_size=4),
        quantum_ns=st.integers(1, 12),
        pause_ns=pauses,
    )
    def learn(self, levels: list[int], quantum_ns: int, pause_ns: int) -> None:
        """Use a table, which places those who wait anew."""
        self.pass_time(pause_ns)
        row = AgeRow(starts_s=[0, 10 * NS, 40 * NS, 80 * NS], levels=levels)
        table = Table(default=row, first_quantum_s=quantum_ns * NS)
        self.queue.update_ranking(table, self.now_ns)
        self.slow.use(table)

    @rule()
    def wait_for_the_next_change(self) -> None:
        """Whatever waiting alone can change, it does at an instant that was named."""
        changes = 0
        while (change_ns := self.queue.next_change_ns()) is not None:
            self.pass_time(max(0, change_ns - self.now_ns))
            self.slow.promote()
            self.queue.advance(self.now_ns)
            changes += 1
            assert changes < 100
        for program_id, program in self.slow.programs.items():
            below = [call for call in self.slow.of(program_id) if call.level > 0]
            assert program.on_engines or not below
        bound = [c for c in self.slow.calls if c.bound and c.free_ns > self.now_ns]
        assert not bound

    @invariant()
    def both_hold_the_same_calls(self) -> None:
        """And the fast one is sound in itself."""
        self.queue.check_invariants()
        assert len(self.queue) == len(self.slow.calls)


TestAgainstTheSlowQueue = pytest.mark.slow(IntakeMachine.TestCase)
