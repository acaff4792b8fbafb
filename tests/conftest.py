"""Rules for every test: which event loop, and how hard Hypothesis tries.

Event loop: asyncio. A module or test marked ``both_loops`` is run on trio as well,
which keeps hidden asyncio out of code that is meant to be free of it. A module that
needs another loop, as the virtual-time one, overrides the ``anyio_backend`` fixture.

Hypothesis: ``ci`` is the default, draws the same examples in every run and has no
deadline; ``--hypothesis-profile=thorough`` draws new ones, and many more of them.

Ctrl-C: what a shell starts in the background ignores it, and so would the programs that
tests start and interrupt.
"""

import signal

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile(
    "thorough",
    max_examples=2_000,
    stateful_step_count=200,
    deadline=None,
    print_blob=True,
)
settings.load_profile("ci")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the event loop of asynchronous tests and fixtures."""
    return "asyncio"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``both_loops`` once on each loop."""
    marked = metafunc.definition.get_closest_marker("both_loops") is not None
    if marked and "anyio_backend" in metafunc.fixturenames:
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"], scope="session")
