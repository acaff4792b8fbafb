"""Test kit for users: virtual time, fakes, the backend contract."""

from autellix.testing.virtual_time import DeadlockError, VirtualTimeLoop, run_virtual

__all__ = ["DeadlockError", "VirtualTimeLoop", "run_virtual"]
