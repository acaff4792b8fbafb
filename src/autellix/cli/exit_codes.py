"""What an exit code of the command line means."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; stated in ``autellix --help``."""

    OK = 0
    FAILED = 1
    """At least one program failed."""
    BAD_INPUT = 2
    """Wrong usage, a configuration or an agent file that cannot be used."""
    MISSING = 3
    """An optional dependency or a device is missing; the message names it."""
    INTERRUPTED = 130
    """Ctrl-C; what had been done by then has been printed."""
    UNREAD = 141
    """Whoever read what is printed has gone, as in ``autellix … | head``."""
