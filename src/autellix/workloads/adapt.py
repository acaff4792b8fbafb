"""Traces made to fit: to a context, to a small model, to what they do not record.

Whatever is changed here is marked, in the source of the trace or in ``synthetic`` and
``meta`` of its programs, so that no result of an adapted trace can pass for one of the
real trace.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.errors import ConfigError

if TYPE_CHECKING:
    from autellix.workloads.trace import Trace, TraceCall, TraceProgram

_positive = attrs.validators.gt(0.0)


def check_fits(
    programs: Sequence[TraceProgram], limit_tokens: int, *, source: str
) -> None:
    """Refuse programs that an engine could not serve to their end.

    Args:
        programs: All of a run.
        limit_tokens: Longest call that the engine takes, prompt and output.
        source: What they are called in the message.

    Raises:
        ConfigError: Some have a longer call; says how many, and what to do.
    """
    needed = [program.longest_call_tokens for program in programs]
    longer = sum(tokens > limit_tokens for tokens in needed)
    if longer:
        raise ConfigError(
            f"{longer} of {len(needed)} programs of {source!r} do not fit: calls may "
            f"have {limit_tokens} tokens, the longest needs {max(needed)}; leave such "
            f"programs out (--longest {limit_tokens}, longest_call_tokens = "
            f"{limit_tokens} in a file), make them shorter (prompt_factor, "
            "output_factor), or give the engine more room (max_context_tokens, "
            "kv_tokens)"
        )


def without_longer(trace: Trace, limit_tokens: int) -> Trace:
    """Drop programs with a call longer than that, prompt and output.

    The source of the new trace says how many of how many were dropped. ``ConfigError``
    if none is left.
    """
    kept = [
        program
        for program in trace.programs
        if program.longest_call_tokens <= limit_tokens
    ]
    total = len(trace.programs)
    if not kept:
        check_fits(trace.programs, limit_tokens, source=trace.source)
    if len(kept) == total:
        return trace
    note = f"without {total - len(kept)} of {total} programs over {limit_tokens}"
    return _noted(trace, f"{note} tokens", kept)


def scale_tokens(trace: Trace, *, prompts: float, outputs: float) -> Trace:
    """Make prompts and outputs longer or shorter by these factors.

    What prompts share stays shared: each place in a prompt moves with the text it is
    in, what was new by ``prompts`` and what quotes an output by ``outputs``. A call
    keeps at least one token of each. Block hashes and recorded latencies are dropped.

    Args:
        trace: Is not changed.
        prompts: Factor for what is new in a prompt.
        outputs: Factor for outputs.

    Raises:
        ValueError: A factor is not above 0.
    """
    for factor in (prompts, outputs):
        if not 0.0 < factor < math.inf:
            raise ValueError(f"lengths scale by a factor above 0: {factor!r}")
    scaled = [
        _Scaling(program, prompts, outputs).scaled() for program in trace.programs
    ]
    note = f"scaled by {prompts:g} (prompts) and {outputs:g} (outputs)"
    return attrs.evolve(_noted(trace, note, scaled), block=None)


def cap_gaps(trace: Trace, most_s: float) -> Trace:
    """Shorten gaps before calls to at most so many seconds: people go home at night.

    Raises:
        ValueError: The cap is negative.
    """
    if not most_s >= 0.0:
        raise ValueError(f"a gap cannot be capped to {most_s!r} seconds")

    def capped(call: TraceCall) -> TraceCall:
        gap_s = call.tool_seconds_before
        if gap_s is None or gap_s <= most_s:
            return call
        return attrs.evolve(call, tool_seconds_before=most_s)

    programs = [
        attrs.evolve(program, calls=[capped(call) for call in program.calls])
        for program in trace.programs
    ]
    return _noted(trace, f"gaps capped to {most_s:g} s", programs)


@attrs.frozen(kw_only=True)
class GapTimes:
    """Log-normal durations, for gaps that were not recorded.

    Attributes:
        median_s: Half are shorter, seconds.
        sigma: Standard deviation of the logarithm.
        most_s: None is longer.
    """

    median_s: float = attrs.field(validator=_positive)
    sigma: float = attrs.field(validator=attrs.validators.ge(0.0))
    most_s: float = attrs.field(default=3_600.0, validator=_positive)

    def draw_s(self, chance: random.Random) -> float:
        """Draw a duration, seconds."""
        return min(self.most_s, self.median_s * math.exp(self.sigma * chance.gauss()))


WIKIPEDIA: Final = GapTimes(median_s=0.85, sigma=0.34)
"""Look-ups of 24 recorded steps of LATS on HotPotQA; their mean is 0.89 s."""
SHELL: Final = GapTimes(median_s=0.28, sigma=0.65)
"""40 shell commands in recorded runs of SWE-agent; their mean is 0.36 s."""
CODING: Final = GapTimes(median_s=8.0, sigma=1.5, most_s=600.0)
"""Tool calls in 23,852 recorded steps of coding sessions, people's approval included:
quartile 19 s above the median; a tail beyond ten minutes (1 in 100) is cut."""


def fill_gaps(
    trace: Trace,
    times: GapTimes,
    *,
    seed: int,
    gaps: Sequence[str | None] | None = None,
) -> Trace:
    """Draw what was not recorded: seconds before calls that follow others.

    A program's draws depend on the seed and its id alone, so that all policies see the
    same gaps.

    Args:
        trace: Is not changed.
        times: What to draw from.
        seed: Of the draws.
        gaps: Kinds of gap to fill (``"tool"``, ``"user"``, …); None: all.
    """

    def filled(program: TraceProgram) -> TraceProgram:
        chance = random.Random(f"{seed}/gaps/{program.program_id}")
        calls = []
        for call in program.calls:
            is_open = call.tool_seconds_before is None and bool(call.parents)
            if is_open and (gaps is None or call.gap in gaps):
                gap_s = times.draw_s(chance)
                calls.append(attrs.evolve(call, tool_seconds_before=gap_s))
            else:
                calls.append(call)
        if calls == list(program.calls):
            return program
        return attrs.evolve(
            program, calls=calls, synthetic=_also(program, "tool_seconds_before")
        )

    note = f"unrecorded gaps log-normal, {times.median_s:g} s, sigma {times.sigma:g}"
    return _noted(trace, note, [filled(program) for program in trace.programs])


def _noted(trace: Trace, note: str, programs: Sequence[TraceProgram]) -> Trace:
    return attrs.evolve(trace, source=f"{trace.source}; {note}", programs=programs)


def _also(program: TraceProgram, *fields: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*program.synthetic, *fields)))


@attrs.define(eq=False)
class _Scaling:
    """One program, being scaled."""

    program: TraceProgram
    prompts: float
    outputs: float
    _calls: list[TraceCall] = attrs.field(factory=list, init=False)

    def scaled(self) -> TraceProgram:
        """Return the program with all lengths scaled."""
        for call in self.program.calls:
            self._calls.append(self._call(call))
        group_tokens = self._group_tokens(self.program.group_prefix_tokens)
        shortest = min(
            (c.prompt_tokens for c in self._calls if c.prefix_group is None), default=0
        )
        scale = {"prompts": self.prompts, "outputs": self.outputs}
        return attrs.evolve(
            self.program,
            group_prefix_tokens=group_tokens and min(group_tokens, shortest),
            synthetic=_also(self.program, "prompt_tokens", "output_tokens"),
            meta={**self.program.meta, "scaled": scale},
            calls=self._calls,
        )

    def _call(self, call: TraceCall) -> TraceCall:
        shared = 0
        if call.prefix_call is not None:
            shared = self._place(call.prefix_call, call.shared_tokens)
        new = round(call.new_prompt_tokens * self.prompts)
        if not shared:
            new = max(1, new)
        group_tokens = self._group_tokens(call.group_prefix_tokens)
        return attrs.evolve(
            call,
            prompt_tokens=shared + new,
            output_tokens=max(1, round(call.output_tokens * self.outputs)),
            new_prompt_tokens=new,
            group_prefix_tokens=group_tokens and min(group_tokens, shared + new),
            latency_s=None,
            hash_runs=None,
        )

    def _place(self, call_id: int, tokens: int) -> int:
        """Return where that place in (prompt + output) of a call has gone."""
        while True:
            before, after = self.program.calls[call_id], self._calls[call_id]
            if tokens > before.prompt_tokens:
                quoted = round((tokens - before.prompt_tokens) * self.outputs)
                return after.prompt_tokens + min(quoted, after.output_tokens)
            if before.prefix_call is None or tokens > before.shared_tokens:
                own = round((tokens - before.shared_tokens) * self.prompts)
                return min(after.shared_tokens + own, after.prompt_tokens)
            call_id = before.prefix_call

    def _group_tokens(self, tokens: int | None) -> int | None:
        return None if tokens is None else int(tokens * self.prompts)
