"""A call as it lives on one engine: the mutable record behind the step scheduler.

Only the step scheduler and the KV blocks write to it. An engine reads it while it
executes a plan; until that plan is committed nothing it reads is changed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from autellix.core.records import WaitReason

if TYPE_CHECKING:
    from autellix.core.fairness import ProgramClock
    from autellix.core.prefix_tree import Lease
    from autellix.core.records import CallSpec, Outcome, PreemptionKind


class CallState(StrEnum):
    """Where a call stands on its engine (DESIGN section 6)."""

    WAITING = "waiting"
    """Neither slot nor blocks: never ran, or is to be recomputed."""
    RUNNING = "running"
    """Holds a slot and blocks."""
    PAUSED = "paused"
    """Lost its slot; its blocks are resident and can be reclaimed."""
    SWAPPED = "swapped"
    """Its blocks are in the host pool."""
    ENDED = "ended"


@attrs.define(eq=False, kw_only=True)
class Call:
    """State of one call on one engine.

    Attributes:
        spec: What was submitted.
        tokens: Prompt, then the tokens produced.
        computed: How many of ``tokens`` have their KV in the call's blocks.
        lease: The blocks it holds, in order of their tokens.
        order: Place in the total order (rule S1); the smallest goes first.
        level: Feedback queue it is in.
        inner: Place inside its level (rule Q2); kept through preemption.
        expires_at_ns: Age at which it is placed anew; None: never.
        submitted_ns: Instant of submission.
        accounted_ns: Instant up to which service and wait are booked.
        wait_reason: Why it waits since ``accounted_ns``.
        wait_ns: Wait booked so far, by reason.
        call_id: Id given by the runtime.
        prompt_tokens: Length of the prompt.
        limit_tokens: Prompt and the most it may produce.
        inherited_ns: Charge taken over from its program.
        clock: Of its program on this engine.
        is_promoted: Its program starved: it is on level 0 for that (rule Q3).
        let_in_by_ns: When room is kept for it, which others retain (rule K7).
        is_recomputing: Its KV was dropped and it has produced no token since: it comes
            back whole and keeps its blocks until it has.
    """

    spec: CallSpec
    tokens: list[int]
    lease: Lease
    submitted_ns: int
    accounted_ns: int
    state: CallState = CallState.WAITING
    computed: int = 0
    level: int = 0
    inner: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    expires_at_ns: int | None = None
    is_reserved: bool = False
    is_promoted: bool = False
    skipped_since_ns: int | None = None
    let_in_by_ns: int | None = None
    is_recomputing: bool = False
    is_in_step: bool = False
    ending: Outcome | None = None
    wait_reason: WaitReason = WaitReason.ROUND
    wait_ns: dict[WaitReason, int] = attrs.field(factory=dict)
    service_ns: int = 0
    work_ns: int = 0
    first_token_ns: int | None = None
    was_admitted: bool = False
    cached_device_tokens: int = 0
    cached_host_tokens: int = 0
    model_tokens: int = 0
    preemptions: dict[PreemptionKind, int] = attrs.field(factory=dict)
    # Read for every call in every step, so not through the spec each time:
    call_id: int = attrs.field(init=False)
    prompt_tokens: int = attrs.field(init=False)
    limit_tokens: int = attrs.field(init=False)
    inherited_ns: int = attrs.field(init=False)
    clock: ProgramClock = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Take over from the spec what is read in every step."""
        self.call_id = self.spec.call_id
        self.inherited_ns = self.spec.inherited_ns
        self.prompt_tokens = len(self.spec.prompt)
        self.limit_tokens = self.prompt_tokens + self.spec.max_tokens

    @property
    def is_decoder(self) -> bool:
        """Whether its next step computes one token, after others."""
        return len(self.tokens) == self.computed + 1 and self.computed > 0

    @property
    def produced(self) -> int:
        """Tokens produced so far."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def remaining(self) -> int:
        """Most tokens it may still produce."""
        return self.limit_tokens - len(self.tokens)

    @property
    def is_resident(self) -> bool:
        """Whether its blocks are on the engine."""
        return self.state is CallState.RUNNING or self.state is CallState.PAUSED

    def book_wait(self, now_ns: int) -> None:
        """Book the time since the last booking as wait for ``wait_reason``."""
        waited = now_ns - self.accounted_ns
        if waited:
            reason = self.wait_reason
            self.wait_ns[reason] = self.wait_ns.get(reason, 0) + waited
            self.accounted_ns = now_ns
