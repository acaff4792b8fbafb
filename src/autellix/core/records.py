"""The facts that cross between runtime, core and engines: frozen, small, no behaviour.

Instants and durations are integer nanoseconds, so that sums do not depend on how
steps are grouped (rule A1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import attrs


class Charge(StrEnum):
    """What an age is counted in (rule A2). One runtime ranks by one of them."""

    SERVICE = "service"
    """Time of the steps a call took part in: the paper's meaning."""
    WORK = "work"
    """Cost of what was done, by the engine's cost model: independent of the batch."""


class WaitReason(StrEnum):
    """Why a live call was in no step (rule A9). The reasons sum to the wait."""

    ROUND = "round"
    """No decision was taken yet: a step was under way, or work between two steps."""
    SLOTS = "slots"
    TOKEN_BUDGET = "token budget"  # noqa: S105 - not a password
    BLOCKS = "blocks"
    RESERVATION = "reservation"
    """Behind a call for which room is being kept (rule S4)."""
    PAUSED = "paused"
    """Preempted by a better call, its blocks still on the engine."""
    SWAP = "swap"
    """KV was being moved before the step it takes part in."""
    INTAKE = "intake"
    """In the runtime's own queue, in front of an engine with an intake limit."""


class PreemptionKind(StrEnum):
    """How a call was preempted (rule S7)."""

    PAUSE = "pause"
    """Lost its slot, kept its blocks."""
    SWAP = "swap"
    """Lost its blocks, which are in the host pool."""
    DROP = "drop"
    """Lost its blocks; what the prefix cache does not give back is computed again."""


class Outcome(StrEnum):
    """How a call ended; exactly once (rule A4)."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Job:
    """What a ranking may know of a call's program."""

    program_class: str
    """The name given to ``runtime.program(name)``."""
    program_arrival: int
    """Place of the program in the order of arrival; smaller came earlier."""
    size_ns: int | None = None
    """Total charge of the program, where an oracle knows it."""


@attrs.frozen(kw_only=True)
class FairnessWindow:
    """T and W of a program since its last promotion (rules A7, Q3)."""

    ran_ns: int = 0
    """T: time in which at least one of its calls was in a step."""
    waited_ns: int = 0
    """W: time in which at least one was live and none was in a step."""


@attrs.frozen(kw_only=True)
class CallSpec:
    """A call as the step scheduler of an engine receives it.

    Attributes:
        call_id: Unique in the runtime; grows with submission.
        program_id: Of the program the call belongs to.
        job: What the ranking may look at.
        inherited_ns: Charge taken over from the program (rule A5), read once.
        prompt: Token ids; at least one.
        max_tokens: Most tokens the call may produce; at least one.
        window: The program's fairness window as the process table knew it.
    """

    call_id: int
    program_id: int
    job: Job
    inherited_ns: int = attrs.field(validator=attrs.validators.ge(0))
    prompt: Sequence[int] = attrs.field(validator=attrs.validators.min_len(1))
    max_tokens: int = attrs.field(validator=attrs.validators.ge(1))
    window: FairnessWindow = attrs.field(factory=FairnessWindow)


@attrs.frozen(kw_only=True)
class ProgramDelta:
    """What an engine saw of a program since it last reported on it (rule A7).

    Unions over the program's calls on that engine, not sums. When the program was
    promoted in between, ``window`` counts from the promotion and replaces the
    table's; else it is to be added to it.
    """

    ran_ns: int = 0
    waited_ns: int = 0
    promoted: bool = False
    window: FairnessWindow = attrs.field(factory=FairnessWindow)


@attrs.frozen(kw_only=True)
class CallReport:
    """What a call used, given once when it has ended.

    ``service_ns + sum(wait_ns.values()) == ended_ns - submitted_ns`` (rules A7, A9).
    """

    call_id: int
    program_id: int
    outcome: Outcome
    submitted_ns: int
    ended_ns: int
    first_token_ns: int | None
    inherited_ns: int
    service_ns: int
    work_ns: int
    wait_ns: Mapping[WaitReason, int]
    prompt_tokens: int
    cached_device_tokens: int
    """Prompt tokens found in the engine's prefix cache at the first admission."""
    cached_host_tokens: int
    """Prompt tokens loaded from the host tier at the first admission."""
    output_tokens: int
    computed_tokens: int
    """Tokens that entered the model for this call, recomputation included."""
    preemptions: Mapping[PreemptionKind, int]
    level: int
    """Level at the end."""
    program: ProgramDelta

    def run_ns(self, charge: Charge) -> int:
        """Return the call's own charge, nanoseconds."""
        return self.service_ns if charge is Charge.SERVICE else self.work_ns
