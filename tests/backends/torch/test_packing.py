"""Packed weights: the same numbers, faster."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autellix.backends.torch import packing
from autellix.backends.torch.packing import PackedLinear, can_pack, pack_linears

needs_packing = pytest.mark.skipif(
    not can_pack(nn.Linear(64, 32, dtype=torch.bfloat16)),
    reason="this CPU or this torch cannot pack weights",
)


def network() -> nn.Sequential:
    """Return layers with and without bias."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(64, 96, dtype=torch.bfloat16),
        nn.SiLU(),
        nn.Sequential(nn.Linear(96, 32, bias=False, dtype=torch.bfloat16)),
    )


@needs_packing
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_packed_layers_compute_what_the_plain_ones_do(tokens: int) -> None:
    """In bfloat16, as closely as it is."""
    plain, packed = network(), network()
    assert pack_linears(packed)
    assert sum(isinstance(m, PackedLinear) for m in packed.modules()) == 2
    inputs = torch.randn(1, tokens, 64).to(torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), plain(inputs), rtol=0.02, atol=0.02)


def test_float32_stays_as_it_is() -> None:
    """Packing gains nothing there."""
    model = network().float()
    assert not pack_linears(model)
    assert not any(isinstance(m, PackedLinear) for m in model.modules())


def test_a_torch_without_the_operators_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are not public and may go."""
    monkeypatch.setattr(packing, "_REORDER", "no_such_operator")
    assert not pack_linears(network())


def test_a_torch_whose_operators_have_changed_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found out by trying, before any layer is replaced."""
    monkeypatch.setattr(packing, "_LINEAR", "_reorder_linear_weight")
    assert not pack_linears(network())
