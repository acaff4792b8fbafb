"""The reference scheduler against the paper's toy example (section 2, Fig. 2).

Two slots, four programs that all arrive at 0, a step is one unit of time. A call of k
decode steps is a prompt of one token with ``max_tokens=k``: the step that computes the
prompt gives the first token, so the call takes k steps. Published total waiting: 18
under FCFS, 12 under PLAS.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from autellix.core.cost_model import CostModel
from autellix.core.ranking import InnerOrder, Placement
from autellix.core.records import CallSpec, Charge, Job
from tests.laws.reference import Reference
from tests.laws.reference_records import Limits

PROGRAMS = {"A": (4, 3, 1, 1), "B": (3, 3, 4), "C": (1, 2), "D": (4,)}


@attrs.frozen
class Ladder:
    """Level i starts at age ``bounds[i - 1]``, lasts ``quanta[i]`` (None: for ever)."""

    quanta: Sequence[int | None]
    bounds: Sequence[int]

    @property
    def levels(self) -> int:
        return len(self.quanta)

    @property
    def first_quantum_ns(self) -> int:
        return self.quanta[0] or 0

    def enter(self, job: Job, age_ns: int) -> Placement:
        return self._on(sum(bound <= age_ns for bound in self.bounds), age_ns)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        return self._on(min(level + 1, self.levels - 1), age_ns)

    def review(self, job: Job, age_ns: int, level: int) -> None:
        return None

    def promote(self, job: Job, age_ns: int) -> Placement:
        return self._on(0, age_ns)

    def _on(self, level: int, age_ns: int) -> Placement:
        quantum_ns = self.quanta[level]
        return Placement(level, None if quantum_ns is None else age_ns + quantum_ns)


def two_slots(ladder: Ladder) -> Reference:
    """Return a reference with two slots, and memory and tokens that never run short."""
    limits = Limits(
        slots=2,
        token_budget=2,
        block_tokens=1,
        device_blocks=100,
        host_blocks=0,
        lookahead=1,
        hysteresis_levels=1,
        reserve_after_ns=1_000,
        round_steps=1,
    )
    costs = CostModel(step_ns=1, prefill_ns=0, decode_ns=0)
    order = InnerOrder.LEVEL_ARRIVAL
    return Reference(limits, ladder, order, None, Charge.SERVICE, costs)


def run_toy(ladder: Ladder, *, does_inherit: bool) -> Mapping[str, int]:
    """Return each program's waiting time; check that all are served in full."""
    reference = two_slots(ladder)
    to_come: dict[str, Iterator[int]] = {p: iter(PROGRAMS[p]) for p in PROGRAMS}
    served, waited = dict.fromkeys(PROGRAMS, 0), dict.fromkeys(PROGRAMS, 0)
    live: dict[str, int] = {}  # call id by program
    submitted, now_ns = 0, 0
    while True:
        for place, program in enumerate(PROGRAMS):
            if live.get(program) in reference.states():
                continue
            live.pop(program, None)
            for steps in to_come[program]:
                submitted += 1
                live[program] = submitted
                spec = CallSpec(
                    call_id=submitted,
                    program_id=place,
                    job=Job(program_class="toy", program_arrival=place),
                    inherited_ns=served[program] if does_inherit else 0,
                    prompt=(0,),
                    max_tokens=steps,
                )
                reference.submit(spec, now_ns)
                break
        step = reference.plan(now_ns)
        if not step:
            assert served == {program: sum(PROGRAMS[program]) for program in PROGRAMS}
            return waited
        for program, call_id in live.items():
            counter = served if call_id in step else waited
            counter[program] += 1
        now_ns += 1
        reference.commit(1, set(), now_ns)


def test_fcfs_waits_18_in_the_toy_example() -> None:
    """One level without end, calls in the order of arrival: the published 18."""
    assert sum(run_toy(Ladder((None,), ()), does_inherit=False).values()) == 18


def test_plas_waits_12_in_the_toy_example() -> None:
    """With inherited service and quanta (2, 1, without end): the published 12."""
    ladder = Ladder((2, 1, None), (2, 3))
    assert sum(run_toy(ladder, does_inherit=True).values()) == 12
