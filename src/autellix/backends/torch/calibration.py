"""Measures what steps and transfers cost on this machine, with this model.

A few steps of known shape, the fastest of a few runs each, solved for the terms of the
cost model. It takes about two seconds for a model of 135 million parameters and a
fraction of one for a tiny model.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import attrs
import torch

from autellix.backends.protocol import Sampling
from autellix.backends.torch.runner import ModelRunner
from autellix.core.call import Call
from autellix.core.cost_model import CostModel, attended_pairs
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Lease
from autellix.core.records import CallSpec, Job

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from autellix.backends.torch.extents import KVShape

_BATCH = 8
_SHORT_TOKENS = 16
_LONG_TOKENS = 512
_CHUNK_TOKENS = 64
_PREFILL_TOKENS = 256
_FEW_BLOCKS, _MANY_BLOCKS = 4, 32
_RUNS = 3
_ENOUGH_NS = 250_000_000  # a shape that takes so long needs no further runs


def measure(network: PreTrainedModel, shape: KVShape, *, slots: int) -> CostModel:
    """Return the cost model of ``network`` on this thread.

    Args:
        network: The model.
        shape: Of its KV.
        slots: Calls that share the fixed time of a step.
    """
    bench = _Bench(network, shape)
    bench.steps(1, _SHORT_TOKENS, 1)  # the first step of a process is slow
    alone_ns = bench.steps(1, _SHORT_TOKENS, 1)
    batch_ns = bench.steps(_BATCH, _SHORT_TOKENS, 1)
    long_ns = bench.steps(_BATCH, _LONG_TOKENS, 1)
    chunk_ns = bench.steps(1, 0, _CHUNK_TOKENS)
    late_chunk_ns = bench.steps(1, _LONG_TOKENS, _CHUNK_TOKENS)
    prefill_ns = bench.steps(1, 0, _PREFILL_TOKENS)
    few_ns, many_ns = bench.transfer(_FEW_BLOCKS), bench.transfer(_MANY_BLOCKS)
    bench.close()

    decode = max(0, batch_ns - alone_ns) // (_BATCH - 1)
    step = max(0, alone_ns - decode)
    context_tokens = _BATCH * (_LONG_TOKENS - _SHORT_TOKENS)
    pair_ps = max(0, late_chunk_ns - chunk_ns) * 1000 // (_LONG_TOKENS * _CHUNK_TOKENS)
    pairs_ns = attended_pairs(0, _PREFILL_TOKENS) * pair_ps // 1000
    block_transfer = max(0, many_ns - few_ns) // (_MANY_BLOCKS - _FEW_BLOCKS)
    return CostModel(
        step_ns=step,
        prefill_ns=max(1, (prefill_ns - step - pairs_ns) // _PREFILL_TOKENS),
        decode_ns=decode,
        context_ns=max(0, long_ns - batch_ns) // context_tokens,
        pair_ps=pair_ps,
        transfer_ns=max(0, few_ns - _FEW_BLOCKS * block_transfer),
        block_transfer_ns=block_transfer,
        nominal_batch=slots,
    )


class _Bench:
    """Runs steps of made-up calls on blocks of its own."""

    def __init__(self, network: PreTrainedModel, shape: KVShape) -> None:
        self._shape = shape
        self._runner = ModelRunner(network, shape, host_blocks=_MANY_BLOCKS)
        self._calls = 0
        self._blocks = 0

    def close(self) -> None:
        """Leave the model as it was."""
        self._runner.close()

    def steps(self, calls: int, position: int, tokens: int) -> int:
        """Return the time of a step of ``tokens`` for each call, nanoseconds."""
        plan = self._plan(calls, position, tokens)
        sampling = {call.call_id: Sampling() for call, _ in plan.calls}
        fastest = spent = self._runner.step(plan, sampling).forward_ns
        for _ in range(_RUNS - 1):
            if spent > _ENOUGH_NS:
                break
            taken = self._runner.step(plan, sampling).forward_ns
            fastest, spent = min(fastest, taken), spent + taken
        return fastest

    def transfer(self, blocks: int) -> int:
        """Return the time of a transfer to the host pool and back, halved."""
        plan = self._plan(1, 0, blocks * self._shape.block_tokens)
        ids = plan.calls[0][0].lease.blocks
        out = Plan(
            at_ns=0, calls=[], to_host=list(zip(ids, range(blocks), strict=True))
        )
        back = Plan(
            at_ns=0, calls=[], to_device=list(zip(range(blocks), ids, strict=True))
        )
        times = []
        for _ in range(_RUNS):
            started = perf_counter_ns()
            self._runner.step(out, {})
            self._runner.step(back, {})
            times.append((perf_counter_ns() - started) // 2)
        return min(times)

    @torch.inference_mode()
    def _plan(self, calls: int, position: int, tokens: int) -> Plan:
        """Return a step of new calls, whose KV is there, in blocks of the last ones."""
        released = range(self._calls - _BATCH, self._calls)
        self._blocks = 0
        made = [self._call(position, tokens) for _ in range(calls)]
        plan = Plan(at_ns=0, calls=[(call, tokens) for call in made])
        self._runner.extents.move(attrs.evolve(plan, released=released))
        for call in made:
            self._runner.extents.of(call.call_id).kv.zero_()
        return plan

    def _call(self, position: int, tokens: int) -> Call:
        """Return a call that has ``position`` tokens computed and ``tokens`` to go."""
        end = position + tokens
        blocks = self._shape.blocks_for(end)
        ids = list(range(self._blocks, self._blocks + blocks))
        self._calls += 1
        self._blocks += blocks
        spec = CallSpec(
            call_id=self._calls - 1,
            program_id=0,
            job=Job(program_class="calibration", program_arrival=0),
            inherited_ns=0,
            prompt=[1] * end,
            max_tokens=1,
        )
        return Call(
            spec=spec,
            tokens=list(spec.prompt),
            lease=Lease(blocks=ids),
            submitted_ns=0,
            accounted_ns=0,
            computed=position,
        )
