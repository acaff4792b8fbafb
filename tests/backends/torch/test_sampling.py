"""Drawing tokens: the right distribution, and nothing but the call decides."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from autellix.backends.protocol import Sampling
from autellix.backends.torch.sampling import Draw, draw_tokens, uniform


def draw(logits: torch.Tensor, sampling: Sampling, places: int) -> Counter[int]:
    """Return how often each token was drawn over so many places of one call."""
    draws = [Draw(sampling, "7", place) for place in range(places)]
    samples = draw_tokens(logits.expand(places, -1), draws)
    return Counter(sample.token for sample in samples)


def test_temperature_0_takes_the_likeliest_token() -> None:
    """Greedy does not look at the random stream."""
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    samples = draw_tokens(logits, [Draw(Sampling(), "1", 0), Draw(Sampling(), "2", 9)])
    assert [sample.token for sample in samples] == [1, 0]
    assert samples[0].logprob is None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    """Within five standard deviations, over 4,000 draws."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    counts = draw(logits, Sampling(temperature=temperature, seed=7), 4_000)
    expected = torch.softmax(logits / temperature, dim=-1).tolist()
    for token, probability in enumerate(expected):
        deviation = math.sqrt(4_000 * probability * (1 - probability))
        assert abs(counts[token] - 4_000 * probability) < 5 * deviation


def test_top_k_leaves_the_k_likeliest() -> None:
    """In their proportions."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    counts = draw(logits, Sampling(temperature=1.0, top_k=2, seed=7), 2_000)
    assert counts.keys() == {1, 2}
    assert 0.65 < counts[2] / 2_000 < 0.81


@pytest.mark.parametrize("vocabulary", [6, 3_000])
def test_top_p_leaves_the_smallest_set_with_that_mass(vocabulary: int) -> None:
    """Also where the likeliest thousand tokens do not have it."""
    draws = torch.Generator().manual_seed(3)
    logits = torch.randn(vocabulary, generator=draws) / 2
    order = logits.argsort(descending=True)
    mass = torch.softmax(logits, -1)[order].cumsum(-1)
    for top_p in (0.01, 0.3, 0.9, 0.999):
        allowed = order[: int((mass < top_p).sum()) + 1].tolist()
        counts = draw(logits, Sampling(temperature=1.0, top_p=top_p, seed=7), 300)
        assert counts.keys() <= set(allowed)
        if len(allowed) <= 3:
            assert counts.keys() == set(allowed)


def test_top_p_is_taken_of_what_top_k_left() -> None:
    """0.6, 0.3 and 0.1: of the first two, the first alone has two thirds."""
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    both = Sampling(temperature=1.0, top_k=2, top_p=0.65, seed=1)
    assert draw(logits, both, 200).keys() == {0}
    alone = Sampling(temperature=1.0, top_p=0.65, seed=1)
    assert draw(logits, alone, 200).keys() == {0, 1}


def test_a_token_does_not_depend_on_the_batch() -> None:
    """Neither on its place in it nor on the others' settings."""
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    draws = [
        Draw(Sampling(temperature=1.0, top_k=9), "a", 4),
        Draw(Sampling(), "b", 4),
        Draw(Sampling(temperature=0.7), "c", 5),
        Draw(Sampling(temperature=1.5, top_p=0.5), "d", 6),
    ]
    together = [sample.token for sample in draw_tokens(logits, draws)]
    alone = [
        draw_tokens(logits[row : row + 1], [draws[row]])[0].token for row in range(4)
    ]
    backwards = [s.token for s in draw_tokens(logits.flip(0), draws[::-1])][::-1]
    assert together == alone == backwards


def test_rounding_of_the_batch_does_not_change_a_drawn_token() -> None:
    """Near-equal tokens must not change places: the order is that of token ids."""
    logits = torch.randn(300, 2_000, generator=torch.Generator().manual_seed(1)) / 50
    noise = torch.randn(300, 2_000, generator=torch.Generator().manual_seed(2)) * 1e-6
    draws = [Draw(Sampling(temperature=1.0), "s", place) for place in range(300)]
    assert draw_tokens(logits, draws) == draw_tokens(logits + noise, draws)


def test_nor_does_it_where_only_some_tokens_are_left() -> None:
    """Groups of equal tokens, of which ``top_k`` leaves two whole ones."""
    levels = torch.arange(20.0).repeat_interleave(50) / 2
    shuffled = levels[torch.randperm(1_000, generator=torch.Generator().manual_seed(1))]
    noise = torch.randn(300, 1_000, generator=torch.Generator().manual_seed(2)) * 1e-6
    sampling = Sampling(temperature=1.0, top_k=100)
    draws = [Draw(sampling, "s", place) for place in range(300)]
    plain = shuffled.expand(300, -1)
    assert draw_tokens(plain, draws) == draw_tokens(plain + noise, draws)


def test_a_very_low_temperature_is_greedy() -> None:
    """Nothing overflows."""
    logits = torch.tensor([[5.0, 80.0, -80.0]])
    sampling = Sampling(temperature=1e-300, top_p=0.9)
    assert draw_tokens(logits, [Draw(sampling, "s", 1)])[0].token == 1


def test_a_token_without_probability_is_never_drawn() -> None:
    """Not even where the random number is 0."""
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    counts = draw(logits, Sampling(temperature=1.0), 300)
    assert counts.keys() == {1, 3}


def test_logprobs_are_those_of_the_model_before_any_restriction() -> None:
    """Natural logarithms; the chosen token, and as many of the likeliest as asked."""
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    expected = torch.log_softmax(logits[0], dim=-1).tolist()
    sampling = Sampling(temperature=0.5, top_k=1, logprobs=2)
    (sample,) = draw_tokens(logits, [Draw(sampling, "s", 0)])
    assert sample.logprob is not None
    assert sample.logprob.token == 2
    assert sample.logprob.logprob == pytest.approx(expected[2])
    assert sample.logprob.top == pytest.approx({2: expected[2], 1: expected[1]})
    (chosen_alone,) = draw_tokens(logits, [Draw(Sampling(logprobs=0), "s", 0)])
    assert chosen_alone.logprob is not None
    assert chosen_alone.logprob.top == {}


def test_random_numbers_are_the_same_in_every_version() -> None:
    """Written down, because a seed is a promise."""
    assert uniform("7", 0) == 0.0007727454463428707
    assert len({uniform("7", place) for place in range(1_000)}) == 1_000
