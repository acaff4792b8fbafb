"""Every test of the runtime runs in virtual time, on asyncio and on trio.

asyncio is the supported loop; trio finds asyncio that crept in.
"""

from typing import Any

import pytest
from trio.testing import MockClock

from autellix.testing import VirtualTimeLoop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Name the event loop, with a clock that jumps when all wait."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    return "trio", {"clock": MockClock(autojump_threshold=0)}
