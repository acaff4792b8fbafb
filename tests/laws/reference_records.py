"""What the reference scheduler reads and writes: two records, no rules."""

import attrs
from attrs.validators import ge

from autellix.core.ranking import Placement
from autellix.core.records import CallSpec

NEVER = float("inf")


@attrs.frozen(kw_only=True)
class Limits:
    """What one engine has, and the settings of its rounds."""

    slots: int = attrs.field(validator=ge(1))
    token_budget: int = attrs.field(validator=ge(1))
    block_tokens: int = attrs.field(validator=ge(1))
    device_blocks: int = attrs.field(validator=ge(1))
    host_blocks: int = attrs.field(validator=ge(0))
    lookahead: int = attrs.field(validator=ge(1))
    hysteresis_levels: int = attrs.field(validator=ge(1))
    reserve_after_ns: int = attrs.field(validator=ge(0))
    round_steps: int = attrs.field(validator=ge(1))

    def __attrs_post_init__(self) -> None:
        if self.slots > self.token_budget:
            msg = f"{self.slots} slots exceed the token budget of {self.token_budget}"
            raise ValueError(msg)

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)


@attrs.define(eq=False, slots=False)
class Call:
    """A live call; ``state`` is waiting, running, paused or swapped."""

    spec: CallSpec
    age_ns: int  # inherited and own charge
    new: int  # tokens whose KV is to be computed
    left: int  # tokens it may still produce; none: it ends with the step it is in
    at: Placement = attrs.field(init=False)
    inner: tuple[int, int] = attrs.field(init=False)
    state: str = "waiting"
    computed: int = 0  # tokens with KV; it is on the host while swapped
    produced: int = 0
    is_recomputing: bool = False  # dropped, and no token produced since
    blocks: int = 0  # on the device; any: the call is resident
    is_reserved: bool = False
    is_promoted: bool = False
    skipped_since_ns: float = NEVER

    @property
    def is_decoder(self) -> bool:
        return self.new == 1 and self.computed > 0

    @property
    def is_whole(self) -> bool:
        return self.is_recomputing and self.blocks > 0

    def seen(self) -> tuple[str, int, int, int, int]:
        return self.state, self.at.level, self.computed, self.produced, self.blocks

    def rank(self) -> tuple[int, bool, bool, tuple[int, int]]:
        return self.at.level, not self.is_reserved, not self.blocks, self.inner
