"""Preemption and prefix hits do not change a token; freed memory is NaN meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autellix.backends.protocol import Sampling
from autellix.core.records import PreemptionKind
from autellix.policies import FCFS, MLFQ, PLAS, Ladder
from tests.backends.torch.tiny import Driver, prompt, reference

if TYPE_CHECKING:
    from autellix.backends.torch.model import LoadedModel

SHORT_QUANTA = Ladder.geometric(0.004, 2.0, 4)  # the first level lasts four steps
FORCED: Mapping[PreemptionKind, Mapping[str, Any]] = {
    PreemptionKind.PAUSE: {"slots": 1},
    PreemptionKind.SWAP: {"device_blocks": 12},
    PreemptionKind.DROP: {"device_blocks": 12, "host_blocks": 0},
}
SAMPLINGS = {
    "greedy": Sampling(),
    "seeded": Sampling(temperature=0.9, top_p=0.95, seed=11),
    "top-k": Sampling(temperature=1.3, top_k=40, seed=5),
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("kind", FORCED)
def test_a_preempted_call_goes_on_as_if_nothing_had_happened(
    kind: PreemptionKind, sampling: str, llama: LoadedModel
) -> None:
    """Rule S8: tokens are neither lost nor repeated, drawn ones included."""
    ids, how = prompt(1, 21), SAMPLINGS[sampling]
    calm = Driver(llama, FCFS())
    calm.submit(1, ids, 20, sampling=how)
    calm.run()
    calm.close()

    driver = Driver(llama, PLAS(ladder=SHORT_QUANTA, beta=None), **FORCED[kind])
    driver.submit(1, ids, 20, sampling=how)

    def interrupt(step: int) -> None:
        if step in {8, 16}:
            driver.submit(step, prompt(step, 29), 3)

    driver.run(interrupt)
    driver.close()

    assert driver.reports[1].preemptions.keys() == {kind}
    assert driver.reports[1].preemptions[kind] >= 2
    assert driver.outputs[1] == calm.outputs[1]


def test_a_prefix_hit_on_the_engine_gives_the_same_tokens(
    llama: LoadedModel, llama_folder: Path
) -> None:
    """What was found again does not enter the model a second time."""
    ids = prompt(1, 33)
    driver = Driver(llama, FCFS())
    driver.submit(1, ids, 8)
    driver.run()
    again = [*ids, *driver.outputs[1], *prompt(9, 5)]
    driver.submit(2, again, 8)
    driver.submit(3, again, 8)  # side by side: both copy from the first
    driver.run()
    driver.close()
    for call in (2, 3):
        assert driver.reports[call].cached_device_tokens == 40
        assert driver.outputs[call] == reference(llama_folder, again, 8)


def test_a_prefix_hit_in_the_host_pool_gives_the_same_tokens(
    llama: LoadedModel, llama_folder: Path
) -> None:
    """Blocks evicted from the engine come back from the host tier (rule K5)."""
    ids = prompt(1, 33)
    driver = Driver(llama, FCFS(), device_blocks=12, token_budget=64)
    driver.submit(1, ids, 8)
    driver.run()
    driver.submit(2, prompt(2, 40), 4)  # takes the whole engine
    driver.run()
    again = [*ids, *driver.outputs[1], *prompt(9, 3)]
    driver.submit(3, again, 4)
    driver.run()
    driver.close()
    report = driver.reports[3]
    assert report.cached_host_tokens >= 32
    assert report.cached_host_tokens + report.cached_device_tokens == 40
    assert driver.outputs[3] == reference(llama_folder, again, 4)


def test_only_tokens_that_were_not_cached_enter_the_model(llama: LoadedModel) -> None:
    """Counted at the embeddings: prompt less cached, plus all output but the last."""
    driver = Driver(llama, FCFS(), token_budget=5)
    ids = prompt(1, 30)
    for call, tokens in ((1, 30), (2, 22), (3, 9)):
        driver.submit(call, ids[:tokens], 6)
        driver.run()
    driver.close()
    expected = 0
    for report in driver.reports.values():
        cached = report.cached_device_tokens + report.cached_host_tokens
        expected += report.prompt_tokens - cached + report.output_tokens - 1
    assert driver.runner.model_tokens == expected
    assert sum(r.cached_device_tokens for r in driver.reports.values()) == 20 + 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("host_blocks", [0, 24, 200])
def test_many_calls_under_pressure_equal_generate(
    seed: int, host_blocks: int, llama: LoadedModel, llama_folder: Path
) -> None:
    """Whatever mixture of hits, swaps, drops and pauses a small pool makes of it."""
    draw = random.Random(seed)
    driver = Driver(
        llama,
        MLFQ(ladder=SHORT_QUANTA, beta=None),
        slots=3,
        token_budget=9,
        device_blocks=24,
        host_blocks=host_blocks,
    )
    starts = [prompt(seed, 24), prompt(seed + 100, 24)]
    prompts: dict[int, list[int]] = {}

    def arrive(step: int) -> None:
        if step % 3 == 0 and len(prompts) < 12:
            call = len(prompts)
            start = draw.choice(starts)[: draw.randrange(1, 25)]
            prompts[call] = start + prompt(1000 + call, draw.randrange(1, 25))
            driver.submit(call, prompts[call], 14)

    arrive(0)
    driver.run(arrive)
    driver.close()
    for call, ids in prompts.items():
        assert driver.outputs[call] == reference(llama_folder, ids, 14), call
    kinds: Counter[PreemptionKind] = Counter()
    for report in driver.reports.values():
        kinds.update(report.preemptions)
    assert kinds[PreemptionKind.DROP if host_blocks == 0 else PreemptionKind.SWAP]
    assert driver.runner.extents.allocated_blocks <= 2 * 24 + 3 * 4
