"""What a call gives back to agent code: in seconds, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from autellix.core.records import WaitReason
from autellix.runtime.clock import NS_PER_S

if TYPE_CHECKING:
    from autellix.backends.protocol import TokenLogprob
    from autellix.backends.stream import FinishReason
    from autellix.core.records import CallReport, PreemptionKind


@attrs.frozen(kw_only=True)
class ResultReport:
    """What a call used and waited for; instants are of the event loop's clock.

    Service and wait together are the time from submission to end (rules A7, A9). Of a
    call that was sent again after its engine was lost, the last attempt counts.

    Attributes:
        engine: Name of the engine that served it.
        submitted_s: When it was submitted.
        first_token_s: When its first token was computed; None if it produced none.
        ended_s: When it had ended.
        wait_s: Why it waited, and how long each (rule A9).
        service_s: Time of the steps it took part in (rule A1).
        work_s: Cost of what was computed for it, whoever shared the batch (rule A2).
        inherited_s: Charge it took over from its program (rule A5).
        prompt_tokens: Length of its prompt.
        cached_device_tokens: Prompt tokens found in the engine's prefix cache.
        cached_host_tokens: Prompt tokens loaded from the host pool.
        output_tokens: Tokens produced, an end-of-text token included.
        computed_tokens: Tokens that entered the model, recomputation included.
        preemptions: How often it was preempted, by kind.
        level: Feedback queue it ended in.
    """

    engine: str
    submitted_s: float
    first_token_s: float | None
    ended_s: float
    wait_s: Mapping[WaitReason, float]
    service_s: float
    work_s: float
    inherited_s: float
    prompt_tokens: int
    cached_device_tokens: int
    cached_host_tokens: int
    output_tokens: int
    computed_tokens: int
    preemptions: Mapping[PreemptionKind, int]
    level: int


@attrs.frozen(kw_only=True)
class CallResult:
    """A call that ended well.

    Attributes:
        text: Text produced, cut before the first stop string.
        token_ids: Tokens produced, without an end-of-text token.
        finish_reason: ``stop`` or ``length``.
        logprobs: One entry a token, where asked for.
        report: What it used and waited for.
        path_ns: Charge of the chain of calls that ends with this one; what a later call
            inherits that is made with ``after=[this]`` (rule A6).
        call_id: Of the call, as events and reports have it.
    """

    text: str
    token_ids: Sequence[int] = attrs.field(repr=False)
    finish_reason: FinishReason
    logprobs: Sequence[TokenLogprob] = attrs.field(default=(), repr=False)
    report: ResultReport
    path_ns: int = attrs.field(repr=False)
    call_id: int = attrs.field(repr=False)


def result_report(
    report: CallReport, *, engine: str, submitted_ns: int, intake_ns: int
) -> ResultReport:
    """Return an engine's report in seconds, with the wait before the engine added."""
    wait_ns = dict(report.wait_ns)
    handing_ns = report.submitted_ns - submitted_ns - intake_ns
    if handing_ns > 0:  # from the runtime to its engine
        wait_ns[WaitReason.ROUND] = wait_ns.get(WaitReason.ROUND, 0) + handing_ns
    if intake_ns:
        wait_ns[WaitReason.INTAKE] = wait_ns.get(WaitReason.INTAKE, 0) + intake_ns
    first_ns = report.first_token_ns
    return ResultReport(
        engine=engine,
        submitted_s=submitted_ns / NS_PER_S,
        first_token_s=None if first_ns is None else first_ns / NS_PER_S,
        ended_s=report.ended_ns / NS_PER_S,
        wait_s={reason: waited / NS_PER_S for reason, waited in wait_ns.items()},
        service_s=report.service_ns / NS_PER_S,
        work_s=report.work_ns / NS_PER_S,
        inherited_s=report.inherited_ns / NS_PER_S,
        prompt_tokens=report.prompt_tokens,
        cached_device_tokens=report.cached_device_tokens,
        cached_host_tokens=report.cached_host_tokens,
        output_tokens=report.output_tokens,
        computed_tokens=report.computed_tokens,
        preemptions=dict(report.preemptions),
        level=report.level,
    )
