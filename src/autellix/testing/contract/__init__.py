"""What every engine promises, as tests that a third party's backend can run.

Subclass ``EngineContract`` in a test module, say how an engine is made, and pytest
(with anyio's plugin) does the rest::

    class TestMyEngine(EngineContract):
        def make_engine(self) -> Engine:
            return MyEngine(...)

The promises are those of ``autellix.backends.protocol`` and of rules A4, A7, A9, K4, S8
and S9.
"""

import pytest

from autellix.testing.contract.answers import AnswerContract
from autellix.testing.contract.claims import ClaimContract
from autellix.testing.contract.endings import EndingContract
from autellix.testing.contract.reports import ReportContract

__all__ = ["EngineContract"]


@pytest.mark.anyio
class EngineContract(AnswerContract, ReportContract, EndingContract, ClaimContract):
    """The suite; a subclass whose name begins with ``Test`` is run.

    The engine must take calls of at least 128 tokens, at least two at a time, and be
    deterministic: greedy tokens depend on the prompt, not on who shares the batch.
    """
