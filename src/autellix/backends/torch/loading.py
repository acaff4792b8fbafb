"""What entering an engine does, in its thread: fetch, load, measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch

from autellix.backends.torch.calibration import measure
from autellix.backends.torch.model import load
from autellix.backends.torch.runner import ModelRunner
from autellix.backends.torch.weights import resolve

if TYPE_CHECKING:
    from autellix.backends.torch.folder_cache import Progress
    from autellix.backends.torch.options import TorchOptions
    from autellix.backends.torch.tokenizer import HuggingFaceTokenizer
    from autellix.core.cost_model import CostModel


@attrs.frozen(kw_only=True)
class Loaded:
    """What an engine holds while it is entered.

    Attributes:
        runner: Computes steps, in the worker's thread.
        tokenizer: Of the model.
        costs: Given or measured.
        max_context_tokens: Most tokens of prompt and output of one call.
        vocabulary_tokens: Ids the model can look up are below this.
        fingerprint: Of the model.
    """

    runner: ModelRunner
    tokenizer: HuggingFaceTokenizer
    costs: CostModel
    max_context_tokens: int
    vocabulary_tokens: int
    fingerprint: str


def load_engine(options: TorchOptions, progress: Progress) -> Loaded:
    """Load and measure the model of an engine; the first time that takes a minute."""
    folder = resolve(options.model, cache_dir=options.cache_dir, progress=progress)
    dtype = getattr(torch, options.dtype) if options.dtype else None
    model = load(folder, dtype=dtype, progress=progress)
    shape = model.kv_shape(options.block_tokens)
    costs = options.costs
    if costs is None:
        progress(f"measuring {folder.name}", None)
        costs = measure(model.network, shape, slots=options.slots)
    runner = ModelRunner(model.network, shape, host_blocks=options.host_blocks)
    progress(f"{options.engine_name} is ready", 1.0)
    limit = options.max_context_tokens or model.max_context_tokens
    return Loaded(
        runner=runner,
        tokenizer=model.tokenizer,
        costs=costs,
        max_context_tokens=min(limit, model.max_context_tokens),
        vocabulary_tokens=model.vocabulary_tokens,
        fingerprint=model.fingerprint,
    )
