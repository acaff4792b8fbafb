"""The simulated engine's loop: steps whose outcome is known before they have run.

So equal steps can be taken together (rule S10): one sleep, one commit. Whatever comes
in from outside first lands the steps that have ended by then and takes the one under
way alone, exactly as if each step had been taken singly.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from autellix.backends.call_loop import CallLoop
from autellix.backends.live_call import TokenSample
from autellix.core.cost_model import attended_pairs
from autellix.core.plan import Sampled

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.plan import Plan
    from autellix.core.records import CallReport
    from autellix.core.step_scheduler import StepScheduler
    from autellix.core.window import Window

_going_on: Final = cache(Sampled)
"""Samples that end no call: one for each token, not one for each step."""


@attrs.define(eq=False)
class Flight:
    """One plan, run for one or more steps, in the future.

    A step first loads blocks from the host pool, then computes; blocks are written to
    the host pool meanwhile, and the step ends when both are done.

    Attributes:
        plan: What is run.
        forward_at_ns: When the first forward pass begins.
        steps: How many steps are taken.
    """

    plan: Plan
    forward_at_ns: int
    steps: int
    _first_step_ns: int
    _growth_ns: int
    """By how much each step is longer than the one before."""

    @classmethod
    def of(cls, plan: Plan, costs: CostModel) -> Flight:
        """Return a flight of one step."""
        prefill_tokens = decoders = context_tokens = pairs = 0
        for call, tokens in plan.calls:
            if tokens == 1 and call.computed and call.computed + 1 == len(call.tokens):
                decoders += 1
                context_tokens += call.computed
            else:
                prefill_tokens += tokens
                pairs += attended_pairs(call.computed, tokens)
        forward_ns = (
            costs.forward_ns(
                prefill_tokens=prefill_tokens,
                decoders=decoders,
                context_tokens=context_tokens,
                pairs=pairs,
            )
            if plan.calls
            else 0
        )
        return cls(
            plan,
            plan.at_ns + costs.transfer_time_ns(len(plan.to_device)),
            1,
            max(forward_ns, costs.transfer_time_ns(len(plan.to_host))),
            decoders * costs.context_ns,
        )

    @property
    def ended_ns(self) -> int:
        """When the last step ends."""
        return self.end_ns(self.steps)

    def end_ns(self, step: int) -> int:
        """Return when the ``step``-th step ends; the first is 1."""
        growth = step * (step - 1) // 2 * self._growth_ns
        return self.forward_at_ns + step * self._first_step_ns + growth

    def extend(self, window: Window) -> None:
        """Take as many steps as ``window`` allows."""
        self.steps = window.steps
        if window.service_ns is not None:
            self._end_by(self.forward_at_ns + window.service_ns)
        if window.until_ns is not None:
            self._end_by(window.until_ns)

    def _end_by(self, instant_ns: int) -> None:
        """Make the first step that ends at or after the instant the last one."""
        numbers = range(1, self.steps)
        self.steps = 1 + bisect_left(numbers, instant_ns, key=self.end_ns)

    def steps_ended(self, now_ns: int) -> int:
        """Return how many of the steps have ended at ``now_ns``."""
        return bisect_right(range(1, self.steps + 1), now_ns, key=self.end_ns)


@attrs.define(eq=False, kw_only=True)
class SimulatedLoop(CallLoop):
    """Serves calls by sleeping for as long as their steps would take.

    Attributes:
        tokens_of: The tokens a call produces: so many of them, after so many.
        takes_windows: Whether equal steps are taken together.
    """

    tokens_of: Callable[[EngineCall, int, int], Sequence[int]]
    takes_windows: bool = True
    _flight: Flight | None = attrs.field(default=None, init=False)
    _cut: anyio.Event | None = attrs.field(default=None, init=False)
    _breakdown: Exception | None = attrs.field(default=None, init=False)
    _outputs: dict[int, Sequence[int]] = attrs.field(factory=dict, init=False)

    def crash(self, error: Exception) -> None:
        """Fail at the end of the step under way, or of the next one."""
        self._arrive_ns()
        self._breakdown = error

    async def _step(self, scheduler: StepScheduler) -> None:
        plan = scheduler.plan(self._now_ns())
        self._deliver(scheduler)
        self._flight = Flight.of(plan, self.costs)
        window = scheduler.window(plan) if self.takes_windows else None
        if window is not None and self._are_plain(plan):
            self._flight.extend(window)
        try:
            await self._fly(scheduler)
        except anyio.get_cancelled_exc_class():
            self._catch_up(scheduler, self._now_ns())
            with anyio.CancelScope(shield=True):
                await self._fly(scheduler)
            raise

    async def _fly(self, scheduler: StepScheduler) -> None:
        """Wait until the flight, as long or as short as it may become, has landed."""
        while self._flight is not None:
            now_ns = self._now_ns()
            if now_ns < self._flight.ended_ns:
                await self._sleep_through(self._flight)
            elif self._breakdown is not None:
                raise self._breakdown
            else:
                self._catch_up(scheduler, now_ns)

    async def _sleep_through(self, flight: Flight) -> None:
        """Sleep until the flight ends, or until it is cut."""
        until_s = flight.ended_ns / 1e9
        if flight.steps == 1:  # which nothing can cut
            await anyio.sleep_until(until_s)
            return
        self._cut = anyio.Event()
        with anyio.CancelScope(deadline=until_s):
            await self._cut.wait()
        self._cut = None

    def _are_plain(self, plan: Plan) -> bool:
        return all(self._live[call.call_id].is_plain for call, _ in plan.calls)

    def _arrive_ns(self) -> int:
        now_ns = self._now_ns()
        if self._scheduler is not None:
            self._catch_up(self._scheduler, now_ns)
        return now_ns

    def _catch_up(self, scheduler: StepScheduler, now_ns: int) -> None:
        """Land the steps that have ended; the one under way is taken alone."""
        flight = self._flight
        if flight is None:
            return
        ended = flight.steps_ended(now_ns)
        if not ended and flight.steps == 1:
            return
        if not ended:
            flight.steps = 1
        else:
            self._flight = None
            self._land(scheduler, flight, ended)
            if ended < flight.steps and flight.end_ns(ended) < now_ns:
                plan = scheduler.plan(flight.end_ns(ended))
                self._flight = Flight.of(plan, self.costs)
        if self._cut is not None:
            self._cut.set()

    def _land(self, scheduler: StepScheduler, flight: Flight, steps: int) -> None:
        if steps == 1:
            samples = self._sampled(flight.plan)
            scheduler.commit(
                flight.plan,
                samples,
                forward_at_ns=flight.forward_at_ns,
                ended_ns=flight.end_ns(1),
            )
            self._deliver(scheduler)
            self._push(samples)
            return
        produced = {}
        for call, _ in flight.plan.calls:
            start = call.produced
            produced[call.call_id] = self._output_of(call)[start : start + steps]
        scheduler.commit_window(flight.plan, produced, ended_ns=flight.end_ns(steps))
        self._deliver(scheduler)

    def _sampled(self, plan: Plan) -> dict[int, Sampled]:
        samples, outputs, calls = {}, self._outputs, self._live
        for call, tokens in plan.calls:
            known, call_id = len(call.tokens), call.call_id
            if call.computed + tokens == known:
                output = outputs.get(call_id) or self._output_of(call)
                token = output[known - call.prompt_tokens]
                live = calls[call_id]
                if live.is_plain:
                    samples[call_id] = _going_on(token)
                else:
                    is_last = live.take(TokenSample(token=token))
                    samples[call_id] = Sampled(token, is_last)
        return samples

    def _output_of(self, call: Call) -> Sequence[int]:
        """Return all that a call is going to say."""
        output = self._outputs.get(call.call_id)
        if output is None:
            asked = self._live[call.call_id].call
            output = self.tokens_of(asked, 0, call.spec.max_tokens)
            self._outputs[call.call_id] = output
        return output

    def _end(self, report: CallReport) -> None:
        output = self._outputs.pop(report.call_id, ())
        live = self._live[report.call_id]
        if live.is_plain:  # nobody has looked at it before
            live.take_plain(output[: report.output_tokens])
        super()._end(report)
