"""What the engine needs of vLLM, however that is run: in process, or in its own.

A driver takes calls and gives *news*: tokens as they come, and the facts that the
ledger in vLLM's scheduler wrote, reports included. Reports are never taken from vLLM's
outputs: of a call that was cancelled, or that ended by a stop string, there is no last
output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from autellix.backends.live_call import TokenSample
from autellix.backends.protocol import TokenLogprob
from autellix.core.snapshot import TierUse

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.backends.vllm.steer import Steer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Ranking
    from autellix.core.records import Outcome
    from autellix.core.snapshot import EngineStatistics


@attrs.frozen(kw_only=True)
class Opened:
    """What an engine is like, once it is open.

    Attributes:
        version: Of vLLM.
        max_context_tokens: Most tokens of prompt and output of one call.
        pool_tokens: Tokens whose KV the engine holds.
        slots: Most calls in a step.
        caches_prefixes: Whether KV of earlier calls is reused.
        vocabulary_tokens: Ids of prompts are below this.
        guides: Whether output can be held to a schema.
        is_steered: Whether our half of the scheduler is there; else all that we have
            is vLLM's ``priority`` at submission.
    """

    version: str
    max_context_tokens: int
    pool_tokens: int
    slots: int
    caches_prefixes: bool
    vocabulary_tokens: int
    guides: bool
    is_steered: bool


@attrs.frozen(kw_only=True)
class News:
    """What came of the calls since the last news.

    Attributes:
        tokens: New tokens by call, in order.
        facts: What happened, in order; a report follows all tokens of its call.
        refused: Calls that vLLM did not take, and why.
    """

    tokens: Sequence[tuple[int, Sequence[TokenSample]]] = ()
    facts: Sequence[Fact] = ()
    refused: Sequence[tuple[int, Exception]] = ()


class Driver(Protocol):
    """Runs one vLLM engine. Methods that are not ``async`` never wait."""

    async def open(self) -> Opened:
        """Load the model and take memory.

        Raises:
            EngineError: It cannot be loaded.
        """

    async def close(self) -> None:
        """Give everything back."""

    async def steer(self, steer: Steer) -> None:
        """Say how to steer; no call is live."""

    def send(self, call: EngineCall, submitted_ns: int) -> None:
        """Take a call in."""

    def abort(self, call_id: int) -> None:
        """End a call; its report comes as news."""

    async def news(self) -> News:
        """Wait until there is any; whatever it raises is the end of the engine."""

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""

    async def end_all(self, outcome: Outcome) -> News:
        """End every call that was sent; return what is left to be told."""

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""


def samples_of(completion: Any, top: int | None) -> list[TokenSample]:
    """Return the new tokens of one of vLLM's outputs.

    Args:
        completion: A ``CompletionOutput``.
        top: How many alternatives were asked for; None: no log-probabilities.
    """
    tokens = completion.token_ids
    if top is None or not completion.logprobs:
        return [TokenSample(token=token) for token in tokens]
    pairs = zip(tokens, completion.logprobs, strict=True)
    return [
        TokenSample(token=token, logprob=_logprob(token, found, top))
        for token, found in pairs
    ]


def _logprob(token: int, found: Any, top: int) -> TokenLogprob:
    """Return what was found for a token; vLLM adds the chosen one to the likeliest."""
    best = sorted(found.items(), key=lambda entry: -entry[1].logprob)[:top]
    return TokenLogprob(
        token=token,
        logprob=min(0.0, found[token].logprob),
        top={other: min(0.0, entry.logprob) for other, entry in best},
    )


def at_rest(seen: EngineStatistics | None) -> EngineStatistics | None:
    """Return the last that was seen of a dead engine, whose calls have all ended."""
    if seen is None:
        return None
    total, levels = seen.device.total, len(seen.level_occupancy)
    return attrs.evolve(
        seen,
        running=0,
        waiting=0,
        worst_running_level=None,
        level_occupancy=[0] * levels,
        live_work_ns={},
        device=TierUse(total=total, free=total, cached=0, referenced=0, moving=0),
    )
