"""A process of its own has nothing to fall back to where it cannot be steered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autellix.backends.vllm import VllmOptions, own_process
from autellix.backends.vllm.environment import Installed
from autellix.backends.vllm.own_process import OwnProcessDriver
from autellix.backends.vllm.remote import WHY_NOT, answer
from autellix.backends.vllm.tokens import TokenIdsOnly
from autellix.errors import EngineError


class Process:
    """Stands for vLLM's process, with a scheduler that is not ours."""

    def __init__(self, scheduler: Any) -> None:
        self.core = SimpleNamespace(scheduler=scheduler)
        self.engine_core = self
        self.vllm_config = SimpleNamespace()
        self.is_ended = False

    async def add_request(self, *_: Any) -> None:
        """Take no request."""

    async def call_utility_async(self, _: str, *question: Any) -> Any:
        """Answer as the process would."""
        return answer(self.core, *question)

    def shutdown(self) -> None:
        """End."""
        self.is_ended = True


LACKING = "this vLLM's Scheduler has no _preempt_request"
STOCK = SimpleNamespace(
    cache_config=SimpleNamespace(block_size=16),
    kv_cache_manager=SimpleNamespace(block_pool=SimpleNamespace(num_gpu_blocks=9)),
)


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (SimpleNamespace(**{WHY_NOT: LACKING}), LACKING),
        (STOCK, "its scheduler is a SimpleNamespace, which is not ours"),
        (SimpleNamespace(), "its scheduler is a SimpleNamespace, which is not ours"),
    ],
    ids=["says why", "as vLLM's own", "unlike any"],
)
async def test_it_is_refused_with_the_reason_and_the_other_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: Any, reason: str
) -> None:
    """The error names engine, version, what is lacking, and the setting to change.

    Whatever else the scheduler lacks: nothing more is asked of it.
    """
    process = Process(scheduler)
    installed = Installed(version="9.9", is_cpu=False)
    monkeypatch.setattr(own_process, "prepare", lambda: installed)
    monkeypatch.setattr(OwnProcessDriver, "_make", lambda *_: process)
    driver = OwnProcessDriver(
        name="mine",
        options=VllmOptions(driver="async"),
        folder=tmp_path,
        tokenizer=TokenIdsOnly("x"),
    )
    with pytest.raises(EngineError) as caught:
        await driver.open()
    assert str(caught.value) == (
        "engine 'mine': driver 'async' has nothing to fall back to, and vLLM 9.9 "
        f"cannot be steered: {reason}. "
        "With driver = 'in-process' it runs by vLLM's own priority"
    )
    await driver.close()
    assert process.is_ended
