"""The default model itself: fetched, converted and reloaded; a few sane answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autellix.backends.protocol import Sampling
from autellix.backends.torch.folder_cache import find_damage
from autellix.backends.torch.model import LoadedModel, load
from autellix.backends.torch.weights import default_cache_dir, resolve
from autellix.errors import BackendUnavailable
from autellix.policies import FCFS, PLAS, Ladder
from tests.backends.torch.tiny import Driver, reference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder() -> Path:
    """Return the default model's folder, made where this machine has none yet."""
    try:
        return resolve("smollm2-135m", cache_dir=None, progress=lambda *_: None)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    """Return the default model in float32."""
    return load(folder, dtype=torch.float32, progress=lambda *_: None)


def ask(model: LoadedModel, question: str) -> list[int]:
    """Return the prompt of a chat with one question."""
    message = {"role": "user", "content": question}
    return model.tokenizer.encode(model.tokenizer.render([message]))


def test_the_folder_is_whole_and_kept_in_the_cache(folder: Path) -> None:
    """Sealed with its checksums; the second time nothing is built."""
    assert folder.parent == default_cache_dir()
    assert find_damage(folder) is None
    before = Path(folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("smollm2-135m", cache_dir=None, progress=lambda *_: None) == folder
    assert Path(folder / "model.safetensors").stat().st_mtime_ns == before


def test_it_answers(model: LoadedModel) -> None:
    """Weights, template and end token are the right ones."""
    driver = Driver(model, FCFS(), token_budget=64)
    driver.submit(1, ask(model, "What is the capital of France?"), 8)
    driver.run()
    driver.close()
    assert driver.outputs[1][-1] in model.tokenizer.end_ids
    assert "Paris" in model.tokenizer.decode(driver.outputs[1])


def test_greedy_tokens_equal_generate_with_and_without_preemption(
    model: LoadedModel, folder: Path
) -> None:
    """In float32, in a mixed batch under memory pressure."""
    questions = ["Name three colours.", "Why is the sky blue?", "Count to five."]
    prompts = {n: ask(model, question) for n, question in enumerate(questions)}
    policy = PLAS(ladder=Ladder.geometric(0.004, 2.0, 4), beta=None)
    driver = Driver(model, policy, slots=2, token_budget=24, device_blocks=36)
    for n, ids in prompts.items():
        driver.submit(n, ids, 12)
    driver.run()
    driver.close()
    assert sum(sum(r.preemptions.values()) for r in driver.reports.values()) > 0
    for n, ids in prompts.items():
        end = model.tokenizer.end_ids
        expected = reference(folder, ids, 12)
        length = next((i + 1 for i, t in enumerate(expected) if t in end), 12)
        assert driver.outputs[n][:length] == expected[:length]


def test_bfloat16_answers_too(folder: Path) -> None:
    """With packed weights, where the CPU has them."""
    model = load(folder, dtype=torch.bfloat16, progress=lambda *_: None)
    driver = Driver(model, FCFS(), token_budget=64)
    ids = ask(model, "What is the capital of France?")
    sampling = Sampling(temperature=0.2, seed=3)
    driver.submit(1, ids, 12, sampling=sampling)
    driver.run()
    driver.close()
    assert "Paris" in model.tokenizer.decode(driver.outputs[1])
