"""What a trace record must obey, field by field and call by call.

Validation has its own file so that the records stay readable. Every check here raises
``TraceFault``, which names the field as the format does, through ``refuse``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

if TYPE_CHECKING:
    from autellix.workloads.trace import TraceCall

MAX_TOKENS: Final = 10_000_000
"""Longest prompt or output that is believed: as long as the longest context so far."""
MAX_SECONDS: Final = 100_000_000
"""Longest time that is believed: three years."""


class TraceFault(ValueError):
    """What is wrong with a record.

    Attributes:
        field: Where, as the format names it: ``calls[3].parents``.
        message: What, with the value.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def json_name(attribute: str) -> str:
    """Return how the format names an attribute of a record."""
    return "class" if attribute == "program_class" else attribute


def refuse(field: str, message: str) -> NoReturn:
    """Say what is wrong with a record; ``from None``: the cause is in the message.

    Raises:
        TraceFault: Always.
    """
    raise TraceFault(field, message) from None


def is_int(value: object) -> bool:
    """Say whether a value is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_keys(value: Any, required: set[str], optional: set[str]) -> None:
    """Check that a value is an object with all it must and nothing it may not have."""
    if not isinstance(value, dict):
        refuse("", f"must be an object: {value!r}")
    for key in sorted(value.keys() - required - optional):
        near = get_close_matches(key, required | optional, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        refuse(key, f"is an unknown field{hint}")
    for key in sorted(required - value.keys()):
        refuse(key, "is missing")


@attrs.frozen
class Tokens:
    """Validates a number of tokens, at least ``least``."""

    least: int

    def __call__(self, _: object, field: attrs.Attribute[Any], value: Any) -> None:
        """Refuse what is out of range."""
        if not is_int(value) or not self.least <= value <= MAX_TOKENS:
            refuse(
                field.name, f"must be {self.least} to {MAX_TOKENS} tokens: {value!r}"
            )


def seconds(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Validate a duration or an instant."""
    is_number = is_int(value) or isinstance(value, float)
    if not is_number or not 0 <= value <= MAX_SECONDS:
        refuse(field.name, f"must be 0 to {MAX_SECONDS} seconds: {value!r}")


def text(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Validate a text that says something."""
    if not isinstance(value, str) or not value:
        refuse(json_name(field.name), f"must be a non-empty text: {value!r}")


text_or_none: Final = attrs.validators.optional(text)
seconds_or_none: Final = attrs.validators.optional(seconds)
tokens_or_none: Final = attrs.validators.optional(Tokens(0))


def texts(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Validate a tuple of texts."""
    if not isinstance(value, tuple) or not all(isinstance(v, str) for v in value):
        refuse(field.name, f"must be a list of texts: {value!r}")


def json_object(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Validate a mapping."""
    if not isinstance(value, Mapping):
        refuse(field.name, f"must be an object: {value!r}")


def call_ids(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Validate a tuple of different call ids."""
    if not isinstance(value, tuple) or not all(map(is_int, value)):
        refuse(field.name, f"must be a list of call ids: {value!r}")
    if len(set(value)) < len(value):
        refuse(field.name, f"name a call twice: {list(value)}")


def runs(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Validate a tuple of (first id, length) pairs."""
    if not isinstance(value, tuple) or not all(map(_is_run, value)):
        refuse(field.name, f"must be a list of [id, length]: {value!r}")


def _is_run(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_int, value))


def to_tuple(value: Any) -> Any:
    """Make lists tuples, also in a list; leave to the validator what is no list."""
    if isinstance(value, list | tuple):
        return tuple(to_tuple(each) for each in value)
    return value


# -- what fields and calls say together ------------------------------------------------


def check_group(group: str | None, tokens: int | None) -> None:
    """Check that a length of shared prompt belongs to a group."""
    if group is None and tokens:
        refuse("group_prefix_tokens", f"{tokens} without a prefix_group")


def check_parents(calls: Sequence[TraceCall]) -> None:
    """Check that parents are there and come first."""
    late = None
    for call_id, call in enumerate(calls):
        for parent in call.parents:
            if not 0 <= parent < len(calls):
                refuse(f"calls[{call_id}].parents", f"no call {parent}")
            if parent >= call_id and late is None:
                late = call_id
    if late is None:
        return
    graph = {call_id: call.parents for call_id, call in enumerate(calls)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
        way = " -> ".join(map(str, cycle))
        refuse(f"calls[{cycle[0]}].parents", f"calls wait for each other: {way}")
    refuse(
        f"calls[{late}].parents",
        f"{list(calls[late].parents)} come later: calls must be in topological order",
    )


def check_prefix(calls: Sequence[TraceCall], call_id: int, before: int) -> None:
    """Check that all a prompt begins with is known when the call is sent.

    Args:
        calls: All of the program.
        call_id: The call whose prompt it is.
        before: Ids of the calls it follows, as bits.
    """
    call, prefix = calls[call_id], calls[call_id].prefix_call
    if prefix is None:
        return
    field = f"calls[{call_id}].prefix_call"
    if not is_int(prefix) or not 0 <= prefix < call_id:
        refuse(field, f"must be an earlier call: {prefix!r}")
    whole = calls[prefix].prompt_tokens + calls[prefix].output_tokens
    if call.shared_tokens > whole:
        refuse(
            f"calls[{call_id}].new_prompt_tokens",
            f"{call.shared_tokens} tokens shared with call {prefix}, which has {whole}",
        )
    for needed in outputs_in_prompt(calls, call_id):
        if before >> needed & 1:
            return  # what stands in its prompt was known to it
        refuse(
            field, f"begins with the output of call {needed}, which it does not follow"
        )


def outputs_in_prompt(calls: Sequence[TraceCall], call_id: int) -> Iterator[int]:
    """Walk back through what a prompt begins with.

    Yields:
        Each call some of whose output stands in the prompt of ``call_id``.
    """
    call = calls[call_id]
    tokens = call.prompt_tokens
    while call.prefix_call is not None and tokens:
        prefix = call.prefix_call
        tokens = min(tokens, call.shared_tokens)
        call = calls[prefix]
        if tokens > call.prompt_tokens:
            yield prefix
            tokens = call.prompt_tokens
