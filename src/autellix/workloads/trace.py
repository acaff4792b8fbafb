"""Programs as traces describe them: who calls after whom, how long, sharing what.

The records of the format ``prog-trace/1``. They hold no text, only lengths and which
prompts begin alike. A record that exists is valid: whatever builds one (a file, a
generator, a recorder) is told at once what cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from autellix.workloads import trace_checks as check
from autellix.workloads.trace_checks import to_tuple


@attrs.frozen(kw_only=True)
class TraceCall:
    """One call of a program; its id is its place among the program's calls.

    Attributes:
        parents: Calls that must have finished before this one may be sent.
        thread: Agent or search thread inside the program.
        prompt_tokens: Length of the prompt.
        output_tokens: Length of the output.
        prefix_call: Earlier call whose (prompt + output) begins like this prompt; None:
            no earlier call of the program shares any.
        new_prompt_tokens: Tokens of the prompt after what it shares with that call.
        tool_seconds_before: Between the end of the last parent and this call, seconds;
            None: not recorded.
        gap: What happens in that time.
        kind: Role of the call in its program.
        prefix_group: As the program's; goes before it where both are given.
        group_prefix_tokens: As the program's.
        latency_s: Service time in the source's own system.
        issued_at_s: Recorded send time, from the program's start.
        hash_runs: Block hashes of the prompt, as (first id, length).
    """

    parents: tuple[int, ...] = attrs.field(converter=to_tuple, validator=check.call_ids)
    thread: str = attrs.field(default="main", validator=check.text)
    prompt_tokens: int = attrs.field(validator=check.Tokens(1))
    output_tokens: int = attrs.field(validator=check.Tokens(1))
    prefix_call: int | None = None
    new_prompt_tokens: int = attrs.field(validator=check.Tokens(0))
    tool_seconds_before: float | None = attrs.field(
        default=None, validator=check.seconds_or_none
    )
    gap: str | None = attrs.field(default=None, validator=check.text_or_none)
    kind: str | None = attrs.field(default=None, validator=check.text_or_none)
    prefix_group: str | None = attrs.field(default=None, validator=check.text_or_none)
    group_prefix_tokens: int | None = attrs.field(
        default=None, validator=check.tokens_or_none
    )
    latency_s: float | None = attrs.field(default=None, validator=check.seconds_or_none)
    issued_at_s: float | None = attrs.field(
        default=None, validator=check.seconds_or_none
    )
    hash_runs: tuple[tuple[int, int], ...] | None = attrs.field(
        default=None,
        converter=to_tuple,
        validator=attrs.validators.optional(check.runs),
    )

    @new_prompt_tokens.default
    def _all_of_the_prompt(self) -> int:
        return self.prompt_tokens

    def __attrs_post_init__(self) -> None:
        """Check what two fields say together."""
        check.check_group(self.prefix_group, self.group_prefix_tokens)
        new, prompt = self.new_prompt_tokens, self.prompt_tokens
        if new > prompt or (self.prefix_call is None and new < prompt):
            check.refuse(
                "new_prompt_tokens",
                f"{new} new of {prompt} prompt tokens, prefix_call {self.prefix_call}",
            )

    @property
    def shared_tokens(self) -> int:
        """Prompt tokens that are the start of (prompt + output) of ``prefix_call``."""
        return self.prompt_tokens - self.new_prompt_tokens


@attrs.frozen(kw_only=True)
class TraceProgram:
    """One program: its calls in an order in which they can be sent.

    Attributes:
        program_id: Unique in its trace.
        arrival_s: From the trace's start, seconds; None: the source has no arrivals.
        program_class: Kind of agent: ``chat``, ``agent``, ``search``, …
        source: Where it is from.
        tokenizer: What counted the tokens.
        prefix_group: Programs of one group start with the same prompt tokens.
        group_prefix_tokens: How many; None where the group is unknown.
        synthetic: Fields that are derived, not measured.
        meta: What only the source knows.
        calls: At least one.
    """

    program_id: str = attrs.field(validator=check.text)
    arrival_s: float | None = attrs.field(default=None, validator=check.seconds_or_none)
    program_class: str = attrs.field(validator=check.text)
    source: str = attrs.field(validator=check.text)
    tokenizer: str = attrs.field(validator=check.text)
    prefix_group: str | None = attrs.field(default=None, validator=check.text_or_none)
    group_prefix_tokens: int | None = attrs.field(
        default=None, validator=check.tokens_or_none
    )
    synthetic: tuple[str, ...] = attrs.field(
        default=(), converter=to_tuple, validator=check.texts
    )
    meta: Mapping[str, Any] = attrs.field(factory=dict, validator=check.json_object)
    calls: Sequence[TraceCall] = attrs.field(converter=tuple[TraceCall, ...])

    def __attrs_post_init__(self) -> None:
        """Check what calls say of one another."""
        check.check_group(self.prefix_group, self.group_prefix_tokens)
        if not self.calls:
            check.refuse("calls", "a program has at least one call")
        check.check_parents(self.calls)
        before: list[int] = []  # ids of a call's ancestors, as bits
        for call_id, call in enumerate(self.calls):
            bits = 0
            for parent in call.parents:
                bits |= before[parent] | 1 << parent
            before.append(bits)
            check.check_prefix(self.calls, call_id, bits)
            self._check_group_of(call_id)

    def _check_group_of(self, call_id: int) -> None:
        call = self.calls[call_id]
        group = self.group_of(call)
        if group and group[1] > call.prompt_tokens:
            check.refuse(
                f"calls[{call_id}].prompt_tokens",
                f"{call.prompt_tokens} cannot begin with {group[1]} of {group[0]!r}",
            )

    @property
    def longest_call_tokens(self) -> int:
        """Prompt and output of its longest call: what an engine must hold at least."""
        return max(call.prompt_tokens + call.output_tokens for call in self.calls)

    def group_of(self, call: TraceCall) -> tuple[str, int] | None:
        """Return the group whose tokens ``call``'s prompt begins with, and how many."""
        for owner in (call, self):
            if owner.prefix_group is not None:
                return owner.prefix_group, owner.group_prefix_tokens or 0
        return None


@attrs.frozen(kw_only=True)
class Trace:
    """Programs of one source.

    Attributes:
        source: Where they are from.
        program_class: Kind of agent.
        block: Tokens that a block hash of ``hash_runs`` stands for; None: no hashes.
        programs: With different ids.
    """

    source: str = attrs.field(validator=check.text)
    program_class: str = attrs.field(validator=check.text)
    block: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.Tokens(1))
    )
    programs: Sequence[TraceProgram] = attrs.field(converter=tuple[TraceProgram, ...])

    def __attrs_post_init__(self) -> None:
        """Check that ids are unique."""
        seen = set()
        for program in self.programs:
            if program.program_id in seen:
                check.refuse("program_id", f"is not unique: {program.program_id!r}")
            seen.add(program.program_id)
