"""What an engine is: the seam every backend satisfies.

An engine is entered (weights are loaded, memory is taken), then ``serve`` runs for as
long as it is used: the runtime starts it in its own task group. Calls come in through
``submit`` and leave through their stream; what a call used comes back exactly once
through the ``ended`` callback, also when its consumer is long gone (rule A4). All
methods are called on the event loop's thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from autellix.backends.arguments import boolean, integer, number
from autellix.errors import UnknownToken

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.stream import CallStream
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport, CallSpec
    from autellix.core.snapshot import EngineStatistics


def _stop_strings(value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"'stop' must be a sequence of strings: {value!r}")
    return tuple(value)


@attrs.frozen(kw_only=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 is greedy.
        top_p: Smallest set of tokens with at least this probability; 1 is all.
        top_k: Only the k likeliest; None is all.
        seed: Of this call's own random stream; None draws one. With a seed the tokens
            do not depend on preemption (rule S8).
        stop: Strings that end the call; the text ends before the first of them.
        logprobs: How many alternatives to report a token; None reports nothing, 0 only
            the chosen token.
        ignore_end: Go on past the end-of-text token, to ``max_tokens``.
        json_schema: JSON text of a schema that the output is held to, on engines whose
            capabilities say ``guided_decoding``; others refuse the call. None: any.
    """

    temperature: float = attrs.field(default=0.0, validator=number(least=0.0))
    top_p: float = attrs.field(default=1.0, validator=number(above=0.0, most=1.0))
    top_k: int | None = attrs.field(default=None, validator=integer(1, or_none=True))
    seed: int | None = attrs.field(default=None, validator=integer(or_none=True))
    stop: Sequence[str] = attrs.field(default=(), converter=_stop_strings)
    logprobs: int | None = attrs.field(default=None, validator=integer(0, or_none=True))
    ignore_end: bool = attrs.field(default=False, validator=boolean)
    json_schema: str | None = attrs.field(default=None)

    @json_schema.validator
    def _check_schema(self, _: object, value: str | None) -> None:
        if value is None:
            return
        try:
            schema = json.loads(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'json_schema' must be JSON text: {value!r}") from error
        if not isinstance(schema, dict):
            raise ValueError(  # noqa: TRY004 - its type is right
                f"'json_schema' must be a JSON object: {value!r}"
            )

    @stop.validator
    def _check_stop(self, _: object, value: tuple[object, ...]) -> None:
        for string in value:
            if not isinstance(string, str) or not string:
                raise ValueError(
                    f"'stop' must hold strings that are not empty: {value!r}"
                )


@attrs.frozen(kw_only=True)
class TokenLogprob:
    """Natural log-probability of a produced token, and of the likeliest others."""

    token: int
    logprob: float
    top: Mapping[int, float]


@attrs.frozen(kw_only=True)
class Chunk:
    """Tokens as they come.

    Attributes:
        token_ids: New tokens; none in a last chunk that only brings text held back.
        text: Text that became certain; whole characters, never part of a stop string.
        logprobs: One entry a token, where asked for.
    """

    token_ids: Sequence[int]
    text: str
    logprobs: Sequence[TokenLogprob] = ()


@attrs.frozen(kw_only=True)
class EngineCall:
    """A call as an engine takes it.

    Attributes:
        spec: What the scheduler needs.
        sampling: How tokens are chosen.
        is_streamed: Whether the consumer acts on tokens as they come; where not, an
            engine may hand them over late (rule S10).
    """

    spec: CallSpec
    sampling: Sampling = attrs.field(factory=Sampling)
    is_streamed: bool = False


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``; special tokens in it are recognised."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, without special tokens; broken ones U+FFFD."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the chat template's text for ``messages``, ready for the reply."""


@attrs.frozen(kw_only=True)
class Capabilities:
    """What an engine can do (DESIGN section 9).

    Attributes:
        preempts: Whether a better call takes the place of a running one.
        swaps: Whether preempted KV is kept in a host pool.
        caches_prefixes: Whether KV of earlier calls is reused.
        logprobs: Whether log-probabilities are reported.
        guided_decoding: Whether output can be held to a schema.
        measures_steps: Whether service is measured; else it is the work by cost model.
        max_context_tokens: Most tokens of prompt and output of one call.
        max_call_tokens: Most that fit the KV pool, at most ``max_context_tokens``.
        max_batch_calls: Slots.
        vocabulary_tokens: Ids of prompts are below this, others are refused; None: the
            engine takes any id.
        intake_limit_calls: Most calls the engine wants at a time (rule B4); None: any.
    """

    preempts: bool
    swaps: bool
    caches_prefixes: bool
    logprobs: bool = False
    guided_decoding: bool = False
    measures_steps: bool = True
    max_context_tokens: int
    max_call_tokens: int
    max_batch_calls: int
    vocabulary_tokens: int | None = None
    intake_limit_calls: int | None = None


def check_prompt(
    prompt: Sequence[int], vocabulary_tokens: int | None, where: str
) -> None:
    """Refuse a prompt with an id that no model of that vocabulary can look up.

    Args:
        prompt: Ids, none negative.
        vocabulary_tokens: How many there are; None: any.
        where: What refuses it.

    Raises:
        UnknownToken: It has one.
    """
    if vocabulary_tokens is None:
        return
    largest = max(prompt, default=0)
    if largest >= vocabulary_tokens:
        raise UnknownToken(
            token=largest, vocabulary_tokens=vocabulary_tokens, where=where
        )


class Engine(Protocol):
    """One running model replica. See the module docstring for its life."""

    @property
    def name(self) -> str:
        """Unique in a runtime."""

    @property
    def model(self) -> str:
        """What calls name when there are several models."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model; valid once the engine is entered."""

    @property
    def costs(self) -> CostModel:
        """What steps and transfers cost; measured or given, valid once entered."""

    async def __aenter__(self) -> Self:
        """Load the model and take memory.

        Raises:
            EngineError: It cannot be loaded.
            RuntimeError: It is entered already; what is entered notices nothing.
        """

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give everything back; calls still live end as cancelled."""

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None],
    ) -> None:
        """Run steps until cancelled; ``started`` once calls can be submitted.

        Cancelled, it ends soon. It may complete the step under way, and must where
        leaving would free memory that a thread still uses; nobody can cut that short,
        so whatever else it shields has a deadline of its own.

        Where a step failed, nothing is awaited between the end of the first call as
        failed and the raising of the error: who learns of a call's failure finds the
        engine down, or would not send the call to another one (rule B5).

        Raises:
            EngineLost: A step failed; all its calls have been ended as failed.
        """

    def capabilities(self) -> Capabilities:
        """Return what this engine can do; valid once entered."""

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        """Take a call in; never waits.

        ``ended`` is called once, on the loop, when the call has ended and its blocks
        are released; not before this has returned: the caller does not know yet that
        the call was taken. Others may end meanwhile. Leaving the stream aborts it.

        Raises:
            CallRejected: It can never fit this engine.
            UnknownToken: An id of its prompt is not in the vocabulary. Where this comes
                too late, one call's prompt takes the engine down for all.
            EngineLost: The engine is down.
        """

    def forget(self, program_id: int) -> None:
        """Take note that a program has ended, and that nothing need be kept for it.

        Of a program the engine has never seen, or when it is down, nothing happens.
        """

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""
