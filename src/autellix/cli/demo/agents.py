"""The demo's agents: a chat, a tool user, and a tree search that fans out.

They are ordinary agent code: each is given its program, makes its calls one after the
other or side by side, and never hears of engines, policies or other agents. A model of
135 million parameters gives simple answers, and whatever it says, they go on sanely.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from autellix.cli.demo.tools import PRICES, parse_action, use
from autellix.cli.demo.workload import Chat, Errand, Search, Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from autellix.runtime import CallResult, Program
    from autellix.runtime.request import Message

_MANNER = "You are a friendly guide. Answer briefly and in plain words."
_TOOLS = f"""\
Answer the question with these tools. Write one action in each turn:
Action: look_up[good]
Action: calculate[expression]
Goods with a price: {", ".join(PRICES)}.
Example: for 3 lamps, first Action: look_up[lamps], then Action: calculate[3 * 18]."""
_ANGLES = (
    "the cheapest way",
    "the boldest way",
    "the calmest way",
    "a way with music",
)


def kind_of(task: Task) -> str:
    """Return the class of program that a task is."""
    match task:
        case Chat():
            return "chat"
        case Errand():
            return "react"
        case Search():
            return "tree"


def output_tokens(task: Task) -> int:
    """Return how many tokens all replies to a task have."""
    match task:
        case Chat():
            return sum(turn.reply_tokens for turn in task.turns)
        case Errand():
            return sum(task.thought_tokens) + task.answer_tokens
        case Search():
            return sum(task.idea_tokens) * len(_ANGLES) + task.answer_tokens


async def run_agent(program: Program, task: Task) -> list[CallResult]:
    """Do a task; return all calls made for it."""
    match task:
        case Chat():
            return await chat(program, task)
        case Errand():
            return await react(program, task)
        case Search():
            return await search(program, task)


async def chat(program: Program, task: Chat) -> list[CallResult]:
    """Answer each turn with the whole conversation before it in view."""
    messages: list[Message] = [_said("system", _MANNER)]
    results = []
    for turn in task.turns:
        await anyio.sleep(turn.pause_s)
        messages.append(_said("user", turn.text))
        results.append(await _reply(program, messages, turn.reply_tokens))
        messages.append(_said("assistant", results[-1].text))
    return results


async def react(program: Program, task: Errand) -> list[CallResult]:
    """Think, act with a tool, observe; then answer.

    The model chooses each action. Where its text names none, the task's own plan does.
    """
    messages: list[Message] = [
        _said("system", _TOOLS),
        _said("user", f"Question: {task.question}"),
    ]
    results = []
    for planned, tokens in zip(task.plan, task.thought_tokens, strict=True):
        results.append(await _reply(program, messages, tokens))
        action = parse_action(results[-1].text) or planned
        seen = f"{action.tool}[{action.input}] says {use(action)}"
        messages.append(_said("assistant", results[-1].text))
        messages.append(_said("user", f"Observation: {seen}"))
    messages.append(_said("user", f"Answer now: {task.question}"))
    results.append(await _reply(program, messages, task.answer_tokens))
    return results


async def search(program: Program, task: Search) -> list[CallResult]:
    """Widen the best idea in four ways side by side, round by round; then plan."""
    results: list[CallResult] = []
    best: Sequence[str] = ()  # a path of ideas
    for tokens in task.idea_tokens:
        replies = await _side_by_side(
            [
                partial(_reply, program, _asked(task.goal, best, angle), tokens)
                for angle in _ANGLES
            ]
        )
        results += replies
        best = max(((*best, reply.text) for reply in replies), key=_worth)
    plan = _asked(task.goal, best, "make one plan of this")
    results.append(await _reply(program, plan, task.answer_tokens))
    return results


async def _side_by_side(
    calls: Sequence[Callable[[], Awaitable[CallResult]]],
) -> list[CallResult]:
    """Make calls in branches of their own; return their results in order."""
    results: dict[int, CallResult] = {}

    async def make(index: int) -> None:
        results[index] = await calls[index]()

    async with anyio.create_task_group() as branches:
        for index in range(len(calls)):
            branches.start_soon(make, index)
    return [results[index] for index in range(len(calls))]


def _asked(goal: str, path: Sequence[str], question: str) -> list[Message]:
    """Return a path of ideas as the conversation that led to them, and a question."""
    manner = f"We plan {goal}, step by step. Say one short idea."
    messages = [_said("system", manner)]
    for idea in path:
        messages += [_said("user", "Go on."), _said("assistant", idea)]
    return [*messages, _said("user", f"Go on: {question}.")]


def _worth(path: Sequence[str]) -> int:
    """Judge a path of ideas: it is worth its different words."""
    return len({word for idea in path for word in idea.lower().split()})


async def _reply(
    program: Program, messages: Sequence[Message], tokens: int
) -> CallResult:
    """Return a reply of exactly so many tokens, so that every policy has equal work."""
    return await program.chat(messages, max_tokens=tokens, ignore_end=True)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
