"""The default model in vLLM: text, chat, stop strings, log-probabilities, a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from autellix import AutellixRuntime
from autellix.backends.torch.weights import resolve
from autellix.backends.vllm import VllmEngine
from autellix.core.facts import Preempted
from autellix.core.records import Charge
from autellix.errors import BackendUnavailable, CallFailed
from autellix.policies import FCFS, PLAS, Ladder
from autellix.testing.engine_bench import EngineBench, serving
from tests.backends.vllm.runs import COSTS

if TYPE_CHECKING:
    from autellix.core.ranking import Policy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _have_model() -> None:
    """Make the default model's folder where this machine has none yet."""
    try:
        resolve("smollm2-135m", cache_dir=None, progress=lambda *_: None)
    except BackendUnavailable as error:
        pytest.skip(str(error))


def smollm2(**settings: Any) -> VllmEngine:
    """Return an engine of the default model, small in memory."""
    given: dict[str, Any] = {"slots": 4, "kv_mib": 96, "max_context_tokens": 512}
    given |= {"dtype": "float32", "costs": COSTS}
    return VllmEngine(**{**given, **settings})


async def test_agents_chat(subtests: pytest.Subtests) -> None:
    """A runtime on vLLM gives text, cut by stop strings, log-probabilities, JSON."""
    async with (
        AutellixRuntime(engines=[smollm2()], policy=PLAS()) as runtime,
        runtime.program("test") as program,
    ):
        question = [{"role": "user", "content": "What is the capital of France?"}]
        with subtests.test("chat"):
            reply = await program.chat(question, max_tokens=12)
            assert "Paris" in reply.text
            assert reply.report.service_s > 0
        with subtests.test("stop string"):
            cut = await program.chat(question, max_tokens=12, stop=" is")
            assert cut.text == reply.text[: reply.text.index(" is")]
        with subtests.test("log-probabilities"):
            told = await program.chat(question, max_tokens=4, logprobs=2)
            assert [entry.token for entry in told.logprobs] == list(told.token_ids)
            assert all(len(entry.top) == 2 for entry in told.logprobs)
        with subtests.test("schema"):
            schema = {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}},
                "required": ["city"],
                "additionalProperties": False,
            }
            asked = {"json_schema": json.dumps(schema), "max_tokens": 40}
            answer = await program.chat(question, **asked)  # type: ignore[arg-type]
            assert set(json.loads(answer.text)) == {"city"}
        with subtests.test("a schema vLLM does not take"):
            bad = json.dumps({"type": "object", "properties": {"a": {"type": 3}}})
            with pytest.raises(CallFailed):
                await program.chat(question, json_schema=bad, max_tokens=4)
            assert (await program.chat(question, max_tokens=2)).text


async def greedy(bench: EngineBench, prompts: Sequence[str]) -> list[list[int]]:
    """Return the greedy tokens of long calls, with short ones that come in later."""
    answers: dict[int, list[int]] = {}

    async def ask(number: int, prompt: str) -> None:
        await anyio.sleep(0.02 * number)
        tokens = 40 if number < 2 else 4
        call = bench.call(prompt, max_tokens=tokens, is_streamed=True)
        answers[number] = (await bench.answer(call)).token_ids

    async with anyio.create_task_group() as tasks:
        for number, prompt in enumerate(prompts):
            tasks.start_soon(ask, number, prompt)
    return [answers[number] for number in range(len(prompts))]


async def test_preemption_changes_no_token() -> None:
    """Greedy tokens in float32 with preemptions equal those without (S8)."""
    prompts = ["The sea is", "Once upon a time", "A list of colours:", "To be or"]
    ladder = Ladder(bounds_s=[0.001], quanta_s=[0.001, 10.0])
    policies: list[Policy] = [
        PLAS(ladder=ladder, charge=Charge.WORK, beta=None),
        FCFS(),
    ]
    outputs = []
    for policy in policies:
        async with serving(smollm2(slots=2), policy) as bench:
            outputs.append(await greedy(bench, prompts))
            preempted = [fact for fact in bench.facts if isinstance(fact, Preempted)]
            assert bool(preempted) == isinstance(policy, PLAS)
    assert outputs[0] == outputs[1]
