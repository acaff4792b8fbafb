"""Greedy tokens in float32 against ``transformers``' own ``generate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autellix.backends.torch.architectures import ARCHITECTURES
from autellix.policies import FCFS
from tests.backends.torch.tiny import Driver, load_tiny, prompt, reference


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_equal_generate_alone_and_in_a_mixed_batch(
    architecture: str, folder_of: Callable[[str], Path]
) -> None:
    """What shares the batch, and in which chunks a prompt is read, changes nothing."""
    folder = folder_of(architecture)
    prompts = {1: prompt(1, 23), 2: prompt(2, 5), 3: prompt(3, 41), 4: prompt(4, 1)}
    expected = {call: reference(folder, ids, 12) for call, ids in prompts.items()}
    assert len({token for ids in expected.values() for token in ids}) > 12

    model = load_tiny(folder)
    for call, ids in prompts.items():
        alone = Driver(model, FCFS(), token_budget=64)
        alone.submit(call, ids, 12)
        alone.run()
        assert alone.outputs[call] == expected[call]
        alone.close()

    mixed = Driver(model, FCFS(), token_budget=7)

    def arrive(step: int) -> None:
        if step in prompts:
            mixed.submit(step, prompts[step], 12)

    mixed.submit(1, prompts.pop(1), 12)
    mixed.run(arrive)
    assert mixed.outputs == expected
    assert any({n for _, n in plan.calls} > {1} for plan in mixed.plans)
    mixed.close()
