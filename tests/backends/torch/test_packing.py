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


class Attention(nn.Module):
    """Three layers that read the same input, as in every supported architecture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.q_proj = nn.Linear(64, 96, dtype=torch.bfloat16)
        self.k_proj = nn.Linear(64, 32, bias=False, dtype=torch.bfloat16)
        self.v_proj = nn.Linear(64, 32, dtype=torch.bfloat16)
        self.o_proj = nn.Linear(160, 64, dtype=torch.bfloat16)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        joint = torch.cat([layer(inputs) for layer in projections], dim=-1)
        output: torch.Tensor = self.o_proj(joint)
        return output


@needs_packing
def test_layers_with_the_same_input_become_one_product() -> None:
    """Each gets its own part, also where it is asked for another input in between."""
    plain, packed = Attention(), Attention()
    assert pack_linears(packed)
    assert isinstance(packed.q_proj, PackedLinear)
    one, two = (torch.randn(1, 5, 64).to(torch.bfloat16) for _ in range(2))
    with torch.inference_mode():
        for inputs in (one, two, one):
            torch.testing.assert_close(
                packed(inputs), plain(inputs), rtol=0.02, atol=0.02
            )
        packed.q_proj(one)
        torch.testing.assert_close(
            packed.v_proj(two), plain.v_proj(two), rtol=0.02, atol=0.02
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
