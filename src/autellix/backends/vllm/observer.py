"""Books calls from outside of vLLM, where its scheduler cannot be steered.

All there is then are the tokens as they come. A step that gave a call a token is
charged to it; a part of a prefill that gave none counts as wait. Levels are fixed when
a call is submitted, as vLLM's ``priority``, and nobody is preempted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from autellix.backends.vllm.admission import Admitted
from autellix.backends.vllm.follower import Follower
from autellix.core.plan import Sampled
from autellix.core.records import Outcome, WaitReason

if TYPE_CHECKING:
    from autellix.backends.vllm.steer import Steer
    from autellix.core.call import Call
    from autellix.core.facts import Fact
    from autellix.core.ranking import Ranking
    from autellix.core.records import CallSpec
    from autellix.core.snapshot import EngineStatistics, TierUse


@attrs.frozen(kw_only=True)
class Seen:
    """What a step gave to a call.

    Attributes:
        call_id: Of the call.
        token_ids: New tokens.
        cached_tokens: Of the prompt, found in vLLM's prefix cache.
        is_finished: Whether vLLM has ended it.
    """

    call_id: int
    token_ids: tuple[int, ...]
    cached_tokens: int
    is_finished: bool

    @classmethod
    def of(cls, output: Any) -> Seen:
        """Return what one of vLLM's outputs says."""
        return cls(
            call_id=int(output.request_id),
            token_ids=tuple(output.outputs[0].token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            is_finished=output.finished,
        )


class Observer:
    """The books of an engine that is only looked at. Any thread may call it.

    Args:
        slots: Most calls in a step.
        steer: Policy, ranking and costs.
        now_ns: The runtime's clock.
        use: Of vLLM's blocks.
    """

    def __init__(
        self,
        slots: int,
        steer: Steer,
        now_ns: Callable[[], int],
        use: Callable[[], TierUse],
    ) -> None:
        self._follower = Follower(
            slots=slots, policy=steer.policy, ranking=steer.ranking, costs=steer.costs
        )
        self._clock = now_ns
        self._latest_ns = 0
        self._use = use
        self._lock = threading.Lock()

    def _now_ns(self) -> int:
        self._latest_ns = max(self._latest_ns, self._clock())
        return self._latest_ns

    def add(self, spec: CallSpec, submitted_ns: int) -> int:
        """Take a call in; return its level."""
        with self._lock:
            call = self._follower.take_in(spec, submitted_ns, self._now_ns())
            return call.level

    def end(self, call_id: int, outcome: Outcome) -> None:
        """End a call, unless it has."""
        with self._lock:
            call = self._follower.books.calls.get(call_id)
            if call is not None:
                self._follower.end(call, outcome, self._now_ns())

    def forget(self, call_id: int) -> None:
        """Take a call out again that vLLM refused; it is no call."""
        with self._lock:
            call = self._follower.books.calls.get(call_id)
            if call is not None:
                facts = len(self._follower.books.facts)
                self._follower.end(call, Outcome.FAILED, self._now_ns())
                del self._follower.books.facts[facts:]

    def stepped(self, seen: Iterable[Seen], started_ns: int) -> None:
        """Book a step that has just ended."""
        with self._lock:
            books = self._follower.books
            known = [(books.calls[s.call_id], s) for s in seen if s.token_ids]
            if not known:
                return
            started_ns = max(started_ns, self._latest_ns)
            new = [(call, s) for call, s in known if call.order in books.line]
            admitted = [
                Admitted(call=call, device_tokens=s.cached_tokens, host_tokens=0)
                for call, s in new
            ]
            came_in = {call.call_id: s.cached_tokens for call, s in new}
            calls = [(call, _computed(call, came_in)) for call, _ in known]
            short_of = WaitReason.SLOTS
            plan = self._follower.follow(calls, admitted, short_of, started_ns)
            samples = {
                call.call_id: Sampled(s.token_ids[0], s.is_finished)
                for call, s in known
            }
            self._follower.commit(
                plan, samples, forward_at_ns=started_ns, ended_ns=self._now_ns()
            )

    def take_facts(self) -> list[Fact]:
        """Return what happened since this was last asked, in order."""
        with self._lock:
            return self._follower.take_facts()

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        with self._lock:
            self._follower.update_ranking(version, ranking, self._now_ns())

    def end_all(self, outcome: Outcome) -> None:
        """End every call."""
        with self._lock:
            self._follower.end_all(outcome, self._now_ns())

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""
        with self._lock:
            return self._follower.statistics_with(self._use())


def _computed(call: Call, came_in: dict[int, int]) -> int:
    """Return the tokens that entered the model for a call's new token."""
    cached = came_in.get(call.call_id)
    return 1 if cached is None else len(call.tokens) - cached
