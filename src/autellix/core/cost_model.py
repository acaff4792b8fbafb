"""What a step, a transfer and a recomputation cost on one engine.

One model serves the simulated engine (it *is* the engine's speed), the charge of work
(rule A2), the cost rule of preemption (S2, S7) and the balancer's threshold (B1).
All arithmetic is on integers, so that equal work gives equal nanoseconds.
"""

from __future__ import annotations

import attrs

_non_negative = attrs.validators.ge(0)


@attrs.frozen(kw_only=True)
class CostModel:
    """Linear in what a step does, quadratic where attention is.

    A step of P prefilled tokens, D decoding sequences, C tokens of context read by the
    decoders and A attended pairs of the prefill takes
    ``step_ns + P·prefill_ns + D·decode_ns + C·context_ns + A·pair_ps/1000``.

    Attributes:
        step_ns: Fixed time of a step: reading the weights, launching.
        prefill_ns: A prefilled token.
        decode_ns: A sequence that decodes one token.
        context_ns: A token of context read by a decoder.
        pair_ps: A (query, key) pair in prefill, picoseconds.
        transfer_ns: Fixed time of one packed transfer between engine and host pool.
        block_transfer_ns: A block in such a transfer.
        nominal_batch: Sequences among which the work of a decode step's fixed time is
            shared, whoever else is in the batch (rule A2).
    """

    step_ns: int = attrs.field(validator=_non_negative)
    prefill_ns: int = attrs.field(validator=_non_negative)
    decode_ns: int = attrs.field(validator=_non_negative)
    context_ns: int = attrs.field(default=0, validator=_non_negative)
    pair_ps: int = attrs.field(default=0, validator=_non_negative)
    transfer_ns: int = attrs.field(default=0, validator=_non_negative)
    block_transfer_ns: int = attrs.field(default=0, validator=_non_negative)
    nominal_batch: int = attrs.field(default=16, validator=attrs.validators.ge(1))

    def forward_ns(
        self, *, prefill_tokens: int, decoders: int, context_tokens: int, pairs: int
    ) -> int:
        """Return the time of one forward pass, nanoseconds."""
        return (
            self.step_ns
            + prefill_tokens * self.prefill_ns
            + decoders * self.decode_ns
            + context_tokens * self.context_ns
            + pairs * self.pair_ps // 1000
        )

    def single_step_ns(self) -> int:
        """Return the time of a step with one decoder and no context."""
        return self.step_ns + self.decode_ns

    def decode_work_ns(self, context_tokens: int) -> int:
        """Return the work of one decoded token that reads ``context_tokens``."""
        return (
            self.step_ns // self.nominal_batch
            + self.decode_ns
            + context_tokens * self.context_ns
        )

    def decode_works_ns(self, context_tokens: int, steps: int) -> int:
        """Return the work of ``steps`` decoded tokens, one after the other."""
        contexts = steps * context_tokens + steps * (steps - 1) // 2
        fixed = self.step_ns // self.nominal_batch + self.decode_ns
        return steps * fixed + contexts * self.context_ns

    def prefill_work_ns(self, start_tokens: int, tokens: int) -> int:
        """Return the work of computing ``tokens`` after the first ``start_tokens``."""
        pairs = attended_pairs(start_tokens, tokens)
        return tokens * self.prefill_ns + pairs * self.pair_ps // 1000

    def recompute_ns(self, tokens: int) -> int:
        """Return the time to compute ``tokens`` from nothing, in one step."""
        return self.step_ns + self.prefill_work_ns(0, tokens)

    def transfer_time_ns(self, blocks: int) -> int:
        """Return the time of one packed transfer of ``blocks`` in one direction."""
        return self.transfer_ns + blocks * self.block_transfer_ns if blocks else 0

    def is_swap_cheaper(self, blocks: int, tokens: int) -> bool:
        """Say whether moving blocks out and in costs no more than computing them."""
        return 2 * self.transfer_time_ns(blocks) <= self.recompute_ns(tokens)


def attended_pairs(start_tokens: int, tokens: int) -> int:
    """Return the (query, key) pairs of a causal chunk after ``start_tokens``."""
    return tokens * start_tokens + tokens * (tokens + 1) // 2
