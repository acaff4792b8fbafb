"""What travels with a call into vLLM, and what comes back out of its scheduler.

vLLM hands ``SamplingParams.extra_args`` through to its scheduler unread, in the same
process or in another one. So the facts of a call that the runtime knows go there, under
one key; the prompt and ``max_tokens`` are in the request already. The other way, facts
and reports travel as the specs that policies use (rule Q6): plain dicts and lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from autellix.core.records import CallSpec, FairnessWindow, Job
from autellix.policies.spec import from_spec, to_spec

if TYPE_CHECKING:
    from autellix.core.facts import Fact

KEY: Final = "autellix"
"""Of our dict in ``extra_args`` and in ``additional_config``."""

_not_negative = (attrs.validators.instance_of(int), attrs.validators.ge(0))
_text = attrs.validators.instance_of(str)


@attrs.frozen(kw_only=True)
class CallTicket:
    """The facts of a call that vLLM does not know by itself.

    Attributes:
        call_id: Unique in the runtime.
        program_id: Of its program.
        program_class: The name given to ``runtime.program(name)``.
        program_arrival: Place of the program in the order of arrival.
        size_ns: Total charge of the program, where an oracle knows it.
        inherited_ns: Charge taken over from the program (rule A5).
        ran_ns: T of the program's fairness window (rule A7).
        waited_ns: W of it.
        submitted_ns: When the call was submitted, on the runtime's clock.
    """

    call_id: int = attrs.field(validator=_not_negative)
    program_id: int = attrs.field(validator=_not_negative)
    program_class: str = attrs.field(validator=_text)
    program_arrival: int = attrs.field(validator=_not_negative)
    size_ns: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_not_negative)
    )
    inherited_ns: int = attrs.field(validator=_not_negative)
    ran_ns: int = attrs.field(default=0, validator=_not_negative)
    waited_ns: int = attrs.field(default=0, validator=_not_negative)
    submitted_ns: int = attrs.field(validator=attrs.validators.instance_of(int))

    @classmethod
    def of(cls, spec: CallSpec, submitted_ns: int) -> CallTicket:
        """Return the ticket of a call that is about to be submitted."""
        return cls(
            call_id=spec.call_id,
            program_id=spec.program_id,
            program_class=spec.job.program_class,
            program_arrival=spec.job.program_arrival,
            size_ns=spec.job.size_ns,
            inherited_ns=spec.inherited_ns,
            ran_ns=spec.window.ran_ns,
            waited_ns=spec.window.waited_ns,
            submitted_ns=submitted_ns,
        )

    def extra_args(self) -> dict[str, Any]:
        """Return what goes into ``SamplingParams.extra_args``."""
        return {KEY: attrs.asdict(self)}

    def spec(self, prompt: Sequence[int], max_tokens: int) -> CallSpec:
        """Return the call as the core takes it, with what vLLM knows of it."""
        return CallSpec(
            call_id=self.call_id,
            program_id=self.program_id,
            job=Job(
                program_class=self.program_class,
                program_arrival=self.program_arrival,
                size_ns=self.size_ns,
            ),
            inherited_ns=self.inherited_ns,
            prompt=prompt,
            max_tokens=max_tokens,
            window=FairnessWindow(ran_ns=self.ran_ns, waited_ns=self.waited_ns),
        )


def ticket_in(extra_args: Mapping[str, Any] | None) -> CallTicket | None:
    """Return the ticket in a request's ``extra_args``, None where there is none.

    One that is not as we write them is a ``TypeError`` or ``ValueError``.
    """
    fields = (extra_args or {}).get(KEY)
    return None if fields is None else CallTicket(**fields)


def facts_to_wire(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return facts, reports in them included, as plain data."""
    return [to_spec(cast("Any", fact)) for fact in facts]


def facts_from_wire(wire: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Return what ``facts_to_wire`` was given."""
    return [cast("Any", from_spec(spec)) for spec in wire]
