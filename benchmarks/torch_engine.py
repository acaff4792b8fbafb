"""The torch engine against transformers' continuous batching, and its preemptions.

One thread, bfloat16, CPU seconds of this process, the two sides in turns step by step,
so that other work on the machine meets both; ratios are medians over pairs of steps.
Prompts are random tokens, the same for both sides; at long context they are one prompt,
so that prefix sharing spares either side its prefill.

    python benchmarks/torch_engine.py [--rounds 3] [--model smollm2-135m] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import attrs
import torch
import transformers

from autellix.backends.protocol import Sampling
from autellix.backends.torch.model import LoadedModel, load
from autellix.backends.torch.runner import ModelRunner
from autellix.backends.torch.weights import resolve
from autellix.core.cost_model import CostModel
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.plan import Plan, Sampled
from autellix.core.records import CallSpec, Job
from autellix.core.step_scheduler import StepScheduler
from autellix.policies import FCFS

BLOCK_TOKENS = 16
PAGE_TOKENS = 64
BUDGET_TOKENS = 512
KV_TOKENS = 32_768
DECODE_STEPS = 24
COSTS = CostModel(step_ns=50_000_000, prefill_ns=1_000_000, decode_ns=2_000_000)


@attrs.frozen(kw_only=True)
class Case:
    """A batch of equal calls.

    Attributes:
        name: In the table.
        calls: Size of the batch.
        prompt_tokens: Of each call.
        is_shared: Whether all have the same prompt.
        must_reach: Least ratio of their time to ours.
    """

    name: str
    calls: int
    prompt_tokens: int
    is_shared: bool
    must_reach: float

    def prompts(self) -> list[list[int]]:
        """Return the prompts, the same in every round."""
        draw = random.Random(self.calls * 1000 + self.prompt_tokens)
        count = 1 if self.is_shared else self.calls
        made = [
            [draw.randrange(100, 40_000) for _ in range(self.prompt_tokens)]
            for _ in range(count)
        ]
        return made * (self.calls // count)


def decode(calls: int, prompt_tokens: int, must_reach: float) -> Case:
    """Return a case of decoding; long prompts are shared."""
    return Case(
        name=f"decode, batch {calls}, {prompt_tokens} tokens of context",
        calls=calls,
        prompt_tokens=prompt_tokens,
        is_shared=prompt_tokens > PAGE_TOKENS,
        must_reach=must_reach,
    )


DECODES = (decode(8, 64, 1.5), decode(32, 64, 1.5), decode(32, 448, 3.0))
FIRST_TOKEN = Case(
    name="first token of a 512-token prompt",
    calls=1,
    prompt_tokens=512,
    is_shared=False,
    must_reach=1.0,
)

Steps = Iterator[tuple[float, int]]
"""CPU seconds of each step, and the calls that got a token in it."""


class Ours:
    """Step scheduler and model runner, as the engine's loop drives them."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Steps:
        """Serve the prompts.

        Yields:
            What each step took.
        """
        shape = self._model.kv_shape(BLOCK_TOKENS)
        runner = ModelRunner(self._model.network, shape, host_blocks=0)
        scheduler = StepScheduler(
            limits=StepLimits(slots=len(prompts), token_budget=BUDGET_TOKENS),
            blocks=KVBlocks(
                device_blocks=KV_TOKENS // BLOCK_TOKENS,
                host_blocks=0,
                block_tokens=BLOCK_TOKENS,
                shares_blocks=False,
            ),
            policy=FCFS(),
            ranking=FCFS().ranking(1),
            costs=COSTS,
        )
        for number, prompt in enumerate(prompts):
            scheduler.submit(make_spec(number, prompt, max_tokens), 0)
        sampling = {number: Sampling() for number in range(len(prompts))}
        while scheduler.has_work:
            started = process_time()
            plan = scheduler.plan(0)
            step = runner.step(plan, sampling)
            samples = {call: Sampled(s.token) for call, s in step.samples.items()}
            scheduler.commit(plan, samples, forward_at_ns=0, ended_ns=0)
            scheduler.take_facts()
            yield process_time() - started, len(samples)
        runner.close()


class Theirs:
    """transformers' continuous batching, stepped by hand in this thread."""

    def __init__(self, folder: Path) -> None:
        auto: Any = transformers.AutoModelForCausalLM
        self._network = auto.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="sdpa"
        )

    @torch.inference_mode()
    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Steps:
        """Serve the prompts.

        Yields:
            What each step took.
        """
        settings: Any = transformers.GenerationConfig
        manager = self._network.init_continuous_batching(
            generation_config=settings(
                do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=KV_TOKENS // PAGE_TOKENS,
                max_batch_tokens=BUDGET_TOKENS,
                use_async_batching=False,
                use_cuda_graph=False,
            ),
        )
        # Its own thread would run these three; there is no public way to step it.
        processor = manager._create_batch_processor()  # noqa: SLF001
        manager.batch_processor = processor
        produced: dict[str, int] = {}
        for number, prompt in enumerate(prompts):
            name = manager.add_request(
                list(prompt),
                request_id=f"r{number}",
                max_new_tokens=max_tokens,
                streaming=True,
            )
            produced[name] = 0
        while sum(produced.values()) < len(prompts) * max_tokens:
            started = process_time()
            processor.prepare_next_batch()
            manager._generation_step()  # noqa: SLF001
            processor.update_batch()
            spent = process_time() - started
            yield spent, sum(1 for _ in new_tokens(manager, produced))
        self._network.set_attn_implementation("sdpa")


def new_tokens(manager: Any, produced: dict[str, int]) -> Iterator[str]:
    """Take the results that are there.

    Yields:
        The call of each that has a token more.
    """
    while (result := manager.get_result(timeout=0.001)) is not None:
        if len(result.generated_tokens) > produced[result.request_id]:
            produced[result.request_id] = len(result.generated_tokens)
            yield result.request_id


def make_spec(number: int, prompt: Sequence[int], max_tokens: int) -> CallSpec:
    """Return a call of a program of its own."""
    return CallSpec(
        call_id=number,
        program_id=number,
        job=Job(program_class="benchmark", program_arrival=number),
        inherited_ns=0,
        prompt=prompt,
        max_tokens=max_tokens,
    )


def decode_pairs(ours: Steps, theirs: Steps, calls: int) -> list[tuple[float, float]]:
    """Return the times of steps in which every call decodes, taken in turns."""
    for steps in (ours, theirs):
        while next(steps)[1] < calls:
            pass  # still prefilling
    pairs = []
    for _ in range(DECODE_STEPS):
        (ours_s, ours_tokens), (theirs_s, theirs_tokens) = next(ours), next(theirs)
        if ours_tokens == theirs_tokens == calls:
            pairs.append((ours_s, theirs_s))
    assert len(pairs) >= DECODE_STEPS // 2, "too few steps with all calls in them"
    return pairs


def first_token_s(steps: Steps) -> float:
    """Return the time until the first token."""
    spent = 0.0
    for step_s, tokens in steps:
        spent += step_s
        if tokens:
            break
    return spent


def preemptions_ms(model: LoadedModel, tokens: int) -> dict[str, float]:
    """Return what each kind of preemption of a call of ``tokens`` costs."""
    blocks = tokens // BLOCK_TOKENS
    shape = model.kv_shape(BLOCK_TOKENS)
    runner = ModelRunner(model.network, shape, host_blocks=blocks)
    scheduler = StepScheduler(
        limits=StepLimits(slots=1, token_budget=tokens),
        blocks=KVBlocks(
            device_blocks=blocks + 1,
            host_blocks=0,
            block_tokens=BLOCK_TOKENS,
            shares_blocks=False,
        ),
        policy=FCFS(),
        ranking=FCFS().ranking(1),
        costs=COSTS,
    )
    scheduler.submit(make_spec(0, [1] * tokens, 1), 0)
    plan = scheduler.plan(0)
    ids = plan.calls[0][0].lease.blocks[:blocks]
    out = Plan(at_ns=0, calls=[], to_host=list(zip(ids, range(blocks), strict=True)))
    back = Plan(at_ns=0, calls=[], to_device=list(zip(range(blocks), ids, strict=True)))
    sampling = {0: Sampling()}
    return {
        "recompute": min(timed(lambda: runner.step(plan, sampling)) for _ in range(4)),
        "swap out": min(timed(lambda: runner.step(out, {})) for _ in range(9)),
        "swap in": min(timed(lambda: runner.step(back, {})) for _ in range(9)),
        "pause": min(timed(lambda: runner.step(NOTHING, {})) for _ in range(9)),
    }


NOTHING = Plan(at_ns=0, calls=[])


def timed(work: Callable[[], object]) -> float:
    """Return the CPU milliseconds that ``work`` takes."""
    started = process_time()
    work()
    return (process_time() - started) * 1e3


def compare(
    ours: Ours, theirs: Theirs, rounds: int
) -> Iterator[tuple[Case, list[tuple[float, float]]]]:
    """Run every case on both sides in turns.

    Yields:
        Each case with pairs of times, seconds: ours, theirs.
    """
    for case in DECODES:
        prompts, pairs = case.prompts(), []
        for _ in range(rounds):
            ours_steps = ours.run(prompts, DECODE_STEPS * 2)
            theirs_steps = theirs.run(prompts, DECODE_STEPS * 2)
            pairs += decode_pairs(ours_steps, theirs_steps, case.calls)
        yield case, pairs
    prompts = FIRST_TOKEN.prompts()
    yield (
        FIRST_TOKEN,
        [
            (first_token_s(ours.run(prompts, 2)), first_token_s(theirs.run(prompts, 2)))
            for _ in range(rounds * 3)
        ],
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = resolve(arguments.model, cache_dir=None, progress=lambda *_: None)
    model = load(folder, dtype=torch.bfloat16, progress=lambda *_: None)
    rows = []
    print(f"{'CPU milliseconds':44} {'ours':>8} {'theirs':>8} {'ratio':>6} {'must':>5}")
    for case, pairs in compare(Ours(model), Theirs(folder), arguments.rounds):
        ours_s = median(ours_s for ours_s, _ in pairs)
        theirs_s = median(theirs_s for _, theirs_s in pairs)
        ratio = median(theirs_s / ours_s for ours_s, theirs_s in pairs)
        rows.append(
            {**attrs.asdict(case), "ours_s": ours_s, "theirs_s": theirs_s}
            | {"ratio": ratio, "pairs": len(pairs)}
        )
        print(
            f"{case.name:44} {ours_s * 1e3:8.1f} {theirs_s * 1e3:8.1f} "
            f"{ratio:6.2f} {case.must_reach:5.1f}",
            flush=True,
        )
    print("\npreemption of a call of 512 tokens, CPU milliseconds")
    kinds = preemptions_ms(model, 512)
    for kind, spent_ms in kinds.items():
        share = kinds["recompute"] / spent_ms
        print(f"{kind:44} {spent_ms:8.3f}   1/{share:,.0f} of recompute")
    if arguments.json:
        arguments.json.write_text(json.dumps({"cases": rows, "preemptions_ms": kinds}))


if __name__ == "__main__":
    main()
