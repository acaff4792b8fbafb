"""The ways in which loading with ``transformers`` touches the whole process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import transformers

# While it builds a model, transformers changes torch's default dtype, its initialisers
# and its own progress bars for the whole process: one at a time.
_LOADING: Final = threading.Lock()


@contextmanager
def loading_alone() -> Iterator[None]:
    """Keep other threads of ours from loading, and progress bars off the terminal.

    Yields:
        Nothing.
    """
    bars: Any = transformers.utils.logging
    with _LOADING:
        was_shown = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            yield
        finally:
            if was_shown:
                bars.enable_progress_bar()
