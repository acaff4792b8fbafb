"""Short calls in rows: the same attention, and the extents stay the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

from autellix.backends.torch import rows
from autellix.backends.torch.attention import Segment
from autellix.backends.torch.extents import Extent, KVShape
from autellix.backends.torch.rows import RowBatch, Rows
from autellix.policies import FCFS
from tests.backends.torch.test_extents import make_call
from tests.backends.torch.tiny import Driver, load_tiny, prompt, reference

if TYPE_CHECKING:
    import pytest

LAYERS, HEADS, KV_HEADS, HEAD_DIM = 2, 4, 2, 8
SHAPE = KVShape(
    layers=LAYERS,
    kv_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    block_tokens=4,
    dtype=torch.float32,
)


def decoding(call_id: int, computed: int, tokens: int = 1) -> Segment:
    """Return a call that has ``computed`` tokens of random KV; NaN lies behind them."""
    call = make_call(call_id, [])
    call.computed = computed
    kv = torch.full((2, LAYERS, KV_HEADS, computed + 8, HEAD_DIM), torch.nan)
    kv[..., :computed, :] = torch.randn(2, LAYERS, KV_HEADS, computed, HEAD_DIM)
    return Segment(call, Extent(kv, SHAPE.block_tokens), tokens)


def states(heads: int, tokens: int) -> torch.Tensor:
    """Return random queries, keys or values."""
    return torch.randn(1, heads, tokens, HEAD_DIM)


def step(batch: RowBatch) -> None:
    """Attend in every layer, store, and compare with one SDPA call for each call."""
    count = len(batch.segments)
    computed = []
    for layer in range(LAYERS):
        query = states(HEADS, count)
        key, value = states(KV_HEADS, count), states(KV_HEADS, count)
        computed.append((query, batch.attend(layer, query, key, value, 0.3)))
    batch.store()
    for layer, (query, output) in enumerate(computed):
        for row, segment in enumerate(batch.segments):
            seen = segment.extent.kv[:, layer, None, :, : segment.position + 1]
            alone = scaled_dot_product_attention(
                query[:, :, row : row + 1], seen[0], seen[1], scale=0.3, enable_gqa=True
            )
            torch.testing.assert_close(output[:, row], alone[:, :, 0])


def advance(segments: Sequence[Segment]) -> None:
    """Count the token of a step as computed."""
    for segment in segments:
        segment.call.computed += 1


def test_calls_of_any_length_attend_as_they_do_alone() -> None:
    """And their extents get the new keys and values, step after step."""
    torch.manual_seed(1)
    seats, segments = Rows(SHAPE), [decoding(n, 3 * n) for n in range(5)]
    for _ in range(3):
        batch, others = seats.seat(segments)
        assert not others
        step(batch)
        advance(segments)


def test_calls_come_and_go_and_keep_their_rows_where_they_can() -> None:
    """A row that is kept is not read from the extent again."""
    torch.manual_seed(2)
    seats, first = Rows(SHAPE), [decoding(n, 9) for n in range(3)]
    batch, _ = seats.seat(first)
    step(batch)
    advance(first)
    kept = batch.segments[1]
    second = [decoding(7, 2), kept, decoding(8, 30)]
    batch, _ = seats.seat(second)
    assert batch.segments[1] is kept
    step(batch)
    advance(second)
    kept.extent.kv.fill_(torch.nan)
    batch, _ = seats.seat(second)
    query, key, value = states(HEADS, 3), states(KV_HEADS, 3), states(KV_HEADS, 3)
    assert batch.attend(0, query, key, value, 0.3).isfinite().all()


def test_what_a_row_held_before_is_not_seen() -> None:
    """Not even a NaN, which no mask would keep out."""
    seats, long = Rows(SHAPE), decoding(0, 40)
    broken, sound = decoding(1, 39), decoding(2, 5)
    broken.extent.kv.fill_(torch.nan)
    seats.seat([long, broken])
    batch, _ = seats.seat([long, sound])
    step(batch)


def test_a_call_that_computes_several_tokens_or_is_long_gets_no_row() -> None:
    """Those attend by themselves."""
    chunk, long = decoding(1, 8, tokens=2), decoding(2, rows.ROW_TOKENS)
    short = decoding(3, rows.ROW_TOKENS - 1)
    batch, others = Rows(SHAPE).seat([chunk, short, long])
    assert batch.segments == [short]
    assert others == [chunk, long]


def test_a_call_that_outgrows_its_row_goes_on_as_before(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step with short and long calls and chunks of prompts."""
    monkeypatch.setattr(rows, "ROW_TOKENS", 20)
    folder = folder_of("llama")
    prompts = {1: prompt(1, 14), 2: prompt(2, 3), 3: prompt(3, 30)}
    driver = Driver(load_tiny(folder), FCFS(), token_budget=9)
    for call, ids in prompts.items():
        driver.submit(call, ids, 12)
    driver.run()
    for call, ids in prompts.items():
        assert driver.outputs[call] == reference(folder, ids, 12)
    driver.close()
