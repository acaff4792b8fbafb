"""What the demo's agents are asked, and when each arrives: all of it from one seed.

How many calls a program makes, and how long replies are, follows public traces, long
tails included, scaled down to what two small engines serve in a minute: many short
chats and a few very long ones, tool users of much the same size, searches of all
depths. They arrive faster than they can be served. Every reply has a fixed length, so
each policy has the same work to order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs

from autellix.cli.demo.tools import PRICES, Action

MEAN_GAP_S: Final = 0.4
"""Between arrivals; exponentially distributed, as in a Poisson process."""

# Quantiles, at equal distances, of the calls a program makes in ShareGPT (cut at 10),
# of half those in BFCL, of a tenth of the depth in LATS on HotPotQA (cut at 6).
CHAT_TURNS: Final = (1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 10, 10)
ERRAND_CALLS: Final = (3, 4, 4, 5, 5, 6, 6, 7)
SEARCH_DEPTHS: Final = (1, 1, 1, 2, 3, 5, 6, 6)

# Quantiles of the output tokens of a call: a tenth of ShareGPT's, half of BFCL's and of
# those of LATS.
_CHAT_TOKENS = (4, 4, 8, 12, 15, 18, 21, 24, 26, 29, 32, 36, 40, 46, 55, 74)
_ERRAND_TOKENS = (4, 5, 7, 9, 12, 17, 24, 48)
_SEARCH_TOKENS = (12, 16, 19, 21, 24, 26, 33, 43)

_TOPICS = (
    "how bread rises",
    "why the sky is blue",
    "what a lighthouse keeper did",
    "how to plant a pear tree",
    "how bees find flowers",
    "what makes a good walking shoe",
    "how paper is made",
    "why cats purr",
    "how tides work",
    "how to learn to whistle",
)
_FOLLOW_UPS = (
    "Say that in simpler words.",
    "Give me an example.",
    "What do people often get wrong about it?",
    "How would you explain it to a child?",
    "What should I read next?",
)
_PLANS = (
    "a rainy Sunday with two children",
    "a farewell party for a colleague",
    "a week of cheap dinners",
    "a small garden on a balcony",
    "a walk through an old town",
    "a first lesson in drawing",
)


@attrs.frozen(kw_only=True)
class Turn:
    """One question of a chat.

    Attributes:
        text: What the user says.
        reply_tokens: Length of the reply.
        pause_s: Time the user reads and types before it.
    """

    text: str
    reply_tokens: int
    pause_s: float


@attrs.frozen(kw_only=True)
class Chat:
    """A conversation of several turns."""

    arrives_s: float
    turns: Sequence[Turn]


@attrs.frozen(kw_only=True)
class Errand:
    """A question that needs tools.

    Attributes:
        question: What is asked.
        plan: A way to answer it: what is done where the model names no action.
        thought_tokens: Length of each thought, one an action.
        answer_tokens: Length of the answer.
    """

    arrives_s: float
    question: str
    plan: Sequence[Action]
    thought_tokens: Sequence[int]
    answer_tokens: int


@attrs.frozen(kw_only=True)
class Search:
    """A tree of ideas: widened, judged, and the best of them widened again.

    Attributes:
        goal: What ideas are wanted for.
        idea_tokens: Length of each idea of a round, one number a round.
        answer_tokens: Length of the plan made of the best ones.
    """

    arrives_s: float
    goal: str
    idea_tokens: Sequence[int]
    answer_tokens: int


Task: TypeAlias = Chat | Errand | Search


def make_workload(seed: int) -> list[Task]:
    """Return the demo's tasks in the order of their arrival."""
    chance = random.Random(seed)
    makers: list[Callable[[float, random.Random], Task]] = [
        *(partial(_chat, turns) for turns in CHAT_TURNS),
        *(partial(_errand, calls) for calls in ERRAND_CALLS),
        *(partial(_search, depth) for depth in SEARCH_DEPTHS),
    ]
    chance.shuffle(makers)
    tasks: list[Task] = []
    arrives_s = 0.0
    for maker in makers:
        tasks.append(maker(arrives_s, chance))
        arrives_s += chance.expovariate(1 / MEAN_GAP_S)
    return tasks


def _chat(turns: int, arrives_s: float, chance: random.Random) -> Chat:
    first = f"Tell me in a few sentences {chance.choice(_TOPICS)}."
    texts = [first, *(chance.choice(_FOLLOW_UPS) for _ in range(turns - 1))]
    return Chat(
        arrives_s=arrives_s,
        turns=[
            Turn(
                text=text,
                reply_tokens=chance.choice(_CHAT_TOKENS),
                pause_s=chance.uniform(0.5, 1.5) if turn else 0.0,
            )
            for turn, text in enumerate(texts)
        ],
    )


def _errand(calls: int, arrives_s: float, chance: random.Random) -> Errand:
    goods = chance.sample(sorted(PRICES), calls - 2)
    counts = [chance.randint(2, 30) for _ in goods]
    wanted = ", ".join(f"{n} {good}" for n, good in zip(counts, goods, strict=True))
    total = " + ".join(
        f"{n} * {PRICES[good]:g}" for n, good in zip(counts, goods, strict=True)
    )
    plan = [*(Action("look_up", good) for good in goods), Action("calculate", total)]
    return Errand(
        arrives_s=arrives_s,
        question=f"What do {wanted} cost together?",
        plan=plan,
        thought_tokens=[chance.choice(_ERRAND_TOKENS) for _ in plan],
        answer_tokens=chance.choice(_ERRAND_TOKENS),
    )


def _search(depth: int, arrives_s: float, chance: random.Random) -> Search:
    return Search(
        arrives_s=arrives_s,
        goal=chance.choice(_PLANS),
        idea_tokens=[chance.choice(_SEARCH_TOKENS) for _ in range(depth)],
        answer_tokens=chance.choice(_SEARCH_TOKENS),
    )
