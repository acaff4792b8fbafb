"""The demo's agents, against a model that says what the test wants."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio

from autellix.cli.demo.agents import output_tokens, run_agent
from autellix.cli.demo.tools import Action
from autellix.cli.demo.workload import Chat, Errand, Search, Task, Turn, make_workload
from autellix.testing import run_virtual

if TYPE_CHECKING:
    from autellix.runtime import Program


class Model:
    """Stands in for a program; notes what it is asked and how much at a time."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[Sequence[Mapping[str, str]]] = []
        self.tokens: list[int] = []
        self.live = 0
        self.most_live = 0

    async def chat(
        self, messages: Sequence[Mapping[str, str]], **options: Any
    ) -> SimpleNamespace:
        self.asked.append(list(messages))
        self.tokens.append(options["max_tokens"])
        assert options["ignore_end"], "all policies are to have equal work"
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        await anyio.sleep(1)
        self.live -= 1
        return SimpleNamespace(text=self.replies.pop(0) if self.replies else "hm")

    def run(self, task: Task) -> list[str]:
        results = run_virtual(run_agent, cast("Program", self), task)
        return [result.text for result in results]


def contents(messages: Sequence[Mapping[str, str]], role: str) -> list[str]:
    return [message["content"] for message in messages if message["role"] == role]


def test_what_a_task_generates_is_known_before() -> None:
    """Time left is told by it: it is what the calls ask for, in sum."""
    for task in make_workload(0):
        model = Model()
        model.run(task)
        assert output_tokens(task) == sum(model.tokens)


def test_a_chat_keeps_the_whole_conversation_in_view() -> None:
    """Each call has all turns and replies before it."""
    model = Model("first", "second")
    turns = [
        Turn(text="one", reply_tokens=3, pause_s=0.0),
        Turn(text="two", reply_tokens=4, pause_s=1.0),
    ]
    assert model.run(Chat(arrives_s=0.0, turns=turns)) == ["first", "second"]
    assert contents(model.asked[1], "user") == ["one", "two"]
    assert contents(model.asked[1], "assistant") == ["first"]
    assert model.tokens == [3, 4]


def test_the_model_chooses_the_action_and_the_plan_stands_in_for_it() -> None:
    """What it names is done, errors are told it, and silence is sanely filled."""
    task = Errand(
        arrives_s=0.0,
        question="What do 2 tea cost?",
        plan=[
            Action("look_up", "tea"),
            Action("calculate", "2 * 4.75"),
            Action("calculate", "1 + 1"),
        ],
        thought_tokens=[5, 6, 7],
        answer_tokens=8,
    )
    model = Model("Action: look_up[wool]", "no idea", "Action: calculate[x]", "19")
    assert model.run(task)[-1] == "19"
    seen = contents(model.asked[-1], "user")
    assert seen[1] == "Observation: look_up[wool] says 7.3"
    assert seen[2] == "Observation: calculate[2 * 4.75] says 9.5"
    assert seen[3].startswith("Observation: calculate[x] says error")
    assert model.tokens == [5, 6, 7, 8]


def test_a_search_widens_the_best_idea_side_by_side() -> None:
    """Four branches a round; the idea with most different words is gone on with."""
    task = Search(arrives_s=0.0, goal="a walk", idea_tokens=[5, 6], answer_tokens=9)
    model = Model("a a a", "go far away now", "b", "c c")
    assert len(model.run(task)) == 9
    assert model.most_live == 4
    assert all(
        contents(asked, "assistant") == ["go far away now"]
        for asked in model.asked[4:8]
    )
    assert model.tokens == [5] * 4 + [6] * 4 + [9]
