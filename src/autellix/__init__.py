"""Serve many LLM agents on local engines, scheduled as whole programs."""

from autellix.errors import (
    AutellixError,
    BackendUnavailable,
    CallFailed,
    CallRejected,
    ConfigError,
    EngineError,
    EngineLost,
    ModelRefused,
    PolicyNotPortable,
    ProgramClosed,
    RuntimeClosed,
    UnknownModel,
)
from autellix.runtime import (
    AutellixRuntime,
    CallResult,
    Event,
    MapOutcome,
    Program,
    ResultReport,
    Statistics,
    current_program,
)

__all__ = [
    "AutellixError",
    "AutellixRuntime",
    "BackendUnavailable",
    "CallFailed",
    "CallRejected",
    "CallResult",
    "ConfigError",
    "EngineError",
    "EngineLost",
    "Event",
    "MapOutcome",
    "ModelRefused",
    "PolicyNotPortable",
    "Program",
    "ProgramClosed",
    "ResultReport",
    "RuntimeClosed",
    "Statistics",
    "UnknownModel",
    "current_program",
]
