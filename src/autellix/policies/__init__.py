"""Policies: frozen specs that order the calls on an engine."""

from autellix.policies.atlas import ATLAS
from autellix.policies.fcfs import FCFS
from autellix.policies.gittins import Gittins
from autellix.policies.ladder import Ladder
from autellix.policies.mlfq import MLFQ
from autellix.policies.plas import PLAS
from autellix.policies.program_fcfs import ProgramFCFS
from autellix.policies.single_level import SingleLevel
from autellix.policies.spec import from_spec, to_spec
from autellix.policies.srpt import SRPT
from autellix.policies.table import AgeRow, RemainingTable, Table

__all__ = [
    "ATLAS",
    "FCFS",
    "MLFQ",
    "PLAS",
    "SRPT",
    "AgeRow",
    "Gittins",
    "Ladder",
    "ProgramFCFS",
    "RemainingTable",
    "SingleLevel",
    "Table",
    "from_spec",
    "to_spec",
]
