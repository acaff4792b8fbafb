"""Our half of a scheduler beside a vLLM that overlaps steps, as on GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from autellix.backends.vllm.steer import Steer
from autellix.backends.vllm.steering import Steering
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended
from autellix.core.records import CallReport, Outcome
from autellix.policies import PLAS, AgeRow, Ladder, Table
from tests.backends.vllm.test_follower import spec

NS_PER_S = 1_000_000_000
POLICY = PLAS(ladder=Ladder(bounds_s=[1.0], quanta_s=[1.0, math.inf]))


class Status(SimpleNamespace):
    """One of vLLM's words for where a request stands."""

    def __class_getitem__(cls, name: str) -> Any:
        """Return the one status of that name, as vLLM's enumeration does."""
        return STATUSES[name]


NAMES = "WAITING", "RUNNING", "PREEMPTED", "FINISHED_STOPPED", "FINISHED_ABORTED"
STATUSES = {name: Status(name=name) for name in NAMES}


@attrs.define(eq=False)
class Request:
    """What of a request of vLLM's is looked at."""

    request_id: str
    status: Any = STATUSES["WAITING"]
    priority: int = 0
    num_computed_tokens: int = 0
    num_tokens_with_spec: int = 3
    all_token_ids: list[int] = attrs.field(factory=lambda: [1, 2, 3])

    def is_finished(self) -> bool:
        """Say whether vLLM has ended it."""
        return bool(self.status.name.startswith("FINISHED"))


class Queue(list[Request]):
    """vLLM's queue of requests, as far as their places are set in it."""

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take these out."""
        for request in requests:
            self.remove(request)

    def add_request(self, request: Request) -> None:
        """Put one in by its priority."""
        self.append(request)


class Vllm:
    """A scheduler that takes the steps it is told to; several can be under way."""

    max_num_scheduled_tokens = 64

    def __init__(self, slots: int = 1) -> None:
        self.max_num_running_reqs = slots
        self.running: list[Request] = []
        self.waiting = Queue()
        self.cache_config = SimpleNamespace(block_size=4, enable_prefix_caching=True)
        pool = SimpleNamespace(num_gpu_blocks=65, get_num_free_blocks=lambda: 64)
        self.kv_cache_manager = SimpleNamespace(block_pool=pool)
        costs = CostModel(step_ns=10, prefill_ns=1, decode_ns=1)
        ranking = POLICY.ranking(10)
        self.ours = Steering(self, Steer(policy=POLICY, ranking=ranking, costs=costs))

    def add(self, call_id: int, inherited_ns: int = 0) -> Request:
        """Take a request in."""
        request = Request(str(call_id))
        self.ours.add(request, spec(call_id, inherited_ns), None)
        return request

    def schedule(self, **scheduled: int) -> Any:
        """Take a step of requests, by ``r`` and their id."""
        self.ours.before_schedule()
        return self.take(**scheduled)

    def take(self, **scheduled: int) -> Any:
        """Take a step, once queues are in order."""
        output = SimpleNamespace(
            num_scheduled_tokens={name[1:]: n for name, n in scheduled.items()},
            total_num_scheduled_tokens=sum(scheduled.values()),
        )
        self.ours.after_schedule(output)
        return output

    def run(self, request: Request) -> Any:
        """Let a request in, in a step that computes its prompt."""
        self.ours.before_schedule()
        request.status = STATUSES["RUNNING"]
        request.num_computed_tokens = 3
        self.running.append(request)
        return self.take(**{f"r{request.request_id}": 3})

    def finish(self, request: Request, status: str) -> None:
        """Forget a request."""
        request.status = STATUSES[status]
        self.running.remove(request)

    def _preempt_request(self, request: Request, _: float) -> None:
        request.status = STATUSES["PREEMPTED"]
        request.num_computed_tokens = 0

    def reports(self) -> list[CallReport]:
        """Return the reports written since this was last asked."""
        return [f.report for f in self.ours.take_facts() if isinstance(f, Ended)]


def test_a_call_may_end_while_its_next_step_is_under_way() -> None:
    """A token that ends a text is known only after that one was begun (A4)."""
    vllm = Vllm()
    request = vllm.add(1)
    steps = [vllm.run(request), vllm.schedule(r1=1)]
    vllm.finish(request, "FINISHED_STOPPED")
    vllm.ours.after_step(steps[0])
    assert [report.outcome for report in vllm.reports()] == [Outcome.FINISHED]
    vllm.ours.after_step(steps[1])
    assert vllm.reports() == []


def test_a_call_aborted_in_a_step_does_not_yield_its_slot_again() -> None:
    """vLLM has it no more; it ends when the step comes back, another one yields."""
    vllm = Vllm(slots=2)
    yields, aborted = vllm.add(1, 2 * NS_PER_S), vllm.add(2, 2 * NS_PER_S)
    steps = [vllm.run(yields), vllm.run(aborted)]
    vllm.finish(aborted, "FINISHED_ABORTED")
    vllm.ours.finished(["2"])
    vllm.add(3)
    vllm.add(4)
    vllm.ours.before_schedule()
    assert yields.status is STATUSES["PREEMPTED"]
    assert vllm.running == []
    for step in steps:
        vllm.ours.after_step(step)
    (report,) = vllm.reports()
    assert (report.call_id, report.outcome) == (2, Outcome.CANCELLED)
    assert not report.preemptions


def test_what_is_learned_moves_those_who_wait_in_the_queue_of_vllm() -> None:
    """In the next step, by vLLM's own thread; who has ended since is left out (Q4)."""
    vllm = Vllm()
    ended, waits, ahead = (vllm.add(n, n * NS_PER_S) for n in (3, 1, 0))
    vllm.waiting.extend([ahead, waits, ended])
    assert ahead.priority < waits.priority
    for version, levels in ((1, [0, 1]), (2, [1, 0])):
        row = AgeRow(starts_s=[0, 0.5], levels=levels)
        vllm.ours.update_ranking(version, Table(default=row))
    before = waits.priority
    ended.status = STATUSES["FINISHED_ABORTED"]
    vllm.waiting.remove(ended)
    vllm.ours.finished(["3"])
    assert waits.priority == before
    vllm.ours.before_schedule()
    assert waits.priority < ahead.priority
    assert sorted(r.request_id for r in vllm.waiting) == ["0", "1"]


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.FAILED])
def test_a_step_that_comes_back_after_all_calls_ended_is_nobodys(
    outcome: Outcome,
) -> None:
    """All of it was booked when they ended."""
    vllm = Vllm()
    step = vllm.run(vllm.add(1))
    vllm.ours.end_all(outcome)
    assert [report.outcome for report in vllm.reports()] == [outcome]
    vllm.ours.after_step(step)
    assert vllm.reports() == []
