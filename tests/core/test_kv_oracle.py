"""What is found and what is evicted, against a list that is searched the plain way.

The oracle knows no tree: it keeps the token ids of every full block together with all
before them, who holds it, and when it was last given back (rules K2, K3).
"""

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from autellix.core.call import Call, CallState
from tests.core.kv_engine import KVEngine
from tests.laws.prefixes import indexed_prefixes

Prefix = tuple[int, ...]
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)


@attrs.define
class Kept:
    """A full block of the oracle: how many hold it, and when the last gave it back."""

    holders: int
    given_back: int = 0


class Oracle:
    """The device tier, for calls that share blocks."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.total = blocks
        self.size = block_tokens
        self.kept: dict[Prefix, Kept] = {}
        self.private: dict[Call, int] = {}
        self.held: dict[Call, list[Prefix]] = {}
        self._clock = 0

    @property
    def free(self) -> int:
        return self.total - len(self.kept) - sum(self.private.values())

    def prefixes(self, tokens: list[int], length: int) -> list[Prefix]:
        return [tuple(tokens[:end]) for end in range(self.size, length + 1, self.size)]

    def found(self, tokens: list[int]) -> list[Prefix]:
        found: list[Prefix] = []
        for prefix in self.prefixes(tokens, len(tokens) - 1):
            if prefix not in self.kept:
                break
            found.append(prefix)
        return found

    def fits(self, tokens: list[int]) -> bool:
        found = self.found(tokens)
        idle = [p for p, kept in self.kept.items() if not kept.holders]
        rest = -(-len(tokens) // self.size) - len(found)
        return rest <= self.free + len(set(idle) - set(found))

    def start(self, call: Call, tokens: list[int]) -> None:
        found = self.found(tokens)
        for prefix in found:
            self.kept[prefix].holders += 1
        self.held[call] = found
        self.private[call] = 0
        self.grow(call, tokens)

    def grow(self, call: Call, tokens: list[int]) -> None:
        """Take what is missing, then let every full block be found."""
        rest = -(-len(tokens) // self.size) - len(self.held[call]) - self.private[call]
        while self.free < rest:
            self._evict()
        full = self.prefixes(tokens, len(tokens))
        for prefix in full[len(self.held[call]) :]:
            self.kept.setdefault(prefix, Kept(0)).holders += 1
        self.held[call] = full
        self.private[call] = -(-len(tokens) // self.size) - len(full)

    def give_back(self, call: Call) -> None:
        for prefix in reversed(self.held.pop(call)):
            kept = self.kept[prefix]
            kept.holders -= 1
            self._clock += 1
            kept.given_back = self._clock
        del self.private[call]

    def _evict(self) -> None:
        """Forget the oldest block that nobody holds and that has nothing below it."""
        above = {prefix[: -self.size] for prefix in self.kept}
        leaves = {
            kept.given_back: prefix
            for prefix, kept in self.kept.items()
            if not kept.holders and prefix not in above
        }
        del self.kept[leaves[min(leaves)]]


class PrefixCacheMachine(RuleBasedStateMachine):
    """Calls that start, go on, end and are dropped, on the engine and in the oracle."""

    calls: Bundle[Call] = Bundle("calls")

    @initialize(blocks=st.integers(3, 12), block_tokens=st.integers(1, 3))
    def start(self, blocks: int, block_tokens: int) -> None:
        self.engine = KVEngine(device=blocks, block_tokens=block_tokens)
        self.oracle = Oracle(blocks, block_tokens)

    @rule(target=calls, tokens=TOKENS)
    def submit(self, tokens: list[int]) -> Call:
        return self.engine.call(tokens)

    @rule(call=calls, said=TOKENS)
    def go_on(self, call: Call, said: list[int]) -> None:
        """Compute a call's tokens, where there is room; then it has more."""
        is_running = call.state is CallState.RUNNING
        if is_running:
            rest = self.engine.blocks.blocks_for(len(call.tokens))
            rest -= len(call.lease.blocks)
            if rest > self.engine.blocks.device.available:
                return
            self.oracle.grow(call, call.tokens)
        else:
            found = self.engine.blocks.find(call)
            wanted = self.oracle.found(call.tokens)
            assert found.tokens == len(wanted) * self.oracle.size
            fits = self.oracle.fits(call.tokens)
            assert fits == (self.engine.lacking(call, found) <= 0)
            if not fits:
                return
            self.oracle.start(call, call.tokens)
        self.engine.run(call, said=said)

    @rule(call=calls)
    def drop(self, call: Call) -> None:
        if call.state is CallState.RUNNING:
            self.oracle.give_back(call)
            self.engine.drop(call)

    @rule(call=consumes(calls))
    def end(self, call: Call) -> None:
        if call.state is CallState.RUNNING:
            self.oracle.give_back(call)
        self.engine.end(call)

    @invariant()
    def agree(self) -> None:
        kept = {p: k.holders for p, k in self.oracle.kept.items()}
        index = indexed_prefixes(self.engine.blocks)
        assert kept == {
            tokens: node.device.references
            for tokens, node in index.items()
            if node.device is not None
        }
        assert self.engine.blocks.device.free == self.oracle.free


def test_blocks_are_found_and_evicted_as_the_oracle_says() -> None:
    """The longest prefix is found; the least recently used leaf goes first."""
    run_state_machine_as_test(PrefixCacheMachine, settings=settings(max_examples=100))
