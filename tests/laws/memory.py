"""KV memory as plain lists: what a plan promises, done to the letter.

A cell of a block holds the tokens up to and including its own, as the KV of a token
does in effect. What is free holds poison, so that reading it shows.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from autellix.core.call import Call
from autellix.core.kv_blocks import KVBlocks
from autellix.core.plan import BlockCopy, Plan
from autellix.core.prefix_tree import Node

History = tuple[int, ...]
POISON: History = (-1,)


class Memory:
    """The blocks of one engine and of its host pool.

    Attributes:
        entered: Tokens that entered the model, by call id.
    """

    def __init__(self, blocks: KVBlocks) -> None:
        self.blocks = blocks
        self.device = [self._poisoned() for _ in range(blocks.device.total)]
        self.host = [self._poisoned() for _ in range(blocks.host.total)]
        self.entered: Counter[int] = Counter()
        self._freed: tuple[Sequence[int], Sequence[int]] = ((), ())

    def receive(self, plan: Plan) -> None:
        """Note which blocks nobody owns as the plan is made.

        What is freed while the step runs may still be copied by the next plan.
        """
        self._freed = (
            tuple(self.blocks.device.free_ids),
            tuple(self.blocks.host.free_ids),
        )
        targets = [to for _, to in (*plan.to_device, *plan.within_device)]
        assert len(set(targets)) == len(targets), "a device block is written twice"
        targets = [target for _, target in plan.to_host]
        assert len(set(targets)) == len(targets), "a host block is written twice"

    def execute(self, plan: Plan) -> None:
        """Read all sources, poison what is free, write all targets, run the model."""
        to_host = self._read(self.device, plan.to_host)
        to_device = self._read(self.host, plan.to_device)
        within_device = self._read(self.device, plan.within_device)
        for pool, freed in zip((self.device, self.host), self._freed, strict=True):
            for block in freed:
                pool[block] = self._poisoned()
        self._write(self.host, to_host)
        self._write(self.device, [*to_device, *within_device])
        for call, tokens in plan.calls:
            self.compute(call, call.tokens, call.computed, call.computed + tokens)
        self._check_leases((c, c.computed + n) for c, n in plan.calls)

    def compute(self, call: Call, tokens: Sequence[int], start: int, end: int) -> None:
        """Run the model on ``tokens[start:end]`` of a call."""
        size = self.blocks.block_tokens
        for at in range(start, end):
            block = self.device[call.lease.blocks[at // size]]
            block[at % size] = tuple(tokens[: at + 1])
        self.entered[call.call_id] += end - start

    def check(self, calls: Iterable[Call]) -> None:
        """Every resident call has its KV, and every block of the index its own.

        Not while a plan is in flight that has not been executed.
        """
        self._check_leases((c, c.computed) for c in calls if c.is_resident)
        pending = {target for _, target in self.blocks.host.writes}
        for node in self.blocks.tree.nodes():
            history = _history(node)
            if node.device is not None:
                found = self.device[node.device.block]
                assert found == history, f"device index: {found} is not {history}"
            if node.host is not None and node.host.block not in pending:
                found = self.host[node.host.block]
                assert found == history, f"host index: {found} is not {history}"

    def _check_leases(self, computed: Iterable[tuple[Call, int]]) -> None:
        for call, tokens in computed:
            cells = [cell for b in call.lease.blocks for cell in self.device[b]]
            wanted = [tuple(call.tokens[: at + 1]) for at in range(tokens)]
            assert cells[:tokens] == wanted, f"call {call.call_id} lost its KV"

    def _poisoned(self) -> list[History]:
        return [POISON] * self.blocks.block_tokens

    @staticmethod
    def _read(
        pool: Sequence[Sequence[History]], copies: Sequence[BlockCopy]
    ) -> list[tuple[int, list[History]]]:
        return [(target, list(pool[source])) for source, target in copies]

    @staticmethod
    def _write(
        pool: list[list[History]], written: Iterable[tuple[int, list[History]]]
    ) -> None:
        for target, cells in written:
            pool[target] = cells


def _history(node: Node) -> list[History]:
    """Return what the cells of a node's block are to hold."""
    tokens: History = ()
    above: Node | None = node
    while above is not None:
        tokens = above.key + tokens
        above = above.parent
    start = len(tokens) - len(node.key)
    return [tokens[: at + 1] for at in range(start, len(tokens))]
