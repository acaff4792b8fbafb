"""The one place where the runtime reads time: the event loop's clock, nanoseconds."""

from __future__ import annotations

from typing import Final

import anyio

NS_PER_S: Final = 1_000_000_000


def now_ns() -> int:
    """Return the event loop's clock, real or virtual."""
    return round(anyio.current_time() * NS_PER_S)
