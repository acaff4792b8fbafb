"""KV blocks with a memory behind them, driven by hand, one step at a time."""

from collections.abc import Sequence

from autellix.core.call import Call, CallState
from autellix.core.found import Found
from autellix.core.kv_blocks import KVBlocks
from autellix.core.kv_invariants import broken_in_blocks
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Lease
from autellix.core.records import CallSpec, Job
from tests.laws.memory import Memory

JOB = Job(program_class="test", program_arrival=0)


class KVEngine:
    """Blocks of two tokens, and calls that are moved between states by hand."""

    def __init__(
        self,
        *,
        device: int = 8,
        host: int = 0,
        shares: bool = True,
        caches: bool = True,
        block_tokens: int = 2,
    ) -> None:
        self.blocks = KVBlocks(
            device_blocks=device,
            host_blocks=host,
            block_tokens=block_tokens,
            shares_blocks=shares,
            caches_prefixes=caches,
        )
        self.memory = Memory(self.blocks)
        self.live: list[Call] = []
        self._started = 0

    def call(self, prompt: Sequence[int]) -> Call:
        """Return a waiting call."""
        self._started += 1
        spec = CallSpec(
            call_id=self._started,
            program_id=0,
            job=JOB,
            inherited_ns=0,
            prompt=prompt,
            max_tokens=100,
        )
        call = Call(
            spec=spec,
            tokens=list(prompt),
            lease=Lease(),
            submitted_ns=0,
            accounted_ns=0,
        )
        self.live.append(call)
        return call

    def run(self, *calls: Call, said: Sequence[int] = ()) -> Plan:
        """Compute in one step all that the calls' tokens say; then each says more.

        What a call says is computed when it next runs.
        """
        step = []
        for call in calls:
            self._start(call)
            step.append((call, len(call.tokens) - call.computed))
        copies = self.blocks.take_copies()
        plan = Plan(
            at_ns=0,
            calls=step,
            to_host=copies.to_host,
            to_device=copies.to_device,
            within_device=copies.within_device,
        )
        self._carry_out(plan)
        for call, tokens in step:
            call.computed += tokens
            call.tokens += said
            self.blocks.publish(call)
        self.check()
        return plan

    def idle(self) -> Plan:
        """Make the copies that are asked for; compute nothing."""
        return self.run()

    def ran(self, prompt: Sequence[int]) -> Call:
        """Return a call that has computed its prompt."""
        call = self.call(prompt)
        self.run(call)
        return call

    def end(self, call: Call) -> None:
        """End a call, whatever its state."""
        self.blocks.release(call)
        call.state = CallState.ENDED
        self.live.remove(call)
        self.check()

    def drop(self, call: Call) -> None:
        """Preempt a call; what is not found again is to be computed again."""
        self.blocks.drop(call)
        call.state, call.computed = CallState.WAITING, 0
        self.check()

    def swap_out(self, call: Call) -> None:
        """Preempt a call; its blocks go to the host pool."""
        assert self.blocks.host_blocks_needed(call) <= self.blocks.host.available
        self.blocks.swap_out(call)
        call.state = CallState.SWAPPED
        self.check()

    def remember(self, *prompts: Sequence[int]) -> None:
        """Let calls with these prompts run and end, one after the other."""
        for prompt in prompts:
            self.end(self.ran(prompt))
        self.idle()

    def found(self, tokens: Sequence[int]) -> int:
        """Return how many tokens a call that starts with these would find."""
        call = self.call([*tokens, -2])
        found = self.blocks.find(call)
        self.live.remove(call)
        return found.tokens

    def check(self) -> None:
        """Check the books and, where no copy is still to be made, the memory."""
        assert not list(broken_in_blocks(self.blocks, self.live))
        self.memory.check(self.live)

    def _start(self, call: Call) -> None:
        if call.state is CallState.RUNNING:
            assert self.blocks.grow(call.lease, len(call.tokens))
            return
        found = self.blocks.find(call)
        assert self.lacking(call, found) <= 0
        self.blocks.admit(call, found, len(call.tokens))
        call.state, call.computed = CallState.RUNNING, found.tokens

    def lacking(self, call: Call, found: Found | None = None) -> int:
        """Return how many blocks are missing for all tokens of a call."""
        found = found or self.blocks.find(call)
        return self.blocks.lacking(call, found, len(call.tokens))

    def _carry_out(self, plan: Plan) -> None:
        self.memory.receive(plan)
        self.memory.execute(plan)
        self.blocks.settle()
