"""What our half costs in vLLM: a step of the scheduler, throughput, start.

    python -m benchmarks.vllm_overhead [--pairs N] [--smollm2]

Scheduler: a step at 128 running and 1,000 waiting calls, its own thread time, with
tokens made up instead of a model; stock and steered schedulers in turn. ``schedule`` is
that method alone, ``step`` adds the booking of what came back. Throughput: 32 greedy
calls of equal length, tokens per CPU-second of the process, plain ``LLMEngine`` and our
engine in turn. Start: entering an engine of a tiny model once vLLM is imported.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.torch.weights import resolve
from autellix.backends.vllm import VllmEngine, VllmOptions
from autellix.backends.vllm.engine_args import engine_args
from autellix.backends.vllm.environment import prepare
from autellix.backends.vllm.preemption import DEFAULT_COSTS
from autellix.backends.vllm.steer import Steer
from autellix.backends.vllm.wire import CallTicket
from autellix.core.records import CallSpec, Job
from autellix.policies import PLAS
from autellix.testing.engine_bench import serving

RUNNING, WAITING = 128, 1_000
STEPS = 60
BATCH, TOKENS = 32, 64
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}


def spec(number: int, prompt_tokens: int, max_tokens: int) -> CallSpec:
    """Return a call of a program of its own."""
    return CallSpec(
        call_id=number,
        program_id=number,
        job=Job(program_class="bench", program_arrival=number),
        inherited_ns=0,
        prompt=[1 + number % 900] * prompt_tokens,
        max_tokens=max_tokens,
    )


def llm(options: VllmOptions, *, is_steered: bool) -> Any:
    """Return an ``LLMEngine`` with our scheduler or vLLM's own."""
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs  # noqa: PLC0415 - only where it is there
    from vllm.v1.engine.llm_engine import LLMEngine  # noqa: PLC0415 - only where it is there

    folder = resolve(options.model, cache_dir=None, progress=lambda *_: None)
    settings = engine_args(options, folder, AsyncEngineArgs, is_cpu=True)
    if not is_steered:
        for name in ("scheduler_cls", "scheduling_policy", "additional_config"):
            del settings[name]
    return LLMEngine.from_engine_args(EngineArgs(**settings))


def scheduler_with_load(folder: Path, *, is_steered: bool) -> Any:
    """Return a scheduler whose slots are full and whose queue is long."""
    from vllm import SamplingParams  # noqa: PLC0415 - only where it is there

    options = VllmOptions(
        model=str(folder),
        slots=RUNNING,
        kv_mib=64,
        token_budget=4096,
        dtype="float32",
        engine_args={"load_format": "dummy"},
    )
    engine = llm(options, is_steered=is_steered)
    scheduler = engine.engine_core.engine_core.scheduler
    if is_steered:
        policy, step_ns = PLAS(), DEFAULT_COSTS.single_step_ns()
        ranking = policy.ranking(step_ns)
        scheduler.steer(Steer(policy=policy, ranking=ranking, costs=DEFAULT_COSTS))
    for number in range(RUNNING + WAITING):
        call = spec(number, 8, 1_500)
        ticket = CallTicket.of(call, 0)
        params = SamplingParams(
            max_tokens=1_500,
            ignore_eos=True,
            detokenize=False,
            extra_args=ticket.extra_args(),
        )
        prompt = {"prompt_token_ids": list(call.prompt)}
        engine.add_request(str(number), prompt, params)
    return engine, scheduler


def step_ms(scheduler: Any) -> tuple[float, float]:
    """Return the milliseconds of thread time of ``schedule`` and of a whole step."""
    from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415 - only where it is there

    times = []
    for _ in range(STEPS):
        started_ns = time.thread_time_ns()
        output = scheduler.schedule()
        scheduled_ns = time.thread_time_ns()
        ids = list(output.num_scheduled_tokens)
        made = ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={name: n for n, name in enumerate(ids)},
            sampled_token_ids=[[7] for _ in ids],
        )
        made_ns = time.thread_time_ns()
        scheduler.update_from_output(output, made)
        ended_ns = time.thread_time_ns()
        schedule_ns = scheduled_ns - started_ns
        times.append((schedule_ns / 1e6, (schedule_ns + ended_ns - made_ns) / 1e6))
    return (
        statistics.median(time[0] for time in times),
        statistics.median(time[1] for time in times),
    )


def plain_tokens_per_cpu_s(engine: Any) -> float:
    """Return the throughput of vLLM by itself."""
    from vllm import SamplingParams  # noqa: PLC0415 - only where it is there
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - only where it is there

    started_s = time.process_time()
    for number in range(BATCH):
        params = SamplingParams(
            temperature=0.0,
            max_tokens=TOKENS,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": list(spec(number, 16, TOKENS).prompt)}
        engine.add_request(str(number), prompt, params)
    while engine.has_unfinished_requests():
        engine.step()
    return BATCH * TOKENS / (time.process_time() - started_s)


async def throughput(
    options: VllmOptions, pairs: int, tell: Callable[[float, float], None]
) -> None:
    """Measure our engine and plain vLLM in turn, in one process."""
    async with serving(VllmEngine(options), PLAS()) as bench:
        plain = llm(options, is_steered=False)
        number = 0
        for pair in range(pairs + 1):
            theirs = plain_tokens_per_cpu_s(plain)
            calls = [
                EngineCall(spec=spec(n, 16, TOKENS), sampling=Sampling(ignore_end=True))
                for n in range(number, number + BATCH)
            ]
            number += BATCH
            started_s = time.process_time()
            await bench.answers(calls)
            ours = BATCH * TOKENS / (time.process_time() - started_s)
            if pair:  # the first warms up
                tell(ours, theirs)


async def start_s(folder: Path) -> tuple[float, float, float, float]:
    """Return wall and CPU seconds of entering a first and a second engine."""
    settings: dict[str, Any] = {"slots": 8, "kv_mib": 8, "dtype": "float32"}
    settings["engine_args"] = {"load_format": "dummy"}
    times = []
    async with VllmEngine.of(folder, name="warm", **settings):
        pass  # what is imported late is imported now
    for _ in range(1):
        wall_s, cpu_s = time.monotonic(), time.process_time()
        async with VllmEngine.of(folder, name="first", **settings):
            times += [time.monotonic() - wall_s, time.process_time() - cpu_s]
            wall_s, cpu_s = time.monotonic(), time.process_time()
            async with VllmEngine.of(folder, name="second", **settings):
                times += [time.monotonic() - wall_s, time.process_time() - cpu_s]
    return times[0], times[1], times[2], times[3]


def interval(values: Sequence[float]) -> str:
    """Return mean and 95 % interval as text."""
    middle = statistics.fmean(values)
    if len(values) < 2:
        return f"{middle:.3f}"
    factor = T_95.get(len(values), 2.26) / math.sqrt(len(values))
    wide = factor * statistics.stdev(values)
    return f"{middle:.3f}  [{middle - wide:.3f}, {middle + wide:.3f}]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--smollm2", action="store_true", help="throughput of it too")
    arguments = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "config.json").write_text(json.dumps(TINY))
        first, first_cpu, second, second_cpu = anyio.run(start_s, folder)
        print(
            f"start of an engine, tiny: {first:.2f} s ({first_cpu:.2f} s CPU); "
            f"of a second: {second:.2f} s ({second_cpu:.2f} s CPU)",
            flush=True,
        )
        schedulers(folder, arguments.pairs)
        tiny = VllmOptions(
            model=str(folder),
            slots=BATCH,
            kv_mib=32,
            dtype="float32",
            engine_args={"load_format": "dummy"},
        )
        ratios("tiny", tiny, arguments.pairs)
    if arguments.smollm2:
        model = VllmOptions(slots=BATCH, kv_mib=256, max_context_tokens=512)
        ratios("smollm2-135m", model, arguments.pairs)


def schedulers(folder: Path, pairs: int) -> None:
    """Measure and print the step of the scheduler."""
    stock_engine, stock = scheduler_with_load(folder, is_steered=False)
    our_engine, ours = scheduler_with_load(folder, is_steered=True)
    rows = [(step_ms(stock), step_ms(ours)) for _ in range(pairs + 1)]
    more = [(mine[0] - his[0], mine[1] - his[1]) for his, mine in rows[1:]]
    his_ms = statistics.fmean(his[0] for his, _ in rows[1:])
    print(f"stock schedule(): {his_ms:.3f} ms")
    print("ours more, schedule(), ms:", interval([row[0] for row in more]))
    print("ours more, whole step, ms:", interval([row[1] for row in more]), flush=True)
    del stock_engine, our_engine


def ratios(name: str, options: VllmOptions, pairs: int) -> None:
    """Measure and print the throughput."""
    found: list[float] = []

    def tell(ours: float, theirs: float) -> None:
        found.append(ours / theirs)
        print(f"  {name}: {ours:.0f} against {theirs:.0f} tokens/CPU-s", flush=True)

    anyio.run(throughput, options, pairs, tell)
    print(f"throughput, {name}, ours / plain:", interval(found), flush=True)


if __name__ == "__main__":
    main()
