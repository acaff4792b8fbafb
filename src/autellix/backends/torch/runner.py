"""One step on the model: copies, one packed forward pass, the tokens that are due.

Synchronous and without a clock of its own but for durations; it runs in the engine's
worker thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import torch

from autellix.backends.torch.attention import PackedBatch, Segment
from autellix.backends.torch.extents import Extents
from autellix.backends.torch.rows import Rows
from autellix.backends.torch.sampling import Draw, draw_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from autellix.backends.live_call import TokenSample
    from autellix.backends.protocol import Sampling
    from autellix.backends.torch.extents import KVShape
    from autellix.core.call import Call
    from autellix.core.plan import Plan


class Step(NamedTuple):
    """What a step gave and took.

    Attributes:
        samples: A token for each call whose last known token was computed, by call id.
        moved_ns: Time of the copies.
        forward_ns: Time of the forward pass and of drawing the tokens.
    """

    samples: Mapping[int, TokenSample]
    moved_ns: int
    forward_ns: int


class ModelRunner:
    """Executes plans on one model.

    Args:
        network: The model, loaded with ``attn_implementation=ATTENTION``.
        shape: Of its KV.
        host_blocks: Blocks of the host pool.

    Attributes:
        extents: Where the KV is.
        model_tokens: Tokens that entered the model so far, counted where they do.
    """

    def __init__(
        self, network: PreTrainedModel, shape: KVShape, *, host_blocks: int
    ) -> None:
        self.extents = Extents(shape, host_blocks=host_blocks)
        self.model_tokens = 0
        self._rows = Rows(shape)
        self._network = network
        self._salt = secrets.token_hex(8)
        embeddings = network.get_input_embeddings()
        self._counting = embeddings.register_forward_pre_hook(self._count)

    def _count(self, _: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.model_tokens += inputs[0].numel()

    def close(self) -> None:
        """Leave the model as it was."""
        self._counting.remove()

    @torch.inference_mode()
    def step(self, plan: Plan, sampling: Mapping[int, Sampling]) -> Step:
        """Make the copies of ``plan``, compute its tokens, draw what is due.

        Args:
            plan: Not changed by anybody while this runs.
            sampling: How the tokens of each of its calls are drawn, by call id.
        """
        started = perf_counter_ns()
        self.extents.move(plan)
        moved = perf_counter_ns()
        samples = self._forward(plan, sampling) if plan.calls else {}
        return Step(samples, moved - started, perf_counter_ns() - moved)

    def _forward(
        self, plan: Plan, sampling: Mapping[int, Sampling]
    ) -> Mapping[int, TokenSample]:
        rows, others = self._rows.seat(
            [
                Segment(call, self.extents.of(call.call_id), tokens)
                for call, tokens in plan.calls
            ]
        )
        token_ids: list[int] = []
        positions: list[int] = []
        due: list[Call] = []
        last: list[int] = []
        for segment in (*rows.segments, *others):
            call = segment.call
            end = call.computed + segment.tokens
            token_ids += call.tokens[call.computed : end]
            positions += range(call.computed, end)
            if end == len(call.tokens):
                due.append(call)
                last.append(len(token_ids) - 1)
        logits = self._logits(token_ids, positions, last, PackedBatch(rows, others))
        rows.store()
        draws = [self._draw(call, sampling[call.call_id]) for call in due]
        samples = draw_tokens(logits, draws) if due else []
        return {call.call_id: s for call, s in zip(due, samples, strict=True)}

    def _draw(self, call: Call, sampling: Sampling) -> Draw:
        seed = sampling.seed
        stream = f"{self._salt}:{call.call_id}" if seed is None else str(seed)
        return Draw(sampling, stream, len(call.tokens))

    def _logits(
        self,
        token_ids: list[int],
        positions: list[int],
        last: list[int],
        packed: PackedBatch,
    ) -> torch.Tensor:
        """Return logits ``[len(last), vocabulary]``, float32."""
        output = self._network(
            input_ids=torch.tensor([token_ids]),
            position_ids=torch.tensor([positions]),
            logits_to_keep=torch.tensor(last, dtype=torch.long),
            use_cache=False,
            packed=packed,
        )
        logits: torch.Tensor = output.logits
        return logits[0].float()
