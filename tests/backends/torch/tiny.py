"""Tiny random models of every architecture, and a driver without an event loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from autellix.backends.protocol import Sampling
from autellix.backends.torch.model import LoadedModel, load
from autellix.backends.torch.runner import ModelRunner
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.plan import Plan, Sampled
from autellix.core.records import CallReport, CallSpec, Job
from autellix.core.step_scheduler import StepScheduler

if TYPE_CHECKING:
    from autellix.core.ranking import Policy

BLOCK_TOKENS = 4
VOCABULARY = 320
END, START = "<|end|>", "<|start|>"
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

COSTS = CostModel(
    step_ns=1_000_000,
    prefill_ns=100_000,
    decode_ns=10_000,
    transfer_ns=1_000,
    block_transfer_ns=1_000,
)
"""Made up, so that decisions do not depend on the machine; swapping is cheap."""

SHAPE: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # large: what comes out depends on what went in
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def tiny_config(architecture: str, **settings: object) -> transformers.PreTrainedConfig:
    """Return the configuration of a tiny model."""
    own = {"sliding_window": None} if architecture == "mistral" else {}
    return transformers.AutoConfig.for_model(
        architecture, **{**SHAPE, **own, **settings}
    )


def make_folder(folder: Path, architecture: str = "llama", **settings: object) -> Path:
    """Write a random model with a tokenizer."""
    torch.manual_seed(7)
    config = tiny_config(architecture, **settings)
    auto: Any = transformers.AutoModelForCausalLM
    network = auto.from_config(config, dtype=torch.float32)
    network.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_tokenizer() -> Any:
    """Return a byte-level tokenizer with two special tokens and a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["the quick brown fox jumps over a lazy dog"], trainer
    )
    wrapper: Any = transformers.PreTrainedTokenizerFast
    return wrapper(tokenizer_object=tokenizer, eos_token=END, chat_template=TEMPLATE)


def load_tiny(folder: Path) -> LoadedModel:
    """Load a folder in float32."""
    return load(folder, dtype=torch.float32, progress=lambda _doing, _share: None)


def prompt(seed: int, tokens: int) -> list[int]:
    """Return a random prompt."""
    draw = random.Random(seed)
    return [draw.randrange(10, VOCABULARY) for _ in range(tokens)]


@lru_cache(maxsize=8)
def _plain(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    )


def reference(folder: Path, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
    """Return what ``transformers`` itself generates, greedily."""
    ids = torch.tensor([list(prompt_ids)])
    made = _plain(folder).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
    )
    generated: list[int] = made[0, len(prompt_ids) :].tolist()
    return generated


class Driver:
    """A step scheduler and a runner, without an event loop.

    Freed blocks are overwritten with NaN in every step, after the copies.
    """

    def __init__(
        self,
        model: LoadedModel,
        policy: Policy,
        *,
        slots: int = 4,
        token_budget: int = 16,
        device_blocks: int = 256,
        host_blocks: int = 256,
        caches_prefixes: bool = True,
    ) -> None:
        self.blocks = KVBlocks(
            device_blocks=device_blocks,
            host_blocks=host_blocks,
            block_tokens=BLOCK_TOKENS,
            shares_blocks=False,
            caches_prefixes=caches_prefixes,
        )
        self.scheduler = StepScheduler(
            limits=StepLimits(slots=slots, token_budget=token_budget),
            blocks=self.blocks,
            policy=policy,
            ranking=policy.ranking(COSTS.single_step_ns()),
            costs=COSTS,
        )
        self.runner = ModelRunner(
            model.network, model.kv_shape(BLOCK_TOKENS), host_blocks=host_blocks
        )
        self._move = self.runner.extents.move
        self.runner.extents.move = self._move_and_poison  # type: ignore[method-assign]
        self.reports: dict[int, CallReport] = {}
        self.outputs: dict[int, list[int]] = {}
        self.plans: list[Plan] = []
        self._sampling: dict[int, Sampling] = {}
        self._now_ns = 0

    def _move_and_poison(self, plan: Plan) -> None:
        self._move(plan)
        self.runner.extents.poison(
            self.blocks.device.free_ids, self.blocks.host.free_ids
        )

    def submit(
        self,
        call_id: int,
        prompt_ids: Sequence[int],
        max_tokens: int,
        *,
        sampling: Sampling | None = None,
        inherited_ns: int = 0,
    ) -> None:
        """Submit a call of a program of its own."""
        spec = CallSpec(
            call_id=call_id,
            program_id=call_id,
            job=Job(program_class="test", program_arrival=call_id),
            inherited_ns=inherited_ns,
            prompt=prompt_ids,
            max_tokens=max_tokens,
        )
        self.scheduler.submit(spec, self._now_ns)
        self.outputs[call_id] = []
        self._sampling[call_id] = sampling or Sampling()

    def step(self) -> Plan:
        """Take one step; the forward pass takes a step of the cost model."""
        plan = self.scheduler.plan(self._now_ns)
        self.plans.append(plan)
        step = self.runner.step(plan, self._sampling)
        for call_id, sample in step.samples.items():
            self.outputs[call_id].append(sample.token)
        self._now_ns += COSTS.step_ns
        self.scheduler.commit(
            plan,
            {i: Sampled(sample.token) for i, sample in step.samples.items()},
            forward_at_ns=plan.at_ns,
            ended_ns=self._now_ns,
        )
        for fact in self.scheduler.take_facts():
            if isinstance(fact, Ended):
                self.reports[fact.call_id] = fact.report
                self.scheduler.forget(fact.program_id, self._now_ns)
        return plan

    def run(self, before_step: Callable[[int], None] | None = None) -> None:
        """Step until nothing is live."""
        steps = 0
        while self.scheduler.has_work:
            if before_step is not None:
                before_step(steps)
            self.step()
            steps += 1
            assert steps < 2_000, "calls do not end"

    def close(self) -> None:
        """Leave the model as it was."""
        self.runner.close()
