"""How a token is drawn from logits, so that nothing but the call decides it.

The random number of a token is a function of the call's stream and the token's place.
No state is carried, so a token is drawn the same whether the call was preempted,
computed again, or shared its batch with others (rule S8).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import torch

from autellix.backends.live_call import TokenSample
from autellix.backends.protocol import TokenLogprob

if TYPE_CHECKING:
    from autellix.backends.protocol import Sampling

_LOWEST_TEMPERATURE = 1e-6  # below it a float32 quotient overflows; greedy but for ties
_NUCLEUS_GUESS = 1024  # a nucleus is nearly always smaller: spares sorting all tokens


class Draw(NamedTuple):
    """What decides the token of one row of logits.

    Attributes:
        sampling: How it is chosen.
        stream: Name of the call's random stream: its seed, or something nobody knows.
        place: Index of the token in the call, prompt included.
    """

    sampling: Sampling
    stream: str
    place: int


def draw_tokens(logits: torch.Tensor, draws: Sequence[Draw]) -> list[TokenSample]:
    """Return one token for each row.

    Temperature is applied first, then ``top_k``, then ``top_p`` among what that left.
    The token is found where the random number falls in the cumulated probabilities *in
    the order of token ids*: sorted by probability, near-equal tokens would change
    places with the rounding of the batch.

    Args:
        logits: ``[rows, vocabulary]``, float32.
        draws: One a row.
    """
    tokens = (
        logits.numpy().argmax(axis=-1).tolist()
    )  # torch's own takes 9 times as long
    drawn = [row for row, draw in enumerate(draws) if draw.sampling.temperature > 0.0]
    if drawn:
        probabilities = _tempered(logits[drawn], [draws[row] for row in drawn])
        for row, row_probabilities in zip(drawn, probabilities, strict=True):
            tokens[row] = _drawn(row_probabilities, draws[row])
    return [
        TokenSample(
            token=token, logprob=_logprob(logits[row], token, draw.sampling.logprobs)
        )
        for row, (token, draw) in enumerate(zip(tokens, draws, strict=True))
    ]


def uniform(stream: str, place: int) -> float:
    """Return the random number of a token, in [0, 1), the same on every machine."""
    digest = blake2b(f"{stream}:{place}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 12) / 2**52


def _tempered(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Return probabilities ``[rows, vocabulary]`` after temperature."""
    temperatures = torch.tensor(
        [max(draw.sampling.temperature, _LOWEST_TEMPERATURE) for draw in draws],
        dtype=logits.dtype,
    )
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return torch.softmax(shifted / temperatures[:, None], dim=-1)


def _drawn(probabilities: torch.Tensor, draw: Draw) -> int:
    tokens, kept = _restrict(probabilities, draw.sampling)
    cumulated = kept.cumsum(dim=-1, dtype=torch.float64)
    target = uniform(draw.stream, draw.place) * cumulated[-1]
    index = torch.searchsorted(cumulated, target, right=True)
    return int(index if tokens is None else tokens[index])


def _restrict(
    probabilities: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return the ids that are left in ascending order (None: all) and their weights."""
    size = len(probabilities)
    top_k = min(sampling.top_k or size, size)
    if top_k == size and sampling.top_p == 1.0:
        return None, probabilities
    likeliest = _likeliest(probabilities, top_k, sampling.top_p)
    tokens = likeliest.sort().values
    return tokens, probabilities[tokens]


def _likeliest(probabilities: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Return the smallest set of ids with ``top_p`` of the mass of ``top_k`` ids."""
    if top_p == 1.0:
        return probabilities.topk(top_k).indices
    if top_k == len(probabilities) > _NUCLEUS_GUESS:
        values, ids = probabilities.topk(_NUCLEUS_GUESS)
        mass = values.cumsum(dim=-1, dtype=torch.float64)
        wanted = top_p * probabilities.sum(dtype=torch.float64)
        if mass[-1] >= wanted:
            return ids[: int(torch.searchsorted(mass, wanted)) + 1]
    values, ids = probabilities.topk(top_k)
    mass = values.cumsum(dim=-1, dtype=torch.float64)
    return ids[: int(torch.searchsorted(mass, top_p * mass[-1])) + 1]


def _logprob(
    logits: torch.Tensor, token: int, alternatives: int | None
) -> TokenLogprob | None:
    """Return natural log-probabilities under the model's own distribution.

    That is before temperature, ``top_k`` and ``top_p``.
    """
    if alternatives is None:
        return None
    logprobs = torch.log_softmax(logits, dim=-1)
    best = logprobs.topk(min(alternatives, len(logprobs)))
    top = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenLogprob(token=token, logprob=float(logprobs[token]), top=top)
