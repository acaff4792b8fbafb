"""Measuring the cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autellix.backends.torch.calibration import measure

if TYPE_CHECKING:
    from autellix.backends.torch.model import LoadedModel


def test_the_measured_costs_are_of_this_model_and_leave_it_alone(
    llama: LoadedModel,
) -> None:
    """A step takes time, a prefilled token takes less; nothing stays behind."""
    embeddings = llama.network.get_input_embeddings()
    hooks = len(embeddings._forward_pre_hooks)
    costs = measure(llama.network, llama.kv_shape(16), slots=5)
    assert costs.nominal_batch == 5
    assert costs.step_ns > costs.prefill_ns > 0
    assert costs.single_step_ns() > 100_000
    assert costs.transfer_time_ns(32) > 0
    assert costs.is_swap_cheaper(32, 512)
    assert len(embeddings._forward_pre_hooks) == hooks
