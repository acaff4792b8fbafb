"""Saturation is what a full engine can just do, and no policy can do more."""

import attrs
import pytest

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.cost_model import CostModel
from autellix.testing import run_virtual
from autellix.workloads.arrivals import AllAtOnce
from autellix.workloads.replay import Replay
from autellix.workloads.saturation import (
    full_batch_calls,
    offered_ns,
    saturation_per_s,
)
from autellix.workloads.trace import TraceCall, TraceProgram

COSTS = CostModel(
    step_ns=8_000, prefill_ns=100, decode_ns=10, context_ns=1, pair_ps=2_000
)
FIRST = TraceCall(parents=[], prompt_tokens=20, output_tokens=3)
NEXT = TraceCall(
    parents=[0], prompt_tokens=30, output_tokens=1, prefix_call=0, new_prompt_tokens=10
)


def _program(*calls: TraceCall, **fields: str | int) -> TraceProgram:
    about = {"program_id": "p", "program_class": "c", "source": "s", "tokenizer": "t"}
    return TraceProgram(**{**about, **fields}, calls=calls)  # type: ignore[arg-type]


def test_offered_work_is_prefill_decode_and_a_share_of_the_steps() -> None:
    """Two decoded tokens read 21 and 22 tokens; the batch shares the fixed time."""
    prefill_ns = 20 * 100 + 210 * 2
    decode_ns = 2 * 10 + 21 + 22
    offered = offered_ns(_program(FIRST), COSTS, batch=4)
    assert offered == prefill_ns + decode_ns + 3 * 2_000


def test_what_is_cached_is_not_computed() -> None:
    """Only the new tokens of a prompt count, but they attend to all before them."""
    both = offered_ns(_program(FIRST, NEXT), COSTS, batch=4)
    prefill_ns = 10 * 100 + (10 * 20 + 55) * 2
    assert both - offered_ns(_program(FIRST), COSTS, batch=4) == prefill_ns + 2_000
    uncached = offered_ns(_program(FIRST, NEXT), COSTS, batch=4, caches_prefixes=False)
    assert uncached - both == 20 * 100 + 210 * 2


def test_the_tokens_of_a_group_are_never_computed() -> None:
    """All but one of the prompt, if the group is all of it."""
    program = _program(FIRST, prefix_group="g", group_prefix_tokens=20)
    saved = offered_ns(_program(FIRST), COSTS, batch=1) - offered_ns(
        program, COSTS, batch=1
    )
    assert saved == 19 * 100 + 190 * 2


def test_memory_bounds_the_batch() -> None:
    """A call holds its prompt and half its output on average."""
    program = _program(attrs.evolve(FIRST, output_tokens=20))
    assert full_batch_calls([program], slots=64) == 64
    assert full_batch_calls([program], slots=64, kv_tokens=300) == 10
    assert full_batch_calls([program], slots=8, kv_tokens=300) == 8
    assert full_batch_calls([program], slots=8, kv_tokens=10) == 1


def test_siblings_hold_once_what_they_share() -> None:
    """Four samples of one prompt need its room once."""
    first = attrs.evolve(
        FIRST, prompt_tokens=400, new_prompt_tokens=400, output_tokens=1
    )
    sample = TraceCall(
        parents=[0],
        prompt_tokens=400,
        output_tokens=100,
        prefix_call=0,
        new_prompt_tokens=0,
    )
    programs = [_program(first, *[sample] * 4)]
    # A sample holds a quarter of 400 and half of 100; without sharing 450.
    assert full_batch_calls(programs, slots=64, kv_tokens=3_100) == 20
    alone = full_batch_calls(programs, slots=64, kv_tokens=3_100, caches_prefixes=False)
    assert alone == 6


def test_saturation_is_the_rate_of_a_full_engine() -> None:
    """A long queue is worked off at that rate, within the cost of filling and ends."""
    costs = CostModel(step_ns=10_000_000, prefill_ns=100_000, decode_ns=50_000)
    first = TraceCall(parents=[], prompt_tokens=200, output_tokens=40)
    following = TraceCall(
        parents=[0],
        prompt_tokens=280,
        output_tokens=40,
        prefix_call=0,
        new_prompt_tokens=40,
    )
    programs = [
        attrs.evolve(_program(first, following), program_id=f"{n}") for n in range(200)
    ]
    engine = SimulatedEngine(costs=costs, slots=8, kv_tokens=8_000, host_tokens=80_000)

    async def main() -> float:
        async with AutellixRuntime(engines=[engine]) as runtime:
            ended = await Replay().run_all(runtime, programs, AllAtOnce(), limit=16)
        return max(program.ended_s for program in ended)

    rate_per_s = len(programs) / run_virtual(main)
    saturation = saturation_per_s(programs, costs, slots=8)
    assert 0.9 * saturation < rate_per_s < saturation


def test_what_has_no_saturation_is_refused() -> None:
    """No programs, or an engine without time."""
    free = CostModel(step_ns=0, prefill_ns=0, decode_ns=0)
    with pytest.raises(ValueError, match="takes no time"):
        saturation_per_s([_program(FIRST)], free, slots=1)
    with pytest.raises(ValueError, match="at least one program"):
        saturation_per_s([], COSTS, slots=1)
