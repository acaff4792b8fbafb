"""What callers see when a real engine breaks down, and what must not break one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest

from autellix import AutellixRuntime, CallFailed, EngineLost, UnknownToken
from autellix.balancers import RoundRobin
from tests.backends.torch.test_engine import make_engine
from tests.backends.torch.tiny import VOCABULARY

if TYPE_CHECKING:
    from autellix.backends.torch import TorchEngine

BREAK = OSError("the memory is worn out")


def break_model(engine: TorchEngine) -> None:
    """Let the model raise from its next step on."""

    def forward(*_: object, **__: object) -> NoReturn:
        raise BREAK

    assert engine._loaded is not None
    network: Any = engine._loaded.runner._network
    network.model.forward = forward


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and all that led to it, the first cause last."""
    return [] if error is None else [error, *causes(error.__cause__)]


async def test_a_second_engine_serves_on_when_the_first_is_lost(
    llama_folder: Path,
) -> None:
    """The model's tokenizer outlives the engine it came from (rules B3, B5)."""
    engines = [make_engine(llama_folder, name) for name in ("left", "right")]
    messages = [{"role": "user", "content": "the fox"}]
    async with AutellixRuntime(engines=engines, balancer=RoundRobin()) as runtime:
        assert (await runtime.generate("the fox", max_tokens=2)).report.engine == "left"
        break_model(engines[0])
        for _ in range(2):
            for prompt in ("the fox", [5, 6]):
                result = await runtime.generate(prompt, max_tokens=2)
                assert result.report.engine == "right"
            chat = await runtime.chat(messages, max_tokens=2)
            assert chat.report.engine == "right"
        assert not runtime.statistics().engines["left"].is_up


@pytest.mark.parametrize("prompt", ["the fox", [5, 6]])
async def test_calls_after_the_loss_of_all_engines_are_told_why(
    llama_folder: Path, prompt: str | list[int]
) -> None:
    """The chain of causes ends at what the model raised, for every call to come."""
    engine = make_engine(llama_folder)
    async with AutellixRuntime(engines=[engine]) as runtime:
        break_model(engine)
        with pytest.raises(CallFailed) as failed:
            await runtime.generate(prompt, max_tokens=2)
        assert causes(failed.value)[-1] is BREAK
        await anyio.sleep(0.05)  # the engine leaves: nothing of it is loaded any more
        for _ in range(2):
            with pytest.raises(EngineLost, match="'tiny' was lost") as lost:
                await runtime.generate(prompt, max_tokens=2)
            assert causes(lost.value)[-1] is BREAK


async def test_an_impossible_token_is_refused_and_breaks_nothing(
    llama_folder: Path,
) -> None:
    """Neither the engine, nor its calls, nor the other engine by way of a retry."""
    engines = [make_engine(llama_folder, name) for name in ("left", "right")]
    texts: list[str] = []
    async with AutellixRuntime(engines=engines, balancer=RoundRobin()) as runtime:

        async def neighbour() -> None:
            result = await runtime.generate("the fox", max_tokens=40, ignore_end=True)
            texts.append(result.text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(neighbour)
            await anyio.sleep(0.01)
            with pytest.raises(UnknownToken) as refused:
                await runtime.generate([5, VOCABULARY, 6], max_tokens=2)
            with pytest.raises(TypeError, match="got True at 0"):
                await runtime.generate([True], max_tokens=2)
            with pytest.raises(ValueError, match=r"UTF-8 can hold: got '\\ud800' at 1"):
                await runtime.generate("a\ud800", max_tokens=2)
            await runtime.generate([5, VOCABULARY - 1], max_tokens=2)
        assert all(engine.is_up for engine in runtime.statistics().engines.values())
    assert (refused.value.token, refused.value.vocabulary_tokens) == (320, 320)
    model = engines[0].model
    assert str(refused.value).startswith(
        f"prompt has token id 320, model {model!r} has"
    )
    assert len(texts) == 1
