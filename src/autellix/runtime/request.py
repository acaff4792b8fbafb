"""What agent code asks for, checked before anything is done about it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from operator import countOf
from typing import Any, Final, TypeAlias, TypedDict, Unpack, cast

import attrs

from autellix.backends.arguments import integer, string
from autellix.backends.protocol import Sampling
from autellix.runtime.result import CallResult

Message: TypeAlias = Mapping[str, str]
Prompt: TypeAlias = str | Sequence[int] | Sequence[Message]
CheckedPrompt: TypeAlias = str | tuple[int, ...] | tuple[Message, ...]

DEFAULT_MAX_TOKENS: Final = 256

_LARGEST_ID: Final = 2**32 - 1  # four bytes hold any vocabulary
_SAMPLING: Final = frozenset(field.name for field in attrs.fields(Sampling))


class TokenIds(tuple[int, ...]):
    """A prompt put together of what ``plain_ids`` gave: it is not checked again.

    For a replay, which makes thousands of prompts that begin like others before them.
    Made of anything else, it breaks the engine that gets it.
    """

    __slots__ = ()


class CallOptions(TypedDict, total=False):
    """How a call is to be made; all can be left out.

    Attributes:
        max_tokens: Most tokens to produce; 256.
        temperature: 0, the default, is greedy.
        top_p: Smallest set of tokens with at least this probability; 1, which is all.
        top_k: Only the k likeliest tokens; None, which is all.
        seed: Of the call's own random stream; None draws one.
        stop: Strings that end the call; the text ends before the first of them.
        logprobs: How many alternatives to report a token, 0 for the chosen one alone;
            None reports nothing.
        ignore_end: Go on past the end-of-text token; False.
        json_schema: JSON text of a schema that the output is held to; None, which is
            any output. Not every engine can.
        model: Which model, where engines run several.
        after: The results this call follows from, so that a policy by critical path
            need not guess; empty for a call that follows from none (rule A6).
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str]
    logprobs: int | None
    ignore_end: bool
    json_schema: str | None
    model: str | None
    after: Sequence[CallResult] | None


def _results(after: Sequence[CallResult] | None) -> tuple[CallResult, ...] | None:
    if after is None:
        return None
    if not isinstance(after, Sequence):
        raise TypeError(f"'after' must be a sequence of results: {after!r}")
    for result in after:
        if not isinstance(result, CallResult):
            raise TypeError(f"after takes results of calls: got {result!r}")
    return tuple(after)


@attrs.frozen(kw_only=True)
class Request:
    """One call as it was asked for.

    Attributes:
        prompt: Text, token ids, or chat messages.
        max_tokens: Most tokens to produce.
        sampling: How tokens are chosen.
        model: What the caller named, if anything.
        after: Results of the calls it follows, None where the caller did not say.
        is_streamed: Whether tokens are looked at as they come.
    """

    prompt: CheckedPrompt
    max_tokens: int = attrs.field(default=DEFAULT_MAX_TOKENS, validator=integer(1))
    sampling: Sampling
    model: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(string)
    )
    after: tuple[CallResult, ...] | None = attrs.field(default=None, converter=_results)
    is_streamed: bool = False

    @property
    def after_ns(self) -> tuple[int, ...] | None:
        """Paths of the calls it follows."""
        if self.after is None:
            return None
        return tuple(result.path_ns for result in self.after)

    @classmethod
    def of(
        cls,
        prompt: CheckedPrompt,
        *,
        is_streamed: bool,
        **options: Unpack[CallOptions],
    ) -> Request:
        """Check a call; ``ValueError`` where a value is out of range.

        Raises:
            TypeError: There is no such option, or its value is of another type.
        """
        given: dict[str, Any] = {**options}
        for name in given.keys() - CallOptions.__annotations__.keys():
            raise TypeError(_unknown(name))
        stop = given.get("stop", ())
        sampling = {name: given.pop(name) for name in _SAMPLING & given.keys()}
        if isinstance(stop, str):
            sampling["stop"] = (stop,)
        return cls(
            prompt=prompt,
            sampling=Sampling(**sampling),
            is_streamed=is_streamed,
            **given,
        )


def _unknown(name: str) -> str:
    known = CallOptions.__annotations__
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"a call has no option {name!r}: {hint}"


def checked_text_or_ids(prompt: str | Sequence[int]) -> str | tuple[int, ...]:
    """Return a prompt that is text or token ids.

    ``ValueError`` and ``TypeError`` also where UTF-8 cannot hold the text, or where an
    id is none.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty.
    """
    if not _is_sequence(prompt):
        raise TypeError(f"a prompt is text or token ids: got {prompt!r}")
    if not prompt:
        raise ValueError(f"a prompt must not be empty: got {prompt!r}")
    if isinstance(prompt, str):
        _check_text(prompt, "a prompt")
        return prompt
    return prompt if isinstance(prompt, TokenIds) else plain_ids(prompt)


def plain_ids(prompt: Sequence[int]) -> tuple[int, ...]:
    """Return ids as plain integers: those of other libraries are taken, booleans not.

    ``ValueError`` or ``TypeError`` where one is none. There may be thousands: they are
    looked at one by one only to say what is wrong.
    """
    is_plain = countOf(map(type, prompt), int) == len(prompt)
    is_possible = is_plain or bool not in map(type, prompt)
    ids = _as_array(prompt) if is_possible else None
    if ids is None:
        at, wrong = next(one for one in enumerate(prompt) if not _is_id(one[1]))
        raise (ValueError if type(wrong) is int else TypeError)(
            f"token ids are integers from 0 to {_LARGEST_ID}: got {wrong!r} at {at}"
        )
    return tuple(prompt) if is_plain else tuple(ids)


def _is_id(token: int) -> bool:
    return not isinstance(token, bool) and _as_array([token]) is not None


def _as_array(ids: Sequence[int]) -> array[int] | None:
    """Return ids in four bytes each; None where one does not go into them."""
    try:
        return array("I", ids)
    except (TypeError, OverflowError):
        return None


def _check_text(text: str, what: str) -> None:
    """Refuse half of a surrogate pair, at which tokenizers break down.

    Raises:
        ValueError: There is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} must be text that UTF-8 can hold: "
            f"got {text[error.start]!r} at {error.start}"
        ) from error


def checked_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages of a chat; ``ValueError`` where UTF-8 cannot hold a text.

    Raises:
        TypeError: They are something else, or one has no role or content.
        ValueError: There are none.
    """
    if not _is_sequence(messages) or isinstance(messages, str):
        raise TypeError(f"messages is a sequence of mappings: got {messages!r}")
    if not messages:
        raise ValueError(f"a chat needs at least one message: got {messages!r}")
    for message in messages:
        if not isinstance(message, Mapping):
            raise TypeError(f"a message has a role and a content: got {message!r}")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise TypeError(f"a message needs a text as {key!r}: got {message!r}")
            _check_text(message[key], f"the {key} of a message")
    return tuple(messages)


def checked_prompt(prompt: Prompt) -> CheckedPrompt:
    """Return a prompt of any kind."""
    if prompt and not isinstance(prompt, str) and isinstance(prompt[0], Mapping):
        return checked_messages(cast("Sequence[Message]", prompt))
    return checked_text_or_ids(cast("str | Sequence[int]", prompt))


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, bytes)
